"""What the guest's five imports do: clock, random, sleep, exit, call. One `Host` per instance.

Nothing here raises into wasmtime: a method that must stop the guest says so, and leaves the reason on the `Host`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from cloche._outside import Outside, Stream, Time
from cloche.errors import ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloche._asks import GuestAsks

__all__ = ["FUNCTIONS", "Host", "Hosted", "Stop", "Stopped"]

_MASK = (1 << 64) - 1


REAL: Final = Outside()
"""The host's clocks and the operating system's random source."""


class Stop(Enum):
    """Why the host stopped a guest."""

    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    EXIT = "exit"


class Stopped(Exception):
    """The guest must be stopped; its `Host` has the reason."""


class Host:
    """The outside, as one guest sees it, and the state of the call that is under way.

    Attributes:
        deadline: `time.monotonic()` at which the call under way must have ended; None: no deadline.
        stop: why the guest was stopped, if the host stopped it.
        exit_code: what the guest passed to `exit`.
        error: an exception that a host function met; the caller raises it once the guest has stopped.
        asks: who answers `call`; None: nothing is granted.
        node: the node's name.
        calls: calls on the node so far, the one under way included.
        outside: what its clocks and its random source have started from.
    """

    __slots__ = (
        "_asking",
        "_stream",
        "_time",
        "_wake",
        "asks",
        "calls",
        "cancelled",
        "deadline",
        "error",
        "exit_code",
        "node",
        "outside",
        "stop",
    )

    def __init__(self, node: str = "", outside: Outside = REAL) -> None:
        self.node = node
        self.outside = outside
        self._time = Time(*outside.clock) if outside.clock is not None else None
        self._stream = Stream(outside.key, outside.drawn)
        self.calls = 0
        self.deadline: float | None = None
        self.cancelled = False
        self.stop: Stop | None = None
        self.exit_code = 0
        self.error: BaseException | None = None
        self.asks: GuestAsks | None = None
        self._asking = False
        self._wake: threading.Event | None = None

    def begin(self) -> None:
        """A call begins: a cancel that came too late for the last one does not count for it."""
        self.cancelled = False
        if self._wake is not None:
            self._wake.clear()

    def cancel(self) -> None:
        """Stop the call under way as soon as the guest can be stopped. Called from another thread."""
        self.cancelled = True
        if self._wake is not None:  # else nobody waits yet, and who begins to looks at `cancelled` first
            self._wake.set()

    def forked(self) -> None:
        """In the child of a fork: the call under way was another thread's, which does not exist here."""

    def must_stop(self) -> bool:
        """Whether the call under way has been cancelled or has passed its deadline."""
        if self.cancelled:
            self.stop = Stop.CANCELLED
            return True
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.stop = Stop.DEADLINE
            return True
        return False

    @property
    def state(self) -> dict[str, Any]:
        """Where clocks and random source are, as far as they are not the host's: `Snapshot.outside`."""
        state: dict[str, Any] = {}
        if self._time is not None:
            state["clock"] = self._time.state
        if self.outside.key is not None:
            state["drawn"] = self._stream.drawn
        return state

    def clock(self, slots: Any) -> bool:
        """clock(id) -> nanoseconds."""
        which = slots[0] & 0xFFFF_FFFF
        if self._time is not None:
            slots[0] = self._time.read(which)
        elif which == abi.CLOCK_REALTIME:
            slots[0] = time.time_ns()
        elif which == abi.CLOCK_MONOTONIC:
            slots[0] = time.monotonic_ns()
        else:
            slots[0] = time.thread_time_ns()
        return True

    def random(self, slots: Any) -> bool:
        """random() -> 8 bytes, each used once."""
        slots[0] = self._stream.word()
        return True

    def sleep(self, slots: Any) -> bool:
        """sleep(ns) -> 0. Ends the guest at its deadline, or when it is cancelled."""
        if self._time is not None:
            self._time.sleep(slots[0])
            if self.must_stop():
                return False
        elif not self._wait_until(time.monotonic() + max(0, slots[0]) / 1e9):
            return False
        slots[0] = 0
        return True

    def wait(self, seconds: float | None, future: Future[Any]) -> bool:
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

    def _wait_until(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Wait until then, or until `done`; False if the guest must be stopped instead."""
        wake = self._event()
        while not self.must_stop():
            now = time.monotonic()
            if now >= until or done():
                return True
            limit = until if self.deadline is None else min(until, self.deadline)
            wake.wait(min(max(0.0, limit - now), 3600.0))
            wake.clear()  # whoever set it has first changed what is looked at now
        return False

    def poll(self, slots: Any) -> bool:
        """poll() -> NOTICE_NONE: this host raises no notices yet."""
        slots[0] = abi.NOTICE_NONE
        return True

    def exit(self, slots: Any) -> bool:
        """exit(code): the guest never returns from it."""
        self.stop = Stop.EXIT
        self.exit_code = slots[0] & 0xFFFF_FFFF
        return False

    def call(self, slots: Any) -> bool:
        """call(address, length) -> the answer (address << 32 | length), or one of ``abi.ANSWER_*``.

        It enters the guest again, for `node_check` and `node_alloc`; these cannot ask in turn.
        """
        asks = self.asks
        if asks is None:
            slots[0] = abi.ANSWER_NONE
            return True
        if self._asking:
            raise ProtocolError("the guest asked the host again from inside node_alloc or node_check")
        self._asking = True
        try:
            slots[0] = asks.answer(slots[0] & 0xFFFF_FFFF, slots[2] & 0xFFFF_FFFF)
        except Stopped:
            return False
        finally:
            self._asking = False
        return not self.must_stop()


class Hosted:
    """What has a `Host`, which knows the node's name and counts the calls on it."""

    __slots__ = ()
    host: Host

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


FUNCTIONS: Final = {
    "clock": Host.clock,
    "random": Host.random,
    "sleep": Host.sleep,
    "poll": Host.poll,
    "exit": Host.exit,
    "call": Host.call,
}
