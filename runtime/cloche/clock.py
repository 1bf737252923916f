"""The clocks of a node: the host's, or clocks that depend only on what the node does, so that its outputs repeat."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from cloche._keywords import teaches_fields

__all__ = ["Clock", "Mode"]

Mode = Literal["real", "frozen", "virtual"]

MAX_S: Final = (1 << 63) // 10**9 - 1
"""Clocks count nanoseconds in 64 bits: until the year 2262."""


@teaches_fields
@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of a node: ``time.time``, ``monotonic``, ``perf_counter``, ``process_time``, ``datetime.now`` and asyncio's.

    Attributes:
        mode: "real": the host's clocks. "frozen": the clocks stand still; sleeping returns at once and does not advance them.
            "virtual": sleeping returns at once and advances the clocks by its length; each reading advances them by `step_ns`.
        start: the time at which a frozen or virtual clock begins, when the node is loaded: seconds since the epoch, or a datetime
            with a time zone; None: the host's time.
        step_ns: nanoseconds by which each reading advances a virtual clock, so that a loop that waits for a time comes to an end;
            0: only sleeping advances it.
    """

    mode: Mode = "real"
    _: KW_ONLY
    start: float | datetime | None = None
    step_ns: int = 1000

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"clock is {self.mode!r}: give one of {', '.join(map(repr, get_args(Mode)))}")
        if type(self.step_ns) is not int or not 0 <= self.step_ns <= 10**9:
            raise ValueError(f"Clock.step_ns is {self.step_ns!r}: give a whole number from 0 to {10**9}")
        if self.start is None:
            return
        if self.mode == "real":
            raise ValueError("Clock.start is for a frozen or virtual clock; the real one cannot be set")
        if isinstance(self.start, datetime):
            if self.start.tzinfo is None:
                raise ValueError(
                    f"Clock.start is {self.start!r}, which has no time zone: give it one, e.g. timezone.utc"
                )
        elif isinstance(self.start, bool) or not isinstance(self.start, (int, float)):
            raise TypeError(f"Clock.start is {self.start!r}: give seconds since the epoch, or an aware datetime")
        if not math.isfinite(seconds := _seconds(self.start)) or not 0 <= seconds <= MAX_S:
            raise ValueError(f"Clock.start is {self.start!r}: give a time from 1970 to 2262")

    def start_ns(self, now_ns: int) -> int:
        """The time at which the clock begins, in nanoseconds since the epoch.

        Args:
            now_ns: the host's time, in the same unit.
        """
        if self.start is None:
            return now_ns
        if isinstance(self.start, int):
            return self.start * 10**9
        whole = int(seconds := _seconds(self.start))
        return whole * 10**9 + round((seconds - whole) * 10**6) * 1000


def _seconds(start: float | datetime) -> float:
    return start.timestamp() if isinstance(start, datetime) else start
