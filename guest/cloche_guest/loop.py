"""`Loop`: the guest's asyncio event loop, without selector, sockets and threads.

While the loop waits, nothing can happen from outside. So to wait is to sleep until the next timer, and a wait without a timer is a
deadlock, which is raised as RuntimeError at the node's ``await``. Executors run their functions inline. All else is
`asyncio.BaseEventLoop`.

Interruptions: an `Interrupted` ends the call only if it reaches the task that the call awaits. If it ends another task, or a plain
callback, the loop raises it in the awaited task instead (`_Unheard`, `_raise_at_await`).
"""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from asyncio import base_events
from asyncio.events import _get_running_loop, _set_running_loop
from asyncio.tasks import _enter_task, _leave_task
from contextlib import suppress
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cloche_guest import Interrupted
from cloche_guest.variables import Variables, same

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")
_DEADLOCK: Final = "deadlock: every task waits, and there is no timer or input that could wake one"
_TICKS: Final = 16
"""Iterations of the loop in a `tick`, and those in which an `Interrupted` of another task must reach the awaited one."""


class _Selector:
    """Takes the place of a selector, with which `BaseEventLoop._run_once` waits.

    Args:
        interrupted: called with an `Interrupted` that has ended a wait.

    Attributes:
        may_wait: whether `select` sleeps; if not, it returns at once.
        ahead: seconds slept while the clock stood still (a virtual clock), by which the loop's time is ahead of the clock.
    """

    def __init__(self, interrupted: Callable[[Interrupted], None]) -> None:
        self._interrupted = interrupted
        self.may_wait = True
        self.ahead = 0.0

    def select(self, timeout: float | None) -> tuple[()]:
        """Sleep until the next timer, `timeout` seconds from now; None: there is no timer."""
        if self.may_wait:
            if timeout is None:
                raise _DeadlockError
            if timeout > 0:
                before = time.monotonic()
                try:
                    time.sleep(timeout)
                except Interrupted as exc:
                    self._interrupted(exc)
                    return ()
                if time.monotonic() == before:
                    self.ahead += timeout
        return ()


class _DeadlockError(Exception):
    """The loop would wait, and there is no timer."""


class _Unheard:
    """An `Interrupted` that has ended a task other than the awaited one, and may not reach the awaited task by itself.

    Args:
        error: the exception of the ended task.

    Attributes:
        error: the exception of the ended task.
        left: iterations of the loop after which the exception is raised in the awaited task.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self._depth = _depth(error)
        self.left = _TICKS

    @property
    def is_heard(self) -> bool:
        """Whether a coroutine that awaits the task has raised the exception again, which makes its traceback longer."""
        return _depth(self.error) > self._depth


def _depth(error: BaseException) -> int:
    """Number of entries in an exception's traceback."""
    depth, trace = 0, error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    return depth


class Loop(base_events.BaseEventLoop):
    """The guest's event loop. One exists as long as the guest; `asyncio.run` makes others.

    Args:
        selector: ignored; `asyncio.SelectorEventLoop` takes one.

    Attributes:
        call_number: number of the host's current call, to which the tasks belong that are created meanwhile.
        stays_open: whether `close` does nothing, because the host's calls need this loop.
    """

    # attributes of BaseEventLoop that its stubs lack
    _ready: Any
    _scheduled: list[Any]
    _thread_id: int | None
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any

    def __init__(self, selector: object = None) -> None:
        super().__init__()
        self._variables = Variables()
        self._selector = _Selector(self._raise_at_await)
        self._awaited: asyncio.Future[Any] | None = None
        self._interrupted: Interrupted | None = None
        self._unheard: _Unheard | None = None
        self.call_number = 0
        self.stays_open = False

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """`asyncio.BaseEventLoop.create_task`, with the number of the current call kept on the task."""
        task: Any = super().create_task(coro, **options)
        task._cloche_call = self.call_number
        task.add_done_callback(self._ended)
        return task  # type: ignore[no-any-return]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = task._exception  # `exception()` would mark the exception as retrieved, and it would not be logged
        if isinstance(error, Interrupted):
            self._unheard = _Unheard(error)

    def time(self) -> float:
        """Time of the monotonic clock, plus what was slept while the clock stood still, so that timers become due."""
        return time.monotonic() + self._selector.ahead

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass  # there is no other thread to wake this one

    def _run_once(self) -> None:
        try:
            super()._run_once()  # type: ignore[misc]  # private, the same since 3.4
        except _DeadlockError:
            self._break_deadlock()
        if self._interrupted is not None:
            interrupted, self._interrupted = self._interrupted, None
            raise interrupted
        if self._unheard is not None:
            self._see_that_it_is_heard(self._unheard)

    def _see_that_it_is_heard(self, unheard: _Unheard) -> None:
        """Raise the `Interrupted` of another task in the awaited task, unless it arrives there by itself within some iterations.

        Otherwise a background task could swallow the host's notice, and the call would go on until the sandbox is stopped.
        """
        awaited = self._awaited
        if awaited is None or awaited.done() or unheard.is_heard:
            self._unheard = None
            return
        unheard.left -= 1
        if unheard.left <= 0 or not self._ready:
            self._unheard = None
            self._raise_at_await(type(unheard.error)(*unheard.error.args))

    def _break_deadlock(self) -> None:
        self._raise_at_await(RuntimeError(_DEADLOCK))

    def _raise_at_await(self, exc: BaseException) -> None:
        """Raise at the ``await`` where the awaited task waits: ``finally`` blocks run, and the traceback shows the place."""
        waiter: Any = self._awaited
        while isinstance(waiter, asyncio.Task):
            waiter = waiter._fut_waiter  # type: ignore[attr-defined]  # the C and the Python implementation both have it
        if not isinstance(waiter, asyncio.Future) or waiter.done():
            raise exc
        waiter.set_exception(exc)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an exception that no task awaits. SystemExit and KeyboardInterrupt are left out: the loop raises them to its caller.

        An `Interrupted` from a plain callback is not logged: `_run_once` raises it, as asyncio does with KeyboardInterrupt.
        """
        exception = context.get("exception")
        if isinstance(exception, Interrupted):
            if "handle" in context:
                self._interrupted = exception
        elif not isinstance(exception, (SystemExit, KeyboardInterrupt)):
            super().call_exception_handler(context)

    def run_until_complete(self, future: Any) -> Any:
        """`asyncio.BaseEventLoop.run_until_complete`, with deadlocks raised at the ``await`` that would wait forever."""
        self._awaited = asyncio.ensure_future(future, loop=self)
        try:
            return super().run_until_complete(self._awaited)
        finally:
            self._awaited = None

    def run_in_executor(self, executor: Any, func: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:  # type: ignore[override]
        """Call `func` at once, and return a future that is done. `func` may call `asyncio.run`."""
        self._check_closed()  # type: ignore[attr-defined]
        future: asyncio.Future[_T] = self.create_future()
        run_inline(future, func, *args)
        return future

    def watch_generators(self) -> Any:
        """Let this loop close async generators that are garbage collected half-way, even while the loop is not running.

        `run_forever` sets these hooks in each run, which would be half of the cost of a short coroutine here.

        Returns:
            the previous hooks, with which `sys.set_asyncgen_hooks` can undo this.
        """
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        return before

    def drive(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end in a new task, and return its result. If it never suspends, the loop does not iterate."""
        task = self.start(coroutine)
        if not task.done():
            self.run_until(task.done, task)
        try:
            return task.result()
        finally:
            # else an exception's traceback, this frame and the task form a cycle, which stays until it is garbage collected
            del task

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task, and on Python 3.12 and later run it to its first suspension."""
        outer = self._enter()
        try:
            context = self._variables.context
            if sys.version_info >= (3, 12):
                return asyncio.Task(coroutine, loop=self, eager_start=True, context=context)
            return asyncio.Task(coroutine, loop=self, context=context)
        finally:
            self._leave(outer)

    def run_until(self, ready: Callable[[], bool], awaited: asyncio.Task[Any]) -> None:
        """Iterate until `ready()` is true. Deadlocks and interruptions are raised in the task `awaited`."""
        self._awaited = awaited
        outer = self._enter()
        try:
            while not ready():
                self._run_once()
        except Interrupted:
            awaited.cancel()  # else the task would go on in a later call
            self._step_without_waiting()
            raise
        finally:
            self._leave(outer)
            self._awaited = None
            del ready, awaited  # avoids a cycle, as in `drive`

    def call(self, func: Callable[..., object], *args: object) -> None:
        """Call `func` as a callback of the running loop."""
        outer = self._enter()
        try:
            func(*args)
        finally:
            self._leave(outer)

    def tick(self) -> None:
        """Let pending tasks advance by at most _TICKS iterations, without waiting."""
        if not self._ready and not (self._scheduled and self._scheduled[0].when() <= self.time()):
            return
        outer = self._enter()
        try:
            self._step_without_waiting()
        finally:
            self._leave(outer)

    def _step_without_waiting(self) -> None:
        self._selector.may_wait = False
        try:
            for _ in range(_TICKS):
                self._run_once()
                if not self._ready:
                    break
        finally:
            self._selector.may_wait = True

    def recover(self) -> None:
        """Leave all loops that an interruption has left marked as running, and cancel the tasks that the interrupted call created.

        Tasks of earlier calls go on. This does not wait: if a cancelled task awaits something in its cleanup, it goes on in later
        calls.
        """
        for loop in (_get_running_loop(), self):
            if loop is not None:
                task = asyncio.current_task(loop)
                if task is not None:
                    _leave_task(loop, task)
                if isinstance(loop, base_events.BaseEventLoop):
                    loop._thread_id = None  # type: ignore[attr-defined]
                    loop._stopping = False  # type: ignore[attr-defined]
        _set_running_loop(None)
        self._awaited = self._interrupted = self._unheard = None
        self._selector.may_wait = True
        self.watch_generators()
        for task in asyncio.all_tasks(self):
            if getattr(task, "_cloche_call", 0) == self.call_number:
                task.cancel()
        self.tick()

    def finish(self) -> None:
        """Cancel the pending tasks, let them unwind, and close the loop. Only `cloche.testing` needs this, not the image."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            # RuntimeError: a deadlock, if an interruption has lost the callback that would wake a task
            with suppress(RuntimeError):
                self.drive(_wait(tasks))
        self.drive(self.shutdown_asyncgens())
        super().close()

    def close(self) -> None:
        """Close a loop that the node has made. The guest's own one, which `asyncio.get_event_loop` gives to nodes, stays open."""
        if not self.stays_open:
            super().close()

    async def _make_subprocess_transport(self, *_: Any, **__: Any) -> Any:
        raise OSError(
            errno.ENOSYS, "a sandboxed node has no processes: do the work in this node, or call a service of the host"
        )

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Refused with the exception that nodes expect from a loop without signals."""
        raise NotImplementedError("no signal ever arrives in this sandbox")

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Refused: nothing can become readable while the loop waits."""
        raise NotImplementedError("this sandbox has no sockets or pipes to wait for")

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Refused like `add_reader`."""
        raise NotImplementedError("this sandbox has no sockets or pipes to wait for")

    def _enter(self) -> _Outer:
        """Become the running loop, as `run_forever` does. Returns the loop and task to restore with `_leave`."""
        outer = None if _get_running_loop() is None else _step_out()
        now, variables = copy_context(), self._variables
        if (now or variables.known) and not same(now, variables.known):
            variables.carry_to_tasks(now)
        _set_running_loop(self)
        self._thread_id = get_ident()
        return outer

    def _leave(self, outer: _Outer) -> None:
        self._thread_id = None
        _set_running_loop(None)
        variables = self._variables
        if (variables.context or variables.known) and not same(variables.context, variables.known):
            variables.carry_to_calls()
        if outer is not None:
            _step_back(outer)


_Outer = tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any] | None"] | None


def _step_out() -> _Outer:
    """Leave the running loop and its task, so that another loop can run inside (natively, or in an inline executor)."""
    loop = _get_running_loop()
    if loop is None:
        return None
    task = asyncio.current_task(loop)
    if task is not None:
        _leave_task(loop, task)
    _set_running_loop(None)
    return loop, task


def _step_back(outer: _Outer) -> None:
    """Enter the loop and task again that `_step_out` has left."""
    if outer is None:
        return
    loop, task = outer
    _set_running_loop(loop)
    if task is not None:
        _enter_task(loop, task)


async def _wait(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


def run_inline(future: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call `func`, and put its result or exception into `future`. `func` sees no running loop, as if it ran on another thread."""
    outer = _step_out()
    try:
        future.set_result(func(*args, **kwargs))
    except (SystemExit, KeyboardInterrupt, Interrupted):
        raise
    except BaseException as exc:  # an executor passes on any exception through the future
        future.set_exception(exc)
    finally:
        _step_back(outer)
