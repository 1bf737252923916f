"""Wakes when a deadline comes, and then makes the engine's epoch tick. One thread for each `Runtime`, idle in between.

An epoch counts for every store of an engine. A store whose own deadline has not come goes on (see `Host.must_stop`), so a
deadline is as precise as a wake-up, and no periodic tick disturbs a host that waits.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche._host import Host

__all__ = ["Watchdog"]

_AGAIN_S: Final = 0.002
"""A guest that was inside a host function at the tick is caught by one of the next."""


class Watchdog:
    """Keeps the deadlines of the calls under way on one engine.

    Args:
        tick: advances the engine's epoch.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._armed: set[Host] = set()
        self._shortest = math.inf
        self._busy = False
        self._closed = False
        self._start_over()
        os.register_at_fork(after_in_child=partial(_start_over_in_child, weakref.ref(self)))

    def _start_over(self) -> None:
        """The state without a thread: at the start, and in the child of a fork, which has none of its parent's."""
        self._condition = threading.Condition()
        self._wake_at = math.inf
        self._thread: threading.Thread | None = None

    def arm(self, host: Host, seconds: float) -> None:
        """The call that `host` serves must end within `seconds`."""
        host.deadline = deadline = time.monotonic() + seconds
        self._armed.add(host)
        self._busy = True
        if seconds < self._shortest:
            self._shortest = seconds
        if deadline < self._wake_at:  # read after the add: the thread sees the host, or we see its wake-up
            self._wake(deadline)

    def disarm(self, host: Host) -> None:
        """The call has ended."""
        self._armed.discard(host)
        host.deadline = None

    def cancel(self, host: Host) -> None:
        """Stop the call that `host` serves, as if its deadline had come."""
        host.cancel()
        if host in self._armed:
            host.deadline = 0.0
            self._wake(0.0)
        else:
            self._tick()

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _wake(self, at: float) -> None:
        with self._condition:
            if at < self._wake_at:
                self._wake_at = at
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="cloche-watchdog", daemon=True)
                    self._thread.start()
                self._condition.notify()

    def _run(self) -> None:
        condition = self._condition
        with condition:
            while not self._closed:
                now = time.monotonic()
                if now < self._wake_at:
                    condition.wait(None if self._wake_at == math.inf else self._wake_at - now)
                    continue
                self._wake_at = self._next(now)

    def _next(self, now: float) -> float:
        """Tick if a deadline has come; when to look again."""
        deadlines = [host.deadline for host in tuple(self._armed) if host.deadline is not None]
        if any(deadline <= now for deadline in deadlines):
            self._tick()
            return now + _AGAIN_S
        if not deadlines and not self._busy:
            self._shortest = math.inf
            return math.inf
        # Calls come and go: wake no later than the next one's deadline can be, so that arming it needs no wake-up.
        self._busy = False
        return min([now + self._shortest, *deadlines])


def _start_over_in_child(reference: weakref.ref[Watchdog]) -> None:
    watchdog = reference()
    if watchdog is not None:
        watchdog._start_over()
