"""Nodes that live on after a break: in a new instance, from the state in which they were loaded or from their last checkpoint.

A checkpoint is a snapshot: a copy of the pages that the node has written to. The guest is at rest between two calls and between two
steps of a stream, so one can be taken at each of these points, with the stream's generators in it. One is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args

from cloche._requests.node_lock import NodeLock, exclusive
from cloche._runtime.node import Node, Stats
from cloche._sandbox.snapshot import Snapshot
from cloche._sandbox.termination import Cancelled
from cloche.errors import BrokenInstanceError, ClocheError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._isolation.remote_instance import RemoteInstance
    from cloche._records import StreamPosition
    from cloche._sandbox.instance import Instance

__all__ = ["OnBreak", "RecoveringNode", "RecoveryPolicy"]

OnBreak = Literal["raise", "restart", "restore"]
_STEPS: Final = frozenset({Reply.NEED, Reply.YIELD, Reply.YIELD_NEED, Reply.END})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """What becomes of a node whose instance breaks; see `Runtime.load`.

    Raises:
        ValueError: a value is out of range, or has no meaning with that `on_break`.
    """

    on_break: OnBreak = "raise"
    checkpoint_every: int | None = None
    max_restarts: int = 3

    def __post_init__(self) -> None:
        if self.on_break not in get_args(OnBreak):
            raise ValueError(f"on_break is {self.on_break!r}: give one of {', '.join(map(repr, get_args(OnBreak)))}")
        if self.max_restarts < 1:
            raise ValueError(f"max_restarts is {self.max_restarts}: give 1 or more, or on_break='raise'")
        if self.checkpoint_every is None:
            return
        if self.on_break != "restore":
            raise ValueError(f"checkpoint_every is for on_break='restore', not {self.on_break!r}")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is {self.checkpoint_every}: give the number of calls, 1 or more")


class RecoveringNode(Node):
    """A node whose `RecoveryPolicy` is not to raise only."""

    def __init__(
        self,
        instance: Instance | RemoteInstance,
        info: dict[str, Any],
        restore: Callable[[Snapshot, str, bool], Node],
        stream: StreamPosition | None,
        policy: RecoveryPolicy,
        revive: Callable[[Snapshot], Instance | RemoteInstance],
        lock: NodeLock | None = None,
    ) -> None:
        super().__init__(instance, info, restore, stream, lock)
        self._policy = policy
        self._revive = revive
        self._every = (policy.checkpoint_every or 1) if policy.on_break == "restore" else math.inf
        self._since = 0
        self._in_a_row = 0
        self._breaks = 0
        self._restarts = 0
        self._ending = False
        self._take()

    @property
    def checkpoint(self) -> Snapshot:
        """As `Node.checkpoint`."""
        return self._checkpoint

    @property
    def stats(self) -> Stats:
        """What the node has used so far, in all its instances."""
        return replace(super().stats, breaks=self._breaks, restarts=self._restarts)

    def process(self, *data: Any) -> Any:
        """As `Node.process`."""
        return self._call(Op.PROCESS, list(data), "data")

    @exclusive
    def initialize(self) -> Any:
        """As `Node.initialize`. What it leaves behind is part of the state to restart from."""
        result = super().initialize()
        self._take()
        return result

    @exclusive
    def buffer(self, shape: int | tuple[int, ...], dtype: Any = "float32") -> Any:
        """As `Node.buffer`. After a break it is no longer shared with the node, and what is passed of it is copied."""
        self._check_free()
        try:
            return super().buffer(shape, dtype)
        except BaseException as error:
            self._recover(error)
            raise

    def _close(self) -> None:
        """A cleanup that breaks the node is not recovered from."""
        self._ending = not self._busy
        super()._close()

    @exclusive
    def _exchange(self, op: Op, operands: list[Any], root: str, *, within: float | None = None) -> tuple[Reply, Any]:
        self._check_free()
        try:
            reply = super()._exchange(op, operands, root, within=within)
            in_stream = Op.STREAM_OPEN <= op < Op.STREAM_CLOSE
            if reply[0] in _STEPS if in_stream else reply[0] is Reply.RESULT:  # else `_finish` follows
                self._answered()
        except BaseException as error:
            self._recover(error)
            raise
        return reply

    def _finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        try:
            super()._finish(kind, value, op)
        except BaseException as error:
            if (
                isinstance(error, ClocheError) and not self._instance.closed
            ):  # it has answered, and its state is what it is
                self._answered()
            self._recover(error)
            raise

    def _answered(self) -> None:
        self._in_a_row = 0
        self._since += 1
        if self._since >= self._every:
            self._take()

    def _take(self) -> None:
        """Make the state at rest, of now, the one to come back to."""
        self._checkpoint = self._instance.snapshot(self.info, self._position)
        self._since = 0

    def _recover(self, error: BaseException) -> None:
        """If the call that raised `error` has cost the node its instance, give it a new one; the error then says so."""
        old = self._instance
        if not old.closed or self._closed or self._ending:
            return
        self._breaks += 1
        broken = error if isinstance(error, BrokenInstanceError) else None
        if broken is not None:
            broken.lost_calls = self._since
        if not isinstance(error, Cancelled):  # which is the caller's doing
            self._in_a_row += 1
        most = self._policy.max_restarts
        if self._in_a_row > most:
            error.add_note(f"it was brought back {most} times in a row, and has answered no call since (max_restarts)")
            return
        try:
            new = self._revive(replace(self._checkpoint, calls=old.calls))
        except Exception as later:
            error.add_note(f"and it could not be brought back: {later}")
            return
        new.guest_seconds += old.guest_seconds
        new.dropped_records += old.dropped_records
        new.fuel, new.last_fuel = new.fuel + old.fuel, old.last_fuel
        new.lease = old.lease
        if old.services is not None and new.services is not None:
            new.services.continue_from(old.services)
        self._instance, self._services = new, new.services
        self._generation += 1
        self._streaming = None
        self._position = self._checkpoint.stream
        self._since = 0
        self._restarts += 1
        if broken is not None and self._policy.on_break != "raise":
            broken.recovered = self._policy.on_break
            broken.resume_at = self._position
