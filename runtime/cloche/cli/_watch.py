"""`Watch`: how a pipeline is doing: what the live view, the web page and the summary show."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche.pipeline import Pipeline, StageStatus

__all__ = ["HEADS", "NodeFigures", "Watch", "cells", "duration"]

_WINDOW_S: Final = 3.0
"""Seconds over which a rate is taken."""
_APART_S: Final = 0.2
"""Least seconds between two looks that are kept, however many watch."""
HEADS: Final = ("node", "place", "items", "items/s", "p50", "p99", "memory", "queue", "breaks", "retries", "rejected")
"""What `cells` has in each column."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """How one node is doing.

    Attributes:
        status: what the pipeline says of it.
        rate: items a second, over the last few seconds.
    """

    status: StageStatus
    rate: float


class Watch:
    """Looks at a pipeline when somebody asks. Any thread may.

    Args:
        pipeline: the pipeline.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.began = time.monotonic()
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._looks: deque[tuple[float, dict[str, int]]] = deque([(self.began, {})])

    @property
    def seconds(self) -> float:
        """How long the run has lasted."""
        return time.monotonic() - self.began

    def look(self) -> list[NodeFigures]:
        """How each node is doing, in the order of the pipeline."""
        found = self._pipeline.status
        now = time.monotonic()
        items = {one.node: one.counts.items for one in found}
        with self._lock:
            looks = self._looks
            while len(looks) > 1 and looks[1][0] <= now - _WINDOW_S:
                looks.popleft()
            then, before = looks[0]
            if now - looks[-1][0] >= _APART_S:
                looks.append((now, items))
        apart = max(now - then, 1e-3)
        return [NodeFigures(one, (items[one.node] - before.get(one.node, 0)) / apart) for one in found]


def cells(figures: NodeFigures, *, seconds: float | None = None) -> tuple[str, ...]:
    """A node's figures as texts, one for each of HEADS.

    Args:
        figures: the figures.
        seconds: how long the run has lasted, if the rate is to be that of all of it.
    """
    one = figures.status
    counts = one.counts
    rate = figures.rate if seconds is None else counts.items / max(seconds, 1e-3)
    return (
        one.node,
        one.place,
        f"{counts.items:,}",
        f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        duration(one.p50_s),
        duration(one.p99_s),
        "-" if one.memory_bytes is None else f"{one.memory_bytes / (1 << 20):.1f} MiB",
        "-" if one.place == "inline" else f"{one.waiting}/{one.room}",
        f"{counts.breaks:,}",
        f"{counts.retried:,}",
        f"{counts.rejected:,}",
    )


def duration(seconds: float | None) -> str:
    """A time as a text; "-" for None."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
