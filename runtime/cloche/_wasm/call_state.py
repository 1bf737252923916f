"""The state of the call that is under way on one node, as the host's threads see it: who may wait, and who must give up.

The native core stops the guest itself. What is here is for Python code that works for a guest meanwhile, such as a service
that runs on another thread: it has to end its wait when the guest's deadline comes.
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
"""The host's clocks and the operating system's random source."""


class Stop(Enum):
    """Why a guest was stopped, or told to stop."""

    DEADLINE = "deadline"
    CANCELLED = "cancelled"


class Stopped(Exception):
    """The guest that somebody works for has been told to stop: there is no use in waiting any longer."""


class Router(Protocol):
    """`cloche._requests.router.RequestRouter`, as far as the state of a call knows it."""

    request_bytes: int

    def close(self) -> None:
        """The instance is closed."""


class CallState:
    """One for each instance.

    Attributes:
        node: the node's name.
        calls: calls on the node so far, the one under way included.
        outside: what its clocks and its random source have started from.
        router: who answers its requests; None: nothing is granted.
        deadline: `time.monotonic()` at which the call under way is told to stop; None: never.
        cancelled: whether the call under way was cancelled.
    """

    __slots__ = ("_wake", "calls", "cancelled", "deadline", "node", "outside", "router")

    def __init__(self, node: str = "", outside: ClockAndRandomState = REAL) -> None:
        self.node = node
        self.outside = outside
        self.calls = 0
        self.deadline: float | None = None
        self.cancelled = False
        self.router: Router | None = None
        self._wake: threading.Event | None = None

    def begin(self) -> None:
        """A call begins: a cancel that came too late for the last one does not count for it."""
        self.cancelled = False
        if self._wake is not None:
            self._wake.clear()

    def cancel(self) -> None:
        """End what waits for the guest. Called from another thread."""
        self.cancelled = True
        if self._wake is not None:  # else nobody waits yet, and who begins to looks at `cancelled` first
            self._wake.set()

    @property
    def reason(self) -> Stop | None:
        """Why the call under way has to stop; None: it may go on."""
        if self.cancelled:
            return Stop.CANCELLED
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return Stop.DEADLINE
        return None

    def must_stop(self) -> bool:
        """Whether the call under way has been cancelled or has passed its deadline."""
        return self.reason is not None

    def wait(self, seconds: float | None, future: Future[object]) -> bool:
        """Wait for a future on behalf of the guest; whether it is done before so many seconds are over (None: whenever).

        Raises:
            Stopped: the call under way has been cancelled or has passed its deadline.
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
        """Wait until then, or until `done`; False if the guest has to stop instead."""
        wake = self._event()
        while not self.must_stop():
            now = time.monotonic()
            if now >= until or done():
                return True
            limit = until if self.deadline is None else min(until, self.deadline)
            wake.wait(min(max(0.0, limit - now), 3600.0))
            wake.clear()  # whoever set it has first changed what is looked at now
        return False


class HasCallState:
    """Mixin: `name` and `calls`, kept on the instance's `CallState`."""

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
        """Calls into the guest so far."""
        return self.host.calls
