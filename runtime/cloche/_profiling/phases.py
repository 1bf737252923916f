"""`record`: measures the phases of each call of a node, on the host's clock.

A node that is not observed pays for one comparison with None at each phase. Phases do not overlap: time in which a body is placed
in guest memory during encoding counts as "lower", not as "encode". While the guest runs the phase is "guest". That includes copying
the request's frame, and the host's work on requests of the guest (services, mounts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

from cloche._sandbox import PHASES
from cloche_wire import Op

if TYPE_CHECKING:
    from cloche._runtime import Node

__all__ = ["NAMES", "CallPhases", "Phase", "Recorder", "record"]

NAMES: Final = PHASES

_MAX_SEGMENTS: Final = 400
"""Stretches kept of one call. More can come: a list of a thousand arrays alternates between encode and lower. Totals count all."""


@dataclass(frozen=True, slots=True)
class Phase:
    """An uninterrupted stretch of one phase; `start` and `end` in seconds since the recording began."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class CallPhases:
    """One exchange with the guest.

    Attributes:
        op: name of the `Op`.
        call: number of the call on the node.
        start: begin of the call, in seconds since the recording began.
        end: end of the call, likewise.
        phases: the first 400 stretches, in order, without overlap.
        totals: seconds of each phase, with all of `NAMES` as keys. The rest of ``end - start`` is the host's bookkeeping.
        failed: name of the exception's type, if the guest did not answer, or answered with a failure because it was interrupted;
            otherwise "".
    """

    op: str
    call: int
    start: float
    end: float
    phases: tuple[Phase, ...]
    totals: dict[str, float] = field(hash=False)
    failed: str = ""


class Recorder:
    """An `Observer` that keeps the phases of the calls.

    Args:
        max_calls: number of calls that are kept, the first ones.
        after: called with each call when it has ended.

    Attributes:
        calls: the calls that were kept, the oldest first.
        dropped: number of calls that were not kept.
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
    """Record the phases of every call on `node` inside the ``with`` block. Recording adds some 0.3 us to each phase.

    Args:
        node: a node in a sandbox of this process, not in a worker process.
        max_calls: number of calls that are kept, the first ones.
        after: called with each call when it has ended; the node may be broken by then.

    Raises:
        ClocheError: the node is being recorded already, or has no sandbox in this process.
        ClosedError: the node is closed.
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
