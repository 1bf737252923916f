"""`Elsewhere`: other machines, on which the nodes of a pipeline run. It places chains of nodes, each of which is an `Ahead`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cloche._sandbox import Snapshot
from cloche.errors import EncodeError
from cloche.isolation import Isolation
from cloche.limits import Limits
from cloche.metering import Metering
from cloche.pipeline._channel import End, Failed, Packet
from cloche.pipeline._log import PipelineLogger
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._status import StageStatus
from cloche.pipeline.graph import Graph
from cloche.pipeline.placement import BatchResult, State

__all__ = ["Ahead", "Answer", "Elsewhere", "Loaded", "Placed", "Unsendable"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chain of nodes elsewhere has made of a batch.

    Attributes:
        packets: the outputs by the items that they were made of, in order.
        marker: how the chain has ended with this batch; None: it goes on.
        letters: items that were handed to ``dead_letters``.
    """

    packets: list[Packet]
    marker: End | Failed | None = None
    letters: Sequence[Rejected] = ()


class Unsendable(EncodeError):
    """An item cannot be sent there; nothing of its batch was.

    Args:
        message: why.
        number: number of the item.
        packet: its place among the packets of the batch.
        place: the place of the value in its packet.
    """

    def __init__(self, message: str, number: int, packet: int, place: int) -> None:
        super().__init__(message, f"item {number}")
        self.packet = packet
        self.place = place


@runtime_checkable
class Ahead(Protocol):
    """A chain of nodes elsewhere, which gets further batches before it has answered for those before.

    `Placement.call` is taken apart into `send` and `receive`, which are called on two threads; all other methods are called on the
    first of them, and but for `send` only when all batches are answered.

    """

    @property
    def window(self) -> int:
        """Number of batches that may be under way."""

    @property
    def entry(self) -> str:
        """Id of its first node."""

    @property
    def state_names(self) -> Sequence[str]:
        """What the states of its nodes are called in a checkpoint."""

    def prepare(self) -> None:
        """As `Prepared.prepare`."""

    def is_source(self) -> bool:
        """As `Prepared.is_source`: whether its first node is one."""

    def start(self) -> BatchResult:
        """As `Placement.start`. What the nodes gave before their first item comes with that."""

    def send(self, packets: Sequence[Packet]) -> None:
        """Send items.

        Raises:
            Unsendable: one of them cannot be sent.
        """

    def receive(self) -> Answer:
        """The answer to the oldest batch that has none yet."""

    def finish(self, values: list[Any]) -> Answer:
        """End the input, with what came at its end; the marker has what the nodes gave at theirs."""

    def abandon(self) -> None:
        """No more answers are wanted: nothing is left but to stop it. Called on any thread."""

    def states(self) -> Mapping[str, State]:
        """The states of the nodes, as `Placement.snapshot`; those that want no more items have none."""

    def restore(self, states: Mapping[str, State]) -> None:
        """As `Placement.restore`."""

    def stop(self) -> None:
        """As `Placement.stop`."""

    def interrupt(self) -> None:
        """As `Placement.interrupt`."""

    def status(self) -> Sequence[StageStatus]:
        """How each of the nodes is doing. Called on any thread."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The sandboxed nodes of a pipeline, loaded and not initialized, and how they have to run.

    Attributes:
        snapshots: id -> the node's state.
        limits: limits of those that have none of their own.
        isolation: as for `Runtime`.
        metering: likewise; None: the default of each host.
    """

    snapshots: Mapping[str, Snapshot]
    limits: Limits
    isolation: Isolation
    metering: Metering | None


@dataclass(frozen=True, slots=True)
class Placed:
    """The chains of a pipeline, placed elsewhere for one run.

    Attributes:
        graph: the chains and their connections; each has the name of its last node.
        places: name -> the placements of the chain, one for each copy.
        close: called when the run has ended.
    """

    graph: Graph
    places: Mapping[str, Sequence[Ahead]]
    close: Callable[[], None]


class Elsewhere(Protocol):
    """Other machines, or processes, on which pipelines run: a `cloche.cluster.Cluster`."""

    def place(self, name: str, graph: Graph, loaded: Loaded, logger: PipelineLogger, session_id: str | None) -> Placed:
        """Cut a pipeline into chains, and place them.

        Args:
            name: the pipeline's name.
            graph: its nodes and connections.
            loaded: its sandboxed nodes.
            logger: gets what the nodes log.
            session_id: the session of the run.

        Raises:
            ClocheError: the nodes cannot be placed there.
        """
