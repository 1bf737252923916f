"""`Placement`: the five verbs of a node wherever it runs: start, call a batch, snapshot, restore, stop.

The engine of a pipeline knows nothing else of a node. `_placements` has one implementation for each `Place`; a program can pass its
own (another machine, a container) as `NodeSpec.placement`, see `PlaceFactory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from cloche._runtime.batches import BatchResult
from cloche._sandbox import Snapshot

if TYPE_CHECKING:
    from cloche._recording import Recording

__all__ = ["BatchResult", "Discardable", "Measured", "Placement", "Prepared", "Recorded", "State"]

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

        Then `Placement.call` gets a number of Nones as items, and gives the outcome of one, which is the node's next output; no
        outcome, and that it has ended, if there is none.
        """
