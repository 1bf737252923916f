"""Wakes when a deadline comes, and then has the guest stopped. One thread for each `Runtime`, idle in between.

How is the engine's affair: its epoch ticks, or the guest's memory is locked (`_guard`). An epoch counts for every store of an
engine; a store whose own deadline has not come goes on (see `Host.must_stop`). So a deadline is as precise as a wake-up, and no
periodic tick disturbs a host that waits.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche._host import Host

__all__ = ["Watchdog"]

_AGAIN_S: Final = 0.002
"""A guest that was inside a host function when its deadline came is caught by one of the next attempts."""


class Watchdog:
    """Keeps the deadlines of the calls under way on one engine.

    Args:
        stop: stops the guests of these hosts, if they must stop; called again while they have not.
    """

    def __init__(self, stop: Callable[[Sequence[Host]], None]) -> None:
        self._stop = stop
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
        self._stop((host,))
        if host in self._armed:
            host.deadline = 0.0
            self._wake(0.0)

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
        """Stop the guests whose deadline has come; when to look again."""
        armed = [(host.deadline, host) for host in tuple(self._armed)]
        if late := [host for deadline, host in armed if deadline is not None and deadline <= now]:
            self._stop(late)
            return now + _AGAIN_S
        deadlines = [deadline for deadline, _ in armed if deadline is not None]
        if not deadlines and not self._busy:
            self._shortest = math.inf
            return math.inf
        # Calls come and go: wake no later than the next one's deadline can be, so that arming it needs no wake-up.
        self._busy = False
        return min([now + self._shortest, *deadlines])


def _start_over_in_child(reference: weakref.ref[Watchdog]) -> None:
    watchdog = reference()
    if watchdog is not None:
        for host in watchdog._armed:  # their threads do not exist here
            host.forked()
        watchdog._armed.clear()
        watchdog._start_over()
