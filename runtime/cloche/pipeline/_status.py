"""`StageStatus` and `StageCounts`: how a node of a running pipeline is doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

__all__ = ["StageCounts", "StageStatus", "joined", "total"]


@dataclass
class StageCounts:
    """What a stage has done so far.

    Attributes:
        items: items that the node has worked on.
        outputs: outputs that it has made.
        failed: items for which it raised, retries not counted.
        retried: calls again after a failure.
        rejected: items that were skipped or handed to ``dead_letters``.
        breaks: how often its sandbox or process broke.
        batches: crossings.
        busy_s: seconds in which the node worked.
    """

    items: int = 0
    outputs: int = 0
    failed: int = 0
    retried: int = 0
    rejected: int = 0
    breaks: int = 0
    batches: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How a node of a running pipeline is doing.

    Attributes:
        node: its id.
        place: where it runs.
        waiting: items that wait for it.
        room: how many may wait (`NodeSpec.queue`).
        counts: what it has done so far, all copies together.
        p50_s: seconds that half of its last items did not exceed; None: there were none.
        p99_s: seconds that 99 of 100 of them did not exceed.
        memory_bytes: memory that is its own, all copies together; None: it is a part of this process.
        host: where it runs on a cluster, all copies together; "": in this process, or a child of it.
    """

    node: str
    place: str
    waiting: int
    room: int
    counts: StageCounts = field(hash=False)
    p50_s: float | None = None
    p99_s: float | None = None
    memory_bytes: int | None = None
    host: str = ""


def total(counts: Sequence[StageCounts]) -> StageCounts:
    """The sum of what several copies have done."""
    return StageCounts(*(sum(getattr(one, field.name) for one in counts) for field in fields(StageCounts)))


def joined(copies: Sequence[Sequence[StageStatus]], waiting: int) -> list[StageStatus]:
    """How the nodes of a chain are doing that runs on other machines.

    Args:
        copies: what each copy of the chain says.
        waiting: items that wait for it here.
    """
    found: list[StageStatus] = []
    for of_node in zip(*copies, strict=True):
        first = of_node[0]
        memory = [one.memory_bytes for one in of_node if one.memory_bytes is not None]
        found.append(
            replace(
                first,
                waiting=sum(one.waiting for one in of_node) + (0 if found else waiting),
                counts=total([one.counts for one in of_node]),
                p50_s=max((one.p50_s for one in of_node if one.p50_s is not None), default=None),
                p99_s=max((one.p99_s for one in of_node if one.p99_s is not None), default=None),
                memory_bytes=sum(memory) if memory else None,
                host=", ".join(dict.fromkeys(one.host for one in of_node if one.host)),
            )
        )
    return found
