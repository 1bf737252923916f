"""`NodeLock`: a node takes one call at a time, and nobody waits for the lock forever.

A service runs inside a call of its node, often on another thread. If the service calls nodes in turn, calls can wait for each other
in a circle (a deadlock). Three rules prevent that:

- *Identity.* Host code that runs on behalf of a node's call (a service, a gate, a logger) runs in a context that names the call
  (`run_inside`). Contexts are copied into event loops, portals and threads, so each call knows inside which other calls it is made.
- *Order of waiting.* A call that is made inside other calls, and finds its lock taken, adds itself to the set of waiters and then
  searches for a circle from there. Each waiter has a number; the one with the highest number in a circle is refused. Because
  waiters add themselves before they search, at least one of them sees the circle. The set itself needs no lock, which an
  interrupt could leave held.
- *Time.* A thread that a service has started without passing its context on cannot be recognised. Such a thread waits until the
  holder's service is late (`LATE_S` past the call's deadline), and is then refused.

Interrupts: an exception can be raised at any bytecode (Ctrl-C, a signal handler). Even ``with lock:`` is not safe from that, since
no handler covers the bytecodes between the end of the block and ``__exit__``. So the lock is taken inside two nested ``try`` blocks
whose handlers both release it: if an interrupt ends the inner handler, the outer one runs. The handlers call only functions written
in C, because after a RecursionError there may be no room for a Python frame.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from cloche import _forks
from cloche.errors import ClocheError, ClosedError

__all__ = ["LATE_S", "NodeLock", "exclusive", "hold", "is_inside", "is_nested", "run_inside"]

T = TypeVar("T")
P = ParamSpec("P")

LATE_S: Final = 1.0
"""Seconds past the call's deadline after which the call's service counts as stuck, and waiting for the lock is refused."""
_SLICE_S: Final = 0.1
"""Seconds after which a waiter checks again for circles."""
_SHORT_SLICE_S: Final = 0.02
"""Seconds after which a waiter checks again whether its call was given up."""


class _Inside:
    """One run of host code inside a node's call.

    Attributes:
        lock: the lock of the node.
        until: `time.monotonic()` at the call's deadline; None: there is none.
        active: whether the code still runs. Copies of its context can outlive the code, and must see that it has ended.
    """

    __slots__ = ("active", "lock", "until")

    def __init__(self, lock: NodeLock, until: float | None) -> None:
        self.lock = lock
        self.until = until
        self.active = True


_inside: ContextVar[tuple[_Inside, ...]] = ContextVar("cloche_inside", default=())
"""The calls inside which the current code runs, outermost first."""


class _Waiter:
    """A call that waits for a lock and is made inside other calls.

    Attributes:
        lock: the lock that the call waits for.
        inside: the calls that the call is made inside of.
        number: order of waiting; unique.
    """

    __slots__ = ("inside", "lock", "number")

    def __init__(self, lock: NodeLock, inside: tuple[_Inside, ...]) -> None:
        self.lock = lock
        self.inside = inside
        self.number = next(_numbers)

    def is_inside(self, lock: NodeLock) -> bool:
        """Whether this call is made inside the call that holds `lock`, which therefore cannot end first."""
        return any(entry.active and entry.lock is lock for entry in self.inside)


_numbers = itertools.count()
_waiters: set[_Waiter] = set()


class NodeLock:
    """The lock of one node, reentrant on its thread. `run` and `exclusive` are the safe ways to hold it.

    Never hold it across a ``yield``: a generator may be resumed on another thread, or never.

    Args:
        name: name of the node, for error messages.

    Attributes:
        acquire: `threading.RLock.acquire`. Call it only if `owned` is false, and call `wait` if it returns False.
        release: `threading.RLock.release`.
        owned: returns whether the calling thread holds the lock.
        busy: whether the holder is inside a call of the guest; meaningless while nobody holds the lock.
        inside: the host code that runs on behalf of the current call; None: there is none.
        is_refusing: whether calls that wait for the lock are refused, because the node is being closed.
    """

    __slots__ = ("__weakref__", "_is_lost", "acquire", "busy", "inside", "is_refusing", "name", "owned", "release")

    acquire: Callable[..., bool]
    owned: Callable[[], bool]
    release: Callable[[], None]

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_refusing = False
        self._renew()
        _forks.watch(self)

    def _renew(self) -> None:
        core: Any = threading.RLock()
        self.acquire, self.release, self.owned = core.acquire, core.release, core._is_owned  # noqa: SLF001  # as `threading.Condition` does
        self.inside: _Inside | None = None
        self.busy = False
        self._is_lost = False

    @property
    def is_lost(self) -> bool:
        """Whether this process was forked while another thread held the lock, which does not exist here and never releases it."""
        return self._is_lost

    def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function while holding the lock; waits for it if necessary, and raises what `wait` raises."""
        return self.run_unless(None, function, *arguments, **keywords)

    def run_unless(
        self, given_up: Callable[[], bool] | None, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs
    ) -> T:
        """`run` with a wait that can be given up: `given_up` is that of `wait`."""
        return self._run(given_up, False, function, *arguments, **keywords)

    def run_last(
        self, given_up: Callable[[], bool] | None, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs
    ) -> T:
        """`run_unless` for a function that closes the node: it waits on while `is_refusing` ends the waits of all others."""
        return self._run(given_up, True, function, *arguments, **keywords)

    def _run(
        self,
        given_up: Callable[[], bool] | None,
        is_last: bool,
        function: Callable[P, T],
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> T:
        if self.owned():
            return function(*arguments, **keywords)
        try:
            try:
                if not self.acquire(False):
                    self.wait(given_up, is_last=is_last)
                self.busy = False  # an interrupted call can have left it true
                result = function(*arguments, **keywords)
                self.release()
            except BaseException:
                if self.owned():
                    self.release()
                raise
        except BaseException:
            if self.owned():
                self.release()
            raise
        return result

    def wait(self, given_up: Callable[[], bool] | None = None, *, is_last: bool = False) -> None:
        """Acquire the lock after `acquire(False)` has failed.

        Args:
            given_up: called every _SHORT_SLICE_S; once it returns true, the wait ends with ClocheError.

            is_last: whether to wait on when `is_refusing` is set.

        Raises:
            ClosedError: the node is being closed.
            ClocheError: the holder waits for this caller, so the wait could not end; or the holder is stuck in a service past its
                deadline; or the holder is a thread of the parent process; or the wait was given up.
        """
        inside = tuple(entry for entry in _inside.get() if entry.active)
        if not inside:
            self._wait(None, given_up, is_last)
            return
        self.check_outside()
        waiter = _Waiter(self, inside)
        try:
            try:
                _waiters.add(waiter)
                self._wait(waiter, given_up, is_last)
            finally:
                _waiters.discard(waiter)
        finally:
            _waiters.discard(waiter)

    def _wait(self, waiter: _Waiter | None, given_up: Callable[[], bool] | None, is_last: bool) -> None:
        """The loop of `wait`, in a function of its own so that the ``try`` in `wait` covers all of it.

        CPython checks for interrupts at the end of a loop, and excludes that bytecode from a ``try`` block around the loop.
        """
        while True:
            if self.is_refusing and not is_last:
                raise ClosedError(f"node {self.name!r} is closed")
            self._check_holder(given_up)
            if waiter is not None:
                _check_circle(waiter)
            if self.acquire(True, _SLICE_S if given_up is None else _SHORT_SLICE_S):
                return

    def check_outside(self) -> None:
        """Refuse a call of the node from inside its own current call.

        Raises:
            ClocheError: the calling code runs on behalf of that call.
        """
        if is_inside((self,)):
            raise ClocheError(f"node {self.name!r} was called from inside its own call")

    def _check_holder(self, given_up: Callable[[], bool] | None) -> None:
        if self._is_lost:
            raise ClocheError(
                f"node {self.name!r} was in a call of the parent process when this process was forked: "
                "load it here, or fork while no node is in a call"
            )
        if given_up is not None and given_up():
            raise ClocheError(f"the call on node {self.name!r} was given up before it began")
        inside = self.inside
        if inside is not None and inside.active and inside.until is not None:
            late = time.monotonic() - inside.until
            if late > LATE_S:
                raise ClocheError(
                    f"node {self.name!r} is in a service {late:.1f} s after its call's deadline: it may wait for this very call"
                )

    def after_fork(self) -> None:
        """Make the lock usable in the child of a fork; see `_forks`."""
        _waiters.clear()
        if self.owned():  # a service has forked on its node's thread: the call goes on here as well
            return
        if self.acquire(False):
            self.release()
            return
        # the holder does not exist here, but a new thread can get its identity, and would seem to own the old lock
        self._renew()
        self._is_lost = True
        self.acquire = _never


def _never(*_: Any) -> bool:
    return False


def is_inside(locks: Iterable[NodeLock]) -> bool:
    """Whether the calling code runs on behalf of a call that holds one of these locks, or holds one itself."""
    inside = [entry.lock for entry in _inside.get() if entry.active]
    return any(lock in inside or lock.owned() for lock in locks)


def is_nested() -> bool:
    """Whether the calling code runs on behalf of a call of any node."""
    return any(entry.active for entry in _inside.get())


def hold(lock: Any, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function while holding a `threading.RLock` that no interrupt can leave held. Only for locks that are held briefly."""
    if lock._is_owned():  # noqa: SLF001
        return function(*args, **kwargs)
    try:
        try:
            lock.acquire()
            return function(*args, **kwargs)
        finally:
            if lock._is_owned():  # noqa: SLF001
                lock.release()
    finally:
        if lock._is_owned():  # noqa: SLF001
            lock.release()


def run_inside(lock: NodeLock, until: float | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call host code (a service, a gate, a logger) on behalf of a node's current call.

    Args:
        lock: lock of the node, held by the current call.
        until: `time.monotonic()` at the call's deadline; None: there is none.
        function: the host code.
        *args: arguments of `function`.
        **kwargs: arguments of `function`.
    """
    before, outer = _inside.get(), lock.inside
    entry = _Inside(lock, until)
    try:
        try:
            lock.inside = entry
            _inside.set((*(other for other in before if other.active), entry))
            return function(*args, **kwargs)
        finally:
            entry.active = False
            lock.inside = outer
            _inside.set(before)
    finally:
        entry.active = False
        lock.inside = outer
        _inside.set(before)


def _check_circle(waiter: _Waiter) -> None:
    """Refuse to wait if the waiter is in a circle, and has the highest number there.

    Raises:
        ClocheError: the message names the nodes of the circle.
    """
    circle = _circle(waiter, list(_waiters))
    if circle is None or any(other.number > waiter.number for other in circle):
        return
    names = [other.lock.name for other in circle]
    text = ", ".join(f"which waits for {name!r}" for name in names[1:])
    raise ClocheError(
        f"node {names[-1]!r} waits for {names[0]!r}{', ' if text else ''}{text}: nodes that call each other would wait for ever"
    )


def _circle(first: _Waiter, waiters: list[_Waiter]) -> list[_Waiter] | None:
    """A circle of waiters that starts with `first`, or None. Each call is made inside the call that the previous one waits for."""
    paths = [[first]]
    seen = {first}
    while paths:
        path = paths.pop()
        wanted = path[-1].lock
        if first.is_inside(wanted):
            return path
        for waiter in waiters:
            if waiter not in seen and waiter.is_inside(wanted):
                seen.add(waiter)
                paths.append([*path, waiter])
    return None


class _Locked(Protocol):
    @property
    def lock(self) -> NodeLock: ...


S = TypeVar("S", bound=_Locked)


def exclusive(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Decorator: the method runs while holding `self._lock`; see `NodeLock.run`."""

    def locked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        lock = self.lock
        if lock.owned():
            return method(self, *args, **kwargs)
        try:  # a copy of `run_unless`: calling it would cost each step of a stream one more frame
            try:
                if not lock.acquire(False):
                    lock.wait()
                lock.busy = False
                result = method(self, *args, **kwargs)
                lock.release()
            except BaseException:
                if lock.owned():
                    lock.release()
                raise
        except BaseException:
            if lock.owned():
                lock.release()
            raise
        return result

    update_wrapper(locked, method)
    return locked
