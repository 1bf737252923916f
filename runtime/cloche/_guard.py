"""Deadlines without instrumentation: a guest is stopped by taking its memory away.

Under ``metering="guard"`` compiled code has no checks. When a deadline comes, another thread makes the guest's linear memory
inaccessible: its next load or store faults, and wasmtime, which turns faults at such instructions into traps, ends the call.

It is sound because nothing but compiled code ever meets the protection:

- the image has no bulk-memory instruction, the only ones that wasmtime runs in native code on the guest's bytes
  (the build and the engine's configuration refuse them), and `memory.grow` touches no byte that was there before;
- the host touches a guest's memory only while it is outside of it, and `Guard` knows: memory is protected while the guest is
  inside, and made accessible again before the host goes on;
- pages of views that the host has been given (`Node.buffer`, leases) are never protected, since any thread may use them.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import wasmtime

from cloche import _ffi
from cloche._host import FUNCTIONS, REAL, Host
from cloche._memory import Memory
from cloche._outside import Outside
from cloche.errors import InternalError

__all__ = ["GUARDED_FUNCTIONS", "Guard", "GuardedCall", "GuardedHost", "stopper"]

_NONE: Final = 0
_READ_WRITE: Final = 3
# With the GIL: it takes some 50 us, and whoever gave the GIL away would have to wait for it before the lock is free.
_mprotect: Any = ctypes.PyDLL(None, use_errno=True).mprotect if sys.platform == "linux" else lambda *_: -1
_mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Guard:
    """Knows whether a guest is inside of its code, and can stop it there. One for each store.

    Only the thread that calls the guest may use `begin`, `enter` and `leave`; any thread may `stop`. A call that nobody stops takes
    no lock: each side writes its own flag first and then reads the other's (Dekker), so that at least one of them sees
    the other. The GIL keeps both in order.

    Attributes:
        inside: whether the guest runs, or is about to.
        stopped: whether it must not run on.
        stopping: whether a `stop` is under way.
        protected: whether the memory is, or is about to be, inaccessible.
        used: whether it has ever been.
    """

    __slots__ = ("_lock", "_memory", "_reach", "inside", "protected", "stopped", "stopping", "used")

    def __init__(self) -> None:
        self._memory: Memory | None = None
        self._reach = 0
        self.inside = self.protected = self.stopped = self.used = False
        self.renew()

    def renew(self) -> None:
        """A new lock: in the child of a fork, whose parent's other threads may have held the old one."""
        self._lock = threading.RLock()  # a signal's handler may run in the middle of it, and cancel
        self.stopping = False

    def watch(self, memory: Memory, reach: int) -> None:
        """The memory to protect, and how far it can grow, in bytes."""
        self._memory, self._reach = memory, reach

    def forget(self) -> None:
        """The instance is closed. Its memory must not hang on a cycle of references."""
        self._memory = None

    def begin(self) -> None:
        """A call begins: what stopped the last one does not count for it."""
        if self.stopping:
            with self._lock:
                pass
        self.stopped = False

    def enter(self) -> bool:
        """The guest is about to run, or to run on after a host function; False: it has been stopped and must not, so `leave`."""
        self.inside = True
        return not self.stopped

    def leave(self) -> None:
        """The guest has returned, has trapped, or waits for a host function: its memory is the host's to use. Again: nothing."""
        self.inside = False
        if not (self.stopping or self.protected):
            return
        with self._lock:
            if self.protected and self._memory is not None:
                for address, size in self._memory.stretches():
                    if _mprotect(address, size, _READ_WRITE):
                        raise InternalError(f"a guest's memory stays locked: mprotect failed ({ctypes.get_errno()})")
                self.protected = False

    def stop(self, must_stop: Callable[[], bool]) -> None:
        """Stop the guest now, or as soon as the host function that it called returns.

        Args:
            must_stop: asked once a new call would wait, because the call may have ended and another one begun.
        """
        with self._lock:
            self.stopping = True
            try:
                if must_stop():
                    self.stopped = True
                    if self.inside and self._memory is not None:
                        self.protected = self.used = True
                        for address, size in self._memory.stretches(self._reach, unpinned=True):
                            _mprotect(address, size, _NONE)  # should it fail: the watchdog comes again
            finally:
                self.stopping = False


_call: Final = _ffi.Call.__call__
_four: Final = _ffi.Call.four


class GuardedCall(_ffi.Call):
    """An exported function whose guest can be stopped."""

    __slots__ = ("_guard",)

    def __init__(self, store: wasmtime.Store, func: wasmtime.Func, parameters: int, guard: Guard) -> None:
        super().__init__(store, func, parameters)
        self._guard = guard

    def __call__(self, *arguments: int) -> int:
        guard = self._guard
        try:
            if not guard.enter():
                raise _ffi.Trapped("stopped by the host", "")
            return _call(self, *arguments)
        finally:
            try:
                guard.leave()
            finally:
                guard.leave()  # a signal's handler may have raised in the middle of it

    def four(self, a: int, b: int, c: int, d: int) -> int:
        guard = self._guard
        try:
            guard.inside = True  # as `enter` does, but this is what is timed in microseconds
            if guard.stopped:
                raise _ffi.Trapped("stopped by the host", "")
            return _four(self, a, b, c, d)
        finally:
            guard.inside = False
            if guard.stopping or guard.protected:
                try:
                    guard.leave()
                finally:
                    guard.leave()


class GuardedHost(Host):
    """A `Host` whose guest can be stopped by its `Guard`.

    Of the imports only `call` touches the guest's memory; the others may run while it is protected.
    """

    __slots__ = ("guard",)

    def __init__(self, node: str = "", outside: Outside = REAL) -> None:
        super().__init__(node, outside)
        self.guard = Guard()  # its store's, once it has one

    def begin(self) -> None:
        self.guard.begin()
        self.stop = None  # a stop that came when the guest had just returned
        super().begin()

    def forked(self) -> None:
        self.guard.renew()

    def call(self, slots: Any) -> bool:
        """As `Host.call`. On any failure the guest does not run on, and stays outside."""
        self.guard.leave()
        return super().call(slots) and self.guard.enter()


GUARDED_FUNCTIONS: Final[dict[str, Any]] = FUNCTIONS | {"call": GuardedHost.call}


def stopper(prepare: Callable[[], None]) -> Callable[[Iterable[Host]], None]:
    """What a `Watchdog` does when deadlines have come.

    Args:
        prepare: called before a guest is made to fault.
    """

    def stop(hosts: Iterable[Host]) -> None:
        prepare()
        for host in hosts:
            if isinstance(host, GuardedHost):
                host.guard.stop(host.must_stop)

    return stop
