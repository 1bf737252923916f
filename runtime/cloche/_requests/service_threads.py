"""Where a service runs that must not hold up its node: daemon threads, and an event loop for those that are ``async def``.

Python cannot stop a thread, and a coroutine may ignore that it is cancelled. A caller that times out abandons its future; the
function counts as abandoned until it has really ended. Each node has a share of these, so that none can use up another's.
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

__all__ = ["ASYNC_PORTAL", "MAX_ABANDONED", "Busy", "Outcome", "ServiceThreads", "Share", "contained", "threads"]

MAX_ABANDONED: Final = 16
"""Abandoned functions of one node, after which it may start no more."""
_FULL: Final = 256
"""Abandoned functions of all nodes, after which only a node that has none may start another one."""
_MOST: Final = 1024
"""Abandoned functions of all nodes, after which nothing is started."""
_IDLE_S: Final = 2.0
"""An idle thread ends after that."""

ASYNC_PORTAL: ContextVar[Any] = ContextVar("cloche_portal", default=None)
"""An `anyio.from_thread.BlockingPortal` of the event loop that awaits the node's call, if one does."""


class Busy(Exception):
    """Too many abandoned functions still run, or no thread can be started."""


class Share:
    """Abandoned functions of one node that have not ended yet."""

    __slots__ = ("abandoned",)

    def __init__(self) -> None:
        self.abandoned = 0


class Outcome(NamedTuple):
    """A result, or an exception that must not pass through an event loop, since it would end the loop."""

    value: Any
    error: BaseException | None = None


class _Job:
    """A function under way.

    Attributes:
        future: what its caller waits for.
        share: its node's; None until it is abandoned.
        ended: whether it has really ended.
    """

    __slots__ = ("ended", "function", "future", "share")

    def __init__(self, function: Callable[[], Any]) -> None:
        from concurrent.futures import Future

        self.function = function
        self.future: Future[Any] = Future()
        self.share: Share | None = None
        self.ended = False


async def contained(function: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome:
    """Await a service on a loop that must outlive it: SystemExit and KeyboardInterrupt would pass through the loop's own code."""
    try:
        return Outcome(await function())
    except (KeyboardInterrupt, SystemExit) as error:
        return Outcome(None, error)


class ServiceThreads:
    """Thread-safe. One for the process: `threads`."""

    def __init__(self) -> None:
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """The state without a thread: at the start, and in the child of a fork, which has none of its parent's."""
        self._lock = threading.RLock()
        self._idle: list[SimpleQueue[_Job]] = []
        self._jobs: dict[Future[Any], _Job] = {}
        self._abandoned = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, share: Share, function: Callable[[], Any]) -> Future[Any]:
        """Run it on a thread, in a copy of the caller's context.

        Raises:
            Busy: it is not run.
        """
        self._check(share)
        job = _Job(partial(copy_context().run, function))
        try:
            hold(self._lock, self._hand_out, job)
        except BaseException:  # nobody will ever wait for it
            job.future.cancel()
            raise
        return job.future

    def submit_async(self, share: Share, function: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """Run it on the process's own event loop, whose thread starts with the first one. Cancelling the future cancels it.

        Raises:
            Busy: it is not run.
        """
        self._check(share)
        job = _Job(partial(contained, function))
        try:
            loop = hold(self._lock, self._own_loop)
            context = copy_context()
            if sniffio := sys.modules.get("sniffio"):  # a caller inside trio has said so in its context
                context.run(sniffio.current_async_library_cvar.set, None)
            self._jobs[job.future] = job
            loop.call_soon_threadsafe(self._begin, loop, job, context=context)
        except BaseException:
            job.future.cancel()
            raise
        return job.future

    def abandon(self, share: Share, future: Future[Any]) -> None:
        """Wait for it no longer: cancel it, and count it until it has ended."""
        job = self._jobs.get(future)
        if job is not None:
            hold(self._lock, self._count, job, share)
        future.cancel()

    def _hand_out(self, job: _Job) -> None:
        """Under the lock."""
        self._jobs[job.future] = job
        queue = self._idle[-1] if self._idle else self._start()
        queue.put(job)
        if self._idle and self._idle[-1] is queue:
            self._idle.pop()

    def _count(self, job: _Job, share: Share) -> None:
        """Under the lock."""
        if not job.ended and job.share is None:
            job.share = share
            share.abandoned += 1
            self._abandoned += 1

    def _check(self, share: Share) -> None:
        if share.abandoned < MAX_ABANDONED and self._abandoned < (_MOST if not share.abandoned else _FULL):
            return
        mine = share.abandoned or self._abandoned
        raise Busy(f"{mine} earlier calls of services have not ended yet")

    def _ended(self, job: _Job) -> None:
        """Before the outcome is known: a caller that has it may come back at once."""
        with self._lock:
            job.ended = True
            self._jobs.pop(job.future, None)
            if job.share is not None:
                job.share.abandoned -= 1
                self._abandoned -= 1
                job.share = None

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
                if (
                    queue in self._idle
                ):  # who submitted the job was interrupted before it took this thread from the list
                    self._idle.remove(queue)
            if job.future.set_running_or_notify_cancel():
                try:
                    result, error = job.function(), None
                except BaseException as raised:  # its caller raises it, a KeyboardInterrupt too
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
        """Before the outcome is known: a caller that has it may come back at once, and finds this thread."""
        with self._lock:
            self._idle.append(queue)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """Under the lock."""
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
        """On the loop's thread, and in the caller's context."""
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
    except InvalidStateError:  # it has been abandoned, and cancelled
        pass


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop whatever the services do to it: stop it, or start a task that raises SystemExit."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException:
            continue


threads: Final = ServiceThreads()
