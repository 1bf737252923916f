"""State of the current call on one node, shared by the host's threads: its deadline, and whether it was cancelled.

The native core stops the guest itself. This module is for Python code that carries out a request of the guest meanwhile, such as a
service that runs on another thread: `CallState.wait` ends its waiting at the guest's deadline or when the call is cancelled.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from cloche._wasm.clocks import ClockAndRandomState

if TYPE_CHECKING:
    from concurrent.futures import Future


__all__ = ["REAL", "CallState", "HasCallState", "Stop", "Stopped"]

REAL: Final = ClockAndRandomState()
"""The host's clocks, and the operating system's random source."""


class Stop(Enum):
    """Why a call was stopped: it reached its deadline, its caller cancelled it, or a budget was used up."""

    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    BUDGET = "budget"


class Stopped(Exception):
    """The guest whose request is being carried out must stop: waiting longer is of no use."""


class Router(Protocol):
    """The part of `cloche._requests.router.RequestRouter` that an instance's `CallState` depends on.

    Attributes:
        request_bytes: size of the guest's request that is being carried out, in bytes, long values included.
    """

    request_bytes: int

    def close(self) -> None:
        """Close the handlers of the guest's requests, because the instance is being closed."""


class CallState:
    """State of the current call on one instance; each instance has one object of this class.

    `cancel` and `must_stop` may be called by any thread.

    Args:
        node: the node's name.
        outside: the state from which the guest's clocks and its random source start.

    Attributes:
        calls: number of calls on the node so far, the current one included.
        router: carries out the guest's requests; None if nothing is granted to the guest.
        deadline: time of `time.monotonic` at which the current call is told to stop; None if it has no deadline.
        in_pool: whether the node is one of a pool's.
        seed: 32 bytes with which the guest's random generators were seeded last; empty: not known.
    """

    __slots__ = ("_cancelled", "_wake", "calls", "deadline", "in_pool", "node", "outside", "router", "seed")

    def __init__(self, node: str = "", outside: ClockAndRandomState = REAL) -> None:
        self.node = node
        self.outside = outside
        self.calls = 0
        self.in_pool = False
        self.seed = b""
        self.deadline: float | None = None
        self._cancelled = -1
        self.router: Router | None = None
        self._wake: threading.Event | None = None

    def begin(self) -> None:
        """Begin a call. Forgets a cancel that came too late for the previous call."""
        if self._wake is not None:
            self._wake.clear()

    @property
    def cancelled(self) -> bool:
        """Whether the current call was cancelled."""
        return self._cancelled == self.calls

    def cancel(self, number: int) -> None:
        """Cancel a call, and wake the thread that waits in `wait`. Called by another thread.

        Args:
            number: the value of `calls` during that call. If another one is under way meanwhile, that is not cancelled.
        """
        self._cancelled = number
        # without an event no thread waits yet, and `wait` looks at `cancelled` before it waits
        if self._wake is not None:
            self._wake.set()

    @property
    def reason(self) -> Stop | None:
        """Why the current call must stop; None if it may go on."""
        if self.cancelled:
            return Stop.CANCELLED
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return Stop.DEADLINE
        return None

    def must_stop(self) -> bool:
        """Whether the current call was cancelled or has passed its deadline."""
        return self.reason is not None

    def wait(self, seconds: float | None, future: Future[object]) -> bool:
        """Wait for a future on behalf of the guest.

        Args:
            seconds: how long to wait at most; None for no limit besides the call's deadline.
            future: the result that the guest waits for.

        Returns:
            whether the future is done.

        Raises:
            Stopped: the current call was cancelled or has passed its deadline.
        """
        wake = self._event()
        future.add_done_callback(lambda _: wake.set())
        until = math.inf if seconds is None else time.monotonic() + seconds
        if not self._wait_until(until, future.done):
            raise Stopped
        return future.done()

    def _event(self) -> threading.Event:
        if self._wake is None:
            self._wake = threading.Event()
        return self._wake

    def _wait_until(self, until: float, done: Callable[[], bool]) -> bool:
        """Wait until a time of `time.monotonic`, or until `done` returns True; False if the current call must stop first."""
        wake = self._event()
        while not self.must_stop():
            now = time.monotonic()
            if now >= until or done():
                return True
            limit = until if self.deadline is None else min(until, self.deadline)
            wake.wait(min(max(0.0, limit - now), 3600.0))
            # nothing is missed: a thread changes `cancelled` or the future first, and only then sets the event
            wake.clear()
        return False


class HasCallState:
    """Mixin: properties `name` and `calls`, kept on the instance's `CallState`.

    Attributes:
        host: the instance's `CallState`.
    """

    __slots__ = ()
    host: CallState

    @property
    def name(self) -> str:
        """The node's name, for errors and logs."""
        return self.host.node

    @name.setter
    def name(self, name: str) -> None:
        self.host.node = name

    @property
    def calls(self) -> int:
        """Number of calls into the guest so far."""
        return self.host.calls
