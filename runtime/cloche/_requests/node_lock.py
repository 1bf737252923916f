"""The lock of a node: one call at a time, by a holder that is known, and no wait that cannot end.

A service runs inside a call of its node, often on another thread. If it calls nodes itself, calls can wait for each other in a
circle. Three rules keep that from happening:

- *Identity.* Code of the host that runs on behalf of a node's call (a service, a gate, a logger) runs in a context that says so
  (`run_inside`). Contexts go along into event loops, portals and threads, so a call knows in which other calls it is made.
- *Order of waiting.* A call made inside other calls, whose lock is taken, enters itself in the set of waiters and then looks for
  a circle from there. Each waiter has a number; the one with the highest number in the circle is refused. Entering comes before
  looking, so that one of them sees the circle; and the set needs no lock, which an interrupt could leave held.
- *Time.* A thread that carries no context (of a pool that a service has started) can't be told from a stranger. It waits until
  the holder's service is late (`LATE_S` past the call's deadline), and is then refused.

An exception may be raised at any bytecode (Ctrl-C, a signal's handler). Not even ``with`` of a lock written in C is safe from
that: no handler covers the bytecodes between the end of its block and its ``__exit__``. So the lock is taken inside a ``try``,
and left by two handlers, one around the other: when an interrupt ends the inner one, the outer one runs. See `NodeLock.run`.
The handlers call nothing that is written in Python: at the end of the stack there would be no frame left for it.
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
from cloche.errors import ClocheError

__all__ = ["LATE_S", "NodeLock", "exclusive", "hold", "is_inside", "is_nested", "run_inside"]

T = TypeVar("T")
P = ParamSpec("P")

LATE_S: Final = 1.0
"""Seconds past its call's deadline after which a service counts as stuck, and nobody waits for it any longer."""
_SLICE_S: Final = 0.1
"""A waiter looks again for circles, and whether it is still wanted, after that."""


class _Inside:
    """One stretch of host code inside a node's call. Copies of its context may outlive it, so it says itself when it is over."""

    __slots__ = ("active", "lock", "until")

    def __init__(self, lock: NodeLock, until: float | None) -> None:
        self.lock = lock
        self.until = until
        self.active = True


_inside: ContextVar[tuple[_Inside, ...]] = ContextVar("cloche_inside", default=())


class _Waiter:
    """A call that waits for a lock, inside other calls."""

    __slots__ = ("inside", "lock", "number")

    def __init__(self, lock: NodeLock, inside: tuple[_Inside, ...]) -> None:
        self.lock = lock
        self.inside = inside
        self.number = next(_numbers)

    def is_inside(self, lock: NodeLock) -> bool:
        """Whether the call that holds `lock` can't end before this one."""
        return any(entry.active and entry.lock is lock for entry in self.inside)


_numbers = itertools.count()
_waiters: set[_Waiter] = set()


class NodeLock:
    """Reentrant on its thread; `run` and `exclusive` are the safe ways to hold it.

    Never hold it across a ``yield``: a generator may be resumed on another thread, or never.

    Args:
        name: the node's, for errors.

    Attributes:
        acquire: as `threading.RLock.acquire`; only after `owned` was false, and followed by `wait` if it gives False.
        release: as `threading.RLock.release`.
        owned: whether the calling thread holds it.
        busy: whether the holder is in a call of the guest. It means nothing while nobody holds the lock.
        inside: the host code that runs on behalf of the call under way.
    """

    __slots__ = ("__weakref__", "_is_lost", "acquire", "busy", "inside", "name", "owned", "release")

    acquire: Callable[..., bool]
    owned: Callable[[], bool]
    release: Callable[[], None]

    def __init__(self, name: str) -> None:
        self.name = name
        self._renew()
        _forks.watch(self)

    def _renew(self) -> None:
        core: Any = threading.RLock()
        self.acquire, self.release, self.owned = core.acquire, core.release, core._is_owned
        self.inside: _Inside | None = None
        self.busy = False
        self._is_lost = False

    @property
    def is_lost(self) -> bool:
        """Whether this process was forked during a call that another thread of the parent made: it never ends here."""
        return self._is_lost

    def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function while holding the lock. Raises what `wait` raises."""
        return self.run_unless(None, function, *arguments, **keywords)

    def run_unless(
        self, given_up: Callable[[], bool] | None, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs
    ) -> T:
        """As `run`; while it waits, it asks now and then whether the call was given up, and then raises ClocheError."""
        if self.owned():
            return function(*arguments, **keywords)
        try:
            try:
                if not self.acquire(False):
                    self.wait(given_up)
                self.busy = False  # an interrupted call may have left it true
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

    def wait(self, given_up: Callable[[], bool] | None = None) -> None:
        """Acquire the lock when `acquire(False)` has failed.

        Args:
            given_up: asked now and then; once it is true, the wait ends with a ClocheError.

        Raises:
            ClocheError: the wait could not end, since the holder waits for the caller; or it is past its deadline in a service;
                or it belongs to the parent process.
        """
        inside = tuple(entry for entry in _inside.get() if entry.active)
        if not inside:
            self._wait(None, given_up)
            return
        self.check_outside()
        waiter = _Waiter(self, inside)
        try:
            try:
                _waiters.add(waiter)
                self._wait(waiter, given_up)
            finally:
                _waiters.discard(waiter)
        finally:
            _waiters.discard(waiter)

    def _wait(self, waiter: _Waiter | None, given_up: Callable[[], bool] | None) -> None:
        """Not part of `wait`: interrupts are heard at the end of a loop, which CPython leaves out of the ``try`` around it."""
        while True:
            self._check_holder(given_up)
            if waiter is not None:
                _check_circle(waiter)
            if self.acquire(True, _SLICE_S):
                return

    def check_outside(self) -> None:
        """Refuse what must not happen inside the node's own call.

        Raises:
            ClocheError: this is host code that runs on behalf of the call under way.
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
        """See `_forks`."""
        _waiters.clear()
        if self.owned():  # a service has forked on its node's thread: the call goes on here as well
            return
        if self.acquire(False):
            self.release()
            return
        # its holder does not exist here, but a new thread may get the same identity: so nobody may ask the old lock
        self._renew()
        self._is_lost = True
        self.acquire = _never


def _never(*_: Any) -> bool:
    return False


def is_inside(locks: Iterable[NodeLock]) -> bool:
    """Whether the calling code runs on behalf of a call that holds one of these locks."""
    inside = [entry.lock for entry in _inside.get() if entry.active]
    return any(lock in inside or lock.owned() for lock in locks)


def is_nested() -> bool:
    """Whether the calling code runs on behalf of the call of any node."""
    return any(entry.active for entry in _inside.get())


def hold(lock: Any, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function while holding a `threading.RLock`, which no interrupt leaves held. For locks that are held briefly."""
    if lock._is_owned():
        return function(*args, **kwargs)
    try:
        try:
            lock.acquire()
            return function(*args, **kwargs)
        finally:
            if lock._is_owned():
                lock.release()
    finally:
        if lock._is_owned():
            lock.release()


def run_inside(lock: NodeLock, until: float | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call host code on behalf of the call under way.

    Args:
        lock: the node's.
        until: `time.monotonic()` at the call's deadline; None: it has none.
        function: the code.
        *args: for it.
        **kwargs: for it.
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
    """Refuse to wait if that closes a circle, and nobody in it began later.

    Raises:
        ClocheError: it names the circle.
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
    """The waiters of a circle, from `first` on: each is made inside the call that the one before it waits for."""
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
    lock: NodeLock


S = TypeVar("S", bound=_Locked)


def exclusive(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that holds its node's lock. See `NodeLock.run`."""

    def locked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        lock = self.lock
        if lock.owned():
            return method(self, *args, **kwargs)
        try:  # as `run`, which would be one call more for each step of a stream
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
