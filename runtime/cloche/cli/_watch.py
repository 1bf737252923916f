"""`Watch`: how a pipeline is doing: what the live view, the web page and the summary show."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche.cluster import Cluster, HostStatus
    from cloche.pipeline import Pipeline, StageStatus

__all__ = ["HEADS", "HOST_HEADS", "HostFigures", "NodeFigures", "Watch", "cells", "duration", "host_cells"]

_WINDOW_S: Final = 3.0
"""Seconds over which a rate is taken."""
_APART_S: Final = 0.2
"""Least seconds between two looks that are kept, however many watch."""
HEADS: Final = ("node", "place", "items", "items/s", "p50", "p99", "memory", "queue", "breaks", "retries", "rejected")
"""The columns of a pipeline that runs here."""
_HOST: Final = "host"
"""One more of a pipeline that runs on a cluster."""
HOST_HEADS: Final = ("host", "machine", "load", "memory", "chains")
"""What `host_cells` has in each column."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """How one node is doing.

    Attributes:
        status: what the pipeline says of it.
        rate: items a second, over the last few seconds.
    """

    status: StageStatus
    rate: float


@dataclass(frozen=True, slots=True)
class HostFigures:
    """How a host of the cluster is doing.

    Attributes:
        status: what the cluster says of it.
        load: seconds of work that its nodes have done in a second, over the last few.
    """

    status: HostStatus
    load: float

    @property
    def memory_bytes(self) -> int:
        """Memory of the nodes that are there."""
        return sum(chain.memory_bytes or 0 for chain in self.status.chains)


class _Rates:
    """Rates of counters over the last few seconds.

    Args:
        began: when all of them were 0.
    """

    def __init__(self, began: float) -> None:
        self._lock = threading.Lock()
        self._looks: deque[tuple[float, dict[str, float]]] = deque([(began, {})])

    def of(self, counters: Mapping[str, float]) -> dict[str, float]:
        """The rate of each counter, with these values now."""
        now = time.monotonic()
        with self._lock:
            looks = self._looks
            while len(looks) > 1 and looks[1][0] <= now - _WINDOW_S:
                looks.popleft()
            then, before = looks[0]
            if now - looks[-1][0] >= _APART_S:
                looks.append((now, dict(counters)))
        apart = max(now - then, 1e-3)
        return {name: (value - before.get(name, 0)) / apart for name, value in counters.items()}


class Watch:
    """Looks at a pipeline when somebody asks. Any thread may.

    Args:
        pipeline: the pipeline.
        cluster: where its nodes run; None: here.
    """

    def __init__(self, pipeline: Pipeline, cluster: Cluster | None = None) -> None:
        self.began = time.monotonic()
        self._pipeline = pipeline
        self._cluster = cluster
        self._items, self._busy = _Rates(self.began), _Rates(self.began)

    @property
    def heads(self) -> tuple[str, ...]:
        """The columns of the nodes' table."""
        return HEADS if self._cluster is None else (*HEADS[:2], _HOST, *HEADS[2:])

    @property
    def seconds(self) -> float:
        """How long the run has lasted."""
        return time.monotonic() - self.began

    def look(self) -> list[NodeFigures]:
        """How each node is doing, in the order of the pipeline."""
        found = self._pipeline.status
        rates = self._items.of({one.node: one.counts.items for one in found})
        return [NodeFigures(one, rates[one.node]) for one in found]

    def hosts(self) -> list[HostFigures]:
        """How each host of the cluster is doing; none: there is no cluster."""
        if self._cluster is None:
            return []
        found = self._cluster.status()
        loads = self._busy.of({chain.name: chain.busy_s for host in found for chain in host.chains})
        return [HostFigures(host, sum(max(0.0, loads[chain.name]) for chain in host.chains)) for host in found]

    def events(self) -> list[tuple[float, str]]:
        """What has happened in the cluster: how many seconds ago, and what."""
        if self._cluster is None:
            return []
        now = time.time()
        return [(max(0.0, now - event.at), event.text) for event in self._cluster.events]


def cells(figures: NodeFigures, heads: Sequence[str], *, seconds: float | None = None) -> tuple[str, ...]:
    """A node's figures as texts.

    Args:
        figures: the figures.
        heads: the columns.
        seconds: how long the run has lasted, if the rate is to be that of all of it.
    """
    one = figures.status
    counts = one.counts
    rate = figures.rate if seconds is None else counts.items / max(seconds, 1e-3)
    found = {
        "node": one.node,
        "place": one.place,
        _HOST: one.host or "-",
        "items": f"{counts.items:,}",
        "items/s": f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        "p50": duration(one.p50_s),
        "p99": duration(one.p99_s),
        "memory": "-" if one.memory_bytes is None else _mib(one.memory_bytes),
        "queue": "-" if one.place == "inline" else f"{one.waiting}/{one.room}",
        "breaks": f"{counts.breaks:,}",
        "retries": f"{counts.retried:,}",
        "rejected": f"{counts.rejected:,}",
    }
    return tuple(found[head] for head in heads)


def host_cells(figures: HostFigures) -> tuple[str, ...]:
    """A host's figures as texts, one for each of HOST_HEADS."""
    one = figures.status
    chains = ", ".join(chain.name for chain in one.chains)
    return (
        one.name,
        one.machine,
        f"{figures.load:.2f}",
        _mib(figures.memory_bytes),
        f"{chains or '-'}{' (draining)' if one.is_draining else ''}",
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def duration(seconds: float | None) -> str:
    """A time as a text; "-" for None."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
