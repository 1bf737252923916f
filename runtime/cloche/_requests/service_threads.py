"""Runs services that have a deadline: on daemon threads, or on an event loop of the process if they are ``async def``.

Python cannot stop a thread, and a coroutine can ignore its cancellation. So a caller that times out abandons its future, and the
function counts as abandoned until it has really ended. The number of abandoned functions is limited for each node
(`AbandonedCalls`) and for the process, so that no node can keep others from calling services.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cloche import _forks
from cloche._requests.node_lock import hold

if TYPE_CHECKING:  # slow to import, and only needed by a node that waits for a service
    import asyncio
    from concurrent.futures import Future
    from queue import SimpleQueue

__all__ = [
    "ASYNC_PORTAL",
    "MAX_ABANDONED",
    "AbandonedCalls",
    "Busy",
    "Outcome",
    "ServiceThreads",
    "contained",
    "threads",
]

MAX_ABANDONED: Final = 16
"""Abandoned functions of one node at which its calls are refused."""
_FULL: Final = 256
"""Abandoned functions of all nodes at which only calls of nodes without any are accepted."""
_MOST: Final = 1024
"""Abandoned functions of all nodes at which all calls are refused."""
_IDLE_S: Final = 2.0
"""Seconds after which an idle thread ends."""

ASYNC_PORTAL: ContextVar[Any] = ContextVar("cloche_portal", default=None)
"""The portal to the event loop that awaits the node's current call, an object with `start_task_soon`; None: no loop does."""


class Busy(Exception):
    """The function was not started: too many abandoned ones still run, or the system refuses another thread."""


class AbandonedCalls:
    """Counts the abandoned functions of one node.

    Attributes:
        count: abandoned functions that have not ended yet.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Outcome(NamedTuple):
    """The result of a coroutine, or a KeyboardInterrupt or SystemExit, which would end the event loop if raised there."""

    value: Any
    error: BaseException | None = None


class _Job:
    """A function that was submitted and has not ended yet.

    Args:
        function: called without arguments.

    Attributes:
        future: the future that the caller waits for.
        abandoned: count of the caller's node; None until the function is abandoned.
        ended: whether the function has really ended.
    """

    __slots__ = ("abandoned", "ended", "function", "future")

    def __init__(self, function: Callable[[], Any]) -> None:
        from concurrent.futures import Future

        self.function = function
        self.future: Future[Any] = Future()
        self.abandoned: AbandonedCalls | None = None
        self.ended = False


async def contained(function: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome:
    """Await a service on an event loop that must survive SystemExit and KeyboardInterrupt, which are returned instead of raised."""
    try:
        return Outcome(await function())
    except (KeyboardInterrupt, SystemExit) as error:
        return Outcome(None, error)


class ServiceThreads:
    """The threads and the event loop on which services run. Thread-safe. One for the process: `threads`."""

    def __init__(self) -> None:
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Start without any thread: in a new process, and in the child of a fork, where the parent's threads do not exist."""
        self._lock = threading.RLock()
        self._idle: list[SimpleQueue[_Job]] = []
        self._jobs: dict[Future[Any], _Job] = {}
        self._abandoned = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, abandoned: AbandonedCalls, function: Callable[[], Any]) -> Future[Any]:
        """Run a function on a thread, in a copy of the caller's context.

        Args:
            abandoned: count of the caller's node.
            function: called without arguments.

        Raises:
            Busy: the function was not started.
        """
        self._check(abandoned)
        job = _Job(partial(copy_context().run, function))
        try:
            hold(self._lock, self._hand_out, job)
        except BaseException:  # the caller gets no future: the function must not start any more
            job.future.cancel()
            raise
        return job.future

    def submit_async(self, abandoned: AbandonedCalls, function: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """Run a coroutine on the process's own event loop, in a copy of the caller's context. The first call starts the loop.

        Args:
            abandoned: count of the caller's node.
            function: makes the coroutine.

        Returns:
            a future of an `Outcome`; cancelling the future cancels the coroutine.

        Raises:
            Busy: the coroutine was not started.
        """
        self._check(abandoned)
        job = _Job(partial(contained, function))
        try:
            loop = hold(self._lock, self._own_loop)
            context = copy_context()
            if sniffio := sys.modules.get("sniffio"):  # the copied context of a caller inside trio names trio
                context.run(sniffio.current_async_library_cvar.set, None)
            self._jobs[job.future] = job
            loop.call_soon_threadsafe(self._begin, loop, job, context=context)
        except BaseException:
            job.future.cancel()
            raise
        return job.future

    def abandon(self, abandoned: AbandonedCalls, future: Future[Any]) -> None:
        """Stop waiting for a function: cancel its future, and count the function as abandoned until it has ended.

        Args:
            abandoned: count of the caller's node.
            future: the future that `submit` or `submit_async` has returned.
        """
        job = self._jobs.get(future)
        if job is not None:
            hold(self._lock, self._count, job, abandoned)
        future.cancel()

    def _hand_out(self, job: _Job) -> None:
        """Give a job to an idle thread, or to a new one. Holds the lock."""
        self._jobs[job.future] = job
        queue = self._idle[-1] if self._idle else self._start()
        queue.put(job)
        if self._idle and self._idle[-1] is queue:
            self._idle.pop()

    def _count(self, job: _Job, abandoned: AbandonedCalls) -> None:
        """Count a job as abandoned unless it has ended. Holds the lock."""
        if not job.ended and job.abandoned is None:
            job.abandoned = abandoned
            abandoned.count += 1
            self._abandoned += 1

    def _check(self, abandoned: AbandonedCalls) -> None:
        if abandoned.count < MAX_ABANDONED and self._abandoned < (_MOST if not abandoned.count else _FULL):
            return
        mine = abandoned.count or self._abandoned
        raise Busy(f"{mine} earlier calls of services have not ended yet")

    def _ended(self, job: _Job) -> None:
        """Stop counting a job. Must precede setting its future: a caller that gets the result may call again at once."""
        with self._lock:
            job.ended = True
            self._jobs.pop(job.future, None)
            if job.abandoned is not None:
                job.abandoned.count -= 1
                self._abandoned -= 1
                job.abandoned = None

    def _start(self) -> SimpleQueue[_Job]:
        from queue import SimpleQueue

        queue: SimpleQueue[_Job] = SimpleQueue()
        self._start_thread("cloche-service", self._work, queue)
        return queue

    def _start_thread(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        try:
            threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
        except RuntimeError as error:
            raise Busy(str(error)) from None

    def _work(self, queue: SimpleQueue[_Job]) -> None:
        from queue import Empty

        while True:
            try:
                job = queue.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if not queue.empty():
                        continue
                    if queue in self._idle:
                        self._idle.remove(queue)
                    return
            with self._lock:
                # still listed as idle if the submitter was interrupted between handing out the job and removing this thread
                if queue in self._idle:
                    self._idle.remove(queue)
            if job.future.set_running_or_notify_cancel():
                try:
                    result, error = job.function(), None
                except BaseException as raised:  # even a KeyboardInterrupt is raised in the caller, by the future
                    result, error = None, raised
                self._ended(job)
                self._free(queue)
                _settle(job.future, result, error)
                del result, error
            else:
                self._ended(job)
                self._free(queue)
            del job

    def _free(self, queue: SimpleQueue[_Job]) -> None:
        """List a thread as idle. Must precede setting the future: a caller that calls again at once can reuse the thread."""
        with self._lock:
            self._idle.append(queue)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """The process's event loop, started at first use. Holds the lock."""
        import asyncio

        if self._loop is None:
            loop = asyncio.new_event_loop()
            try:
                self._start_thread("cloche-services", _run_for_ever, loop)
                self._loop = loop
            except BaseException:
                if self._loop is None and not loop.is_running():
                    loop.close()
                raise
        return self._loop

    def _begin(self, loop: asyncio.AbstractEventLoop, job: _Job) -> None:
        """Start a job's coroutine. Runs on the loop's thread, in the caller's context."""
        if job.future.cancelled():
            self._ended(job)
            return
        task = loop.create_task(job.function())

        def finished(task: asyncio.Task[Outcome]) -> None:
            self._ended(job)
            if task.cancelled():
                job.future.cancel()
            elif (error := task.exception()) is not None:
                _settle(job.future, None, error)
            else:
                _settle(job.future, task.result(), None)

        def cancel(future: Future[Any]) -> None:
            if future.cancelled():
                loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(finished)
        job.future.add_done_callback(cancel)


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    from concurrent.futures import InvalidStateError

    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:  # the job was abandoned, which cancels its future
        pass


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop even if a service stops it, or starts a task that raises SystemExit."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException:
            continue


threads: Final = ServiceThreads()
"""The service threads of this process."""
