"""`Placement`: the five verbs of a node wherever it runs: start, call a batch, snapshot, restore, stop.

The engine of a pipeline knows nothing else of a node. `_placements` has one implementation for each `Place`; a program can pass its
own (another machine, a container) as `NodeSpec.placement`, see `PlaceFactory`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from cloche._runtime.batches import BatchResult
from cloche._sandbox import Snapshot
from cloche.pipeline._channel import End, Failed, Packet
from cloche.pipeline._log import PipelineLogger
from cloche.pipeline._rejected import Rejected
from cloche.pipeline._status import StageStatus

if TYPE_CHECKING:
    from cloche._recording import Recording
    from cloche.pipeline.graph import Graph

__all__ = [
    "Ahead",
    "Answer",
    "BatchResult",
    "Discardable",
    "Elsewhere",
    "Measured",
    "Placed",
    "Placement",
    "Prepared",
    "Recorded",
    "State",
]

State: TypeAlias = "Snapshot | bytes"
"""The state of a node: a sandbox's snapshot, or bytes that only the same kind of placement reads."""


class Placement(Protocol):
    """One node, or one copy of it, in its place. All methods are called on one thread, one after the other; `interrupt` on any."""

    def start(self) -> BatchResult:
        """Load the node, call ``initialize``, and begin its stream.

        Returns:
            a result with one outcome: what the node gave before its first item; and whether it wants items at all.

        Raises:
            ClocheError: the node could not be loaded; nothing is left behind.
        """

    def call(self, items: Sequence[Any], *, end: bool = False) -> BatchResult:
        """Have the node work on items, one after the other.

        Args:
            items: the items.
            end: whether there are no more behind them.

        Raises:
            EncodeError: an item cannot be sent there. None was begun; several are then sent again, one by one.
            BrokenError: the place broke: nothing is known of the outcomes of these items. The node has been brought back if its
                specification says so, in the state in which it was before these items ("restore"), or after ``initialize``.
        """

    def snapshot(self) -> State:
        """The node's state between two calls, with the position of its stream.

        Raises:
            ClocheError: the state cannot be saved.
        """

    def restore(self, state: State) -> None:
        """Go on from a state that `snapshot` has given, here or elsewhere. It takes the place of `start`, or sets the node back.

        Raises:
            ClocheError: the state is of another node or version.
        """

    def stop(self) -> None:
        """Call ``cleanup``, and free everything. A second time it does nothing.

        Raises:
            Exception: ``cleanup`` raised; everything is free nevertheless.
        """

    def interrupt(self) -> None:
        """End the call under way, if there is one. Called on another thread, again and again until the call has returned."""


@runtime_checkable
class Measured(Protocol):
    """A placement that can say how much memory is its own."""

    def memory_bytes(self) -> int:
        """Memory that is the node's alone; 0 if it is stopped. Called on any thread, some times a second."""


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


@runtime_checkable
class Ahead(Protocol):
    """A chain of nodes elsewhere, which gets further batches before it has answered for those before.

    `Placement.call` is taken apart into `send` and `receive`, which are called on two threads; all other methods are called on the
    first of them, and but for `send` only when all batches are answered.

    Attributes:
        credits: batches that may be under way.
        state_names: what the states of its nodes are called in a checkpoint.
    """

    credits: int
    state_names: Sequence[str]

    def prepare(self) -> None:
        """As `Prepared.prepare`."""

    def is_source(self) -> bool:
        """As `Prepared.is_source`: whether its first node is one."""

    def start(self) -> BatchResult:
        """As `Placement.start`. What the nodes gave before their first item comes with that."""

    def send(self, packets: Sequence[Packet]) -> None:
        """Send items."""

    def receive(self) -> Answer:
        """The answer to the oldest batch that has none yet."""

    def finish(self, values: list[Any]) -> Answer:
        """End the input, with what came at its end; the marker has what the nodes gave at theirs."""

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

    def place(
        self, name: str, graph: Graph, prepared: Mapping[str, Snapshot], logger: PipelineLogger, session_id: str | None
    ) -> Placed:
        """Cut a pipeline into chains, and place them.

        Args:
            name: the pipeline's name.
            graph: its nodes and connections.
            prepared: the sandboxed nodes, loaded and not initialized.
            logger: gets what the nodes log.
            session_id: the session of the run.

        Raises:
            ClocheError: the nodes cannot be placed there.
        """


@runtime_checkable
class Discardable(Protocol):
    """A placement whose node can be given up, because it goes on somewhere else."""

    def discard(self) -> None:
        """Free everything, without ``cleanup``."""


@runtime_checkable
class Recorded(Protocol):
    """A placement that may record its node's calls."""

    def recording(self) -> Recording | None:
        """The node's last calls, once it is stopped; None: they were not recorded."""


@runtime_checkable
class Prepared(Protocol):
    """A placement that can load its node before `Placement.start`. All nodes are prepared, and checked, before any is started.

    One that is no `Prepared` is loaded by `Placement.start`, and takes items.
    """

    def prepare(self) -> None:
        """Load the node, and check that its place has what its ``get_capabilities()`` asks for. ``initialize`` is not called.

        Raises:
            PlacementError: the node cannot run there.
            ClocheError: the node could not be loaded.
        """

    def is_source(self) -> bool:
        """Whether the node makes outputs without items, once it is prepared or restored.

        Then `Placement.call` gets a number of Nones as items, and gives the outcome of one, which is the node's next output.
        """
