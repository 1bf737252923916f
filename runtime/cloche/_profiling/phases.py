"""Where the time of a call goes: phase by phase, on the host's clock, while somebody observes the node.

A node that is not observed pays for a comparison with None at each phase. Phases do not overlap: what is placed in guest memory
during encoding is "lower" and not "encode". While the guest runs, all is "guest", also the copy of the request's frame, and what
the host does to answer the guest (services, mounts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from cloche._sandbox import PHASES
from cloche_wire import Op

if TYPE_CHECKING:
    from cloche._runtime import Node

__all__ = ["NAMES", "CallPhases", "Phase", "Recorder", "record"]

NAMES: Final = PHASES

_MAX_SEGMENTS: Final = 400
"""Of one call; a list of a thousand arrays alternates between encode and lower as often. Totals count them all."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of a call, in seconds since the recorder began."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class CallPhases:
    """One exchange with the guest.

    Attributes:
        op: name of the `Op`.
        call: its number on the node.
        start: seconds since the recorder began.
        end: likewise.
        phases: its stretches in order, without overlap; at most 400 of them.
        totals: seconds by name, every one of `NAMES`. What is missing to ``end - start`` is the host's bookkeeping.
        failed: the exception's type, if the guest did not answer, or answered with a failure because it was told to stop; else "".
    """

    op: str
    call: int
    start: float
    end: float
    phases: tuple[Phase, ...]
    totals: dict[str, float]
    failed: str = ""


class Recorder:
    """An `Observer` that keeps the phases of the calls.

    Args:
        max_calls: how many calls are kept.
        after: called with each call once it is over.

    Attributes:
        calls: oldest first.
        dropped: calls after the first `max_calls`, of which nothing is kept.
    """

    def __init__(self, max_calls: int, after: Callable[[CallPhases], None] | None = None) -> None:
        self.calls: list[CallPhases] = []
        self.dropped = 0
        self._after = after
        self._max_calls = max_calls
        self._zero = perf_counter()
        self._name = ""
        self._since = self._began = 0.0
        self._segments: list[tuple[str, float, float]] = []
        self._totals = dict.fromkeys(NAMES, 0.0)

    def begin(self) -> None:
        """See `Observer`."""
        self._name = ""
        self._segments = []
        self._totals = dict.fromkeys(NAMES, 0.0)
        self._began = perf_counter()

    def phase(self, name: str) -> None:
        """See `Observer`."""
        now, left = perf_counter(), self._name
        if left:
            self._totals[left] += now - self._since
            if len(self._segments) < _MAX_SEGMENTS:
                self._segments.append((left, self._since, now))
        self._name, self._since = name, now

    def end(self, op: int, call: int, failed: str) -> None:
        """See `Observer`."""
        self.phase("")
        ended, zero = perf_counter(), self._zero
        phases = tuple(Phase(name, start - zero, end - zero) for name, start, end in self._segments)
        made = CallPhases(Op(op).name, call, self._began - zero, ended - zero, phases, self._totals, failed)
        if len(self.calls) < self._max_calls:
            self.calls.append(made)
        else:
            self.dropped += 1
        if self._after is not None:
            self._after(made)


@contextmanager
def record(
    node: Node, *, max_calls: int = 10_000, after: Callable[[CallPhases], None] | None = None
) -> Iterator[Recorder]:
    """Record the phases of every call on `node` in the block. Timing itself adds some 0.3 us to each phase.

    Args:
        node: it lives in a sandbox of this process.
        max_calls: how many calls are kept.
        after: called with each call once it is over; the node may be broken by then.

    Raises:
        ClocheError: the node is recorded already, or has no instance in this process.
        ClosedError: it is closed.
    """
    recorder = Recorder(max_calls, after)
    calls = node.__cloche__
    try:
        try:
            calls.observe(recorder)
            yield recorder
        finally:
            calls.end_observation(recorder)
    finally:
        calls.end_observation(recorder)  # again: an interrupt may have come before the first one had ended
