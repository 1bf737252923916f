"""What a driver and its hosts send each other. Both sides are trusted: an engine may send these as pickles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cloche.isolation import Isolation
from cloche.metering import Metering
from cloche.pipeline._channel import Packet
from cloche.pipeline._placements.orders import portable
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._status import StageStatus
from cloche.pipeline.graph import Edge
from cloche.pipeline.spec import NodeSpec

__all__ = [
    "Batch",
    "Done",
    "Order",
    "Raised",
    "Record",
    "Reply",
    "Started",
    "Stopped",
    "grouped",
    "raised",
]

Record: TypeAlias = tuple[str, str, Mapping[str, Any]]
"""What was logged: level, message and fields."""


@dataclass(frozen=True, slots=True)
class Order:
    """A chain of nodes, as a host has to know it.

    Attributes:
        pipeline: the pipeline's name.
        nodes: id -> specification, in order.
        edges: the connections between them.
        labels: id -> the node's name in logs.
        prepared: the sandboxed nodes, loaded and not initialized: id -> `Snapshot.to_bytes`.
        session_id: the session of the run.
        stop_s: as for `Pipeline`.
        isolation: as for `Runtime`.
        metering: as for `Runtime`; None: the host's default.
    """

    pipeline: str
    nodes: Mapping[str, NodeSpec]
    edges: Sequence[Edge]
    labels: Mapping[str, str]
    prepared: Mapping[str, bytes]
    session_id: str | None
    stop_s: float
    isolation: Isolation
    metering: Metering | None


@dataclass(frozen=True, slots=True)
class Started:
    """What became of starting a chain.

    Attributes:
        ended: whether it wants no items at all.
        outputs: what it gave then.
        states: its states after the start, pickled.
        logs: what was logged meanwhile.
    """

    ended: bool
    outputs: list[Any]
    states: bytes
    logs: list[Record]


@dataclass(frozen=True, slots=True)
class Batch:
    """Items for a chain; their values come beside it, in bundles.

    Attributes:
        part: id of the chain.
        sequence: number of the batch, from 0.
        numbers: numbers of the items.
        counts: how many values each has.
        picks: (bundle, place in it) of each value.
        is_end: whether there are no more items behind it; then the values are those that came at the end of the input.
        saves: whether the states are wanted after it.
    """

    part: str
    sequence: int
    numbers: Sequence[int]
    counts: Sequence[int]
    picks: Sequence[tuple[int, int]]
    is_end: bool = False
    saves: bool = False

    def packets(self, bundles: Sequence[Sequence[Any]]) -> list[Packet]:
        """The items with their values, as they are in a channel."""
        values = [bundles[bundle][place] for bundle, place in self.picks]
        return grouped(self.numbers, self.counts, values)


@dataclass(slots=True)
class Reply:
    """What a chain has made of a batch; the outputs come beside it, those of the end behind the others.

    Attributes:
        numbers: numbers of the items that were worked on.
        counts: how many outputs each has.
        ended: how many outputs the end of the chain has; None: it goes on.
        failed: the error that has ended it.
        letters: items that were handed to ``dead_letters``.
        logs: what was logged.
        states: the states after the batch, pickled, if they were wanted.
        saving_s: seconds that they have taken.
        status: how the nodes are doing, now and then.
    """

    numbers: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    ended: int | None = None
    failed: Raised | None = None
    letters: list[Rejected] = field(default_factory=list)
    logs: list[Record] = field(default_factory=list)
    states: bytes | None = None
    saving_s: float = 0.0
    status: list[StageStatus] | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of stopping a chain.

    Attributes:
        logs: what was logged since the last answer.
        failed: what its nodes' ``cleanup`` has raised.
    """

    logs: list[Record] = field(default_factory=list)
    failed: Raised | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A host has done what it was asked to."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Raised:
    """What a host was asked to do has raised. An exception's cause is lost when it is pickled, so it is sent beside it."""

    error: Exception
    cause: Exception | None = None

    def rebuilt(self) -> Exception:
        """The error, with its cause."""
        self.error.__cause__ = self.cause
        return self.error


def raised(error: BaseException) -> Raised:
    """An error as it can be sent."""
    cause = error.__cause__
    return Raised(portable(error), None if cause is None else portable(cause))


def grouped(numbers: Sequence[int], counts: Sequence[int], values: Sequence[Any]) -> list[Packet]:
    """Values by the items that they belong to."""
    packets = []
    at = 0
    for number, count in zip(numbers, counts, strict=True):
        packets.append((number, list(values[at : at + count])))
        at += count
    return packets
