"""Recovery from breaks (``on_break``): a `Supervisor` replaces a guest that broke by a new one with an earlier state.

That state is the last checkpoint, a snapshot of the node. A guest is at rest between two calls, and between two steps of a stream,
so a checkpoint can be taken at each of these points; open generators of a stream are part of it. Only the last checkpoint is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, ParamSpec, TypeVar, get_args

from cloche._arguments import checked_count
from cloche.errors import BrokenInstanceError, CallInterruptedError, ClocheError, ClosedError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._records import LogRecord, StreamPosition
    from cloche._requests import DebugHandler, ServiceHandler
    from cloche._sandbox import Base, Carried, CheckedSandbox, Observer, Recorded, SampleSource, Snapshot, Stats, Watch
    from cloche._wasm import FrameInfo
    from cloche.limits import Limits

__all__ = ["OnBreak", "RecoveryPolicy", "Supervisor"]

P = ParamSpec("P")
T = TypeVar("T")

OnBreak = Literal["raise", "restart", "restore"]
MAX_RESTARTS: Final = 3
_STEPS: Final = frozenset({Reply.NEED, Reply.YIELD, Reply.YIELD_NEED, Reply.END, Reply.BATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """What happens to a node when its instance breaks. `Runtime.load` describes each field.

    Raises:
        TypeError: a count is not a whole number.
        ValueError: a value is out of range, or does not go with that `on_break`.
    """

    on_break: OnBreak = "raise"
    checkpoint_every: int | None = None
    max_restarts: int = MAX_RESTARTS

    def __post_init__(self) -> None:
        if self.on_break not in get_args(OnBreak):
            raise ValueError(f"on_break is {self.on_break!r}: give one of {', '.join(map(repr, get_args(OnBreak)))}")
        if checked_count("max_restarts", self.max_restarts) != MAX_RESTARTS and self.on_break == "raise":
            raise ValueError("max_restarts is for on_break='restart' or 'restore', not 'raise'")
        if self.checkpoint_every is None:
            return
        if self.on_break != "restore":
            raise ValueError(f"checkpoint_every is for on_break='restore', not {self.on_break!r}")
        checked_count("checkpoint_every", self.checkpoint_every)


class Supervisor:
    """A sandbox that wraps another one, and replaces it after a break by one with the state of the last checkpoint.

    Args:
        sandbox: the first sandbox to wrap, its guest at rest.
        info: the guest's description of the node, see `Node.info`.
        policy: how often a checkpoint is taken, and how often in a row a sandbox may be replaced.
        revive: function that makes a sandbox of a checkpoint.
        checkpoint: the first checkpoint; None: the present state.
        carried: what the node has used in earlier sandboxes, if it was parked.
    """

    def __init__(
        self,
        sandbox: CheckedSandbox,
        info: dict[str, Any],
        policy: RecoveryPolicy,
        revive: Callable[[Snapshot], CheckedSandbox],
        checkpoint: Snapshot | None = None,
        carried: Carried | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._info = info
        self._policy = policy
        self._revive = revive
        self._every = (policy.checkpoint_every or 1) if policy.on_break == "restore" else math.inf
        self._since = 0
        self._in_a_row = 0
        self._breaks = 0
        self._restarts = 0
        self._bound: tuple[float | None, str] = None, "deadline_s"
        self._is_ending = False
        self._is_given_up = False
        if carried is not None:
            self._breaks, self._restarts, self._in_a_row = carried.breaks, carried.restarts, carried.in_a_row
        self._checkpoint = sandbox.snapshot(info) if checkpoint is None else checkpoint

    @property
    def name(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.name

    @property
    def limits(self) -> Limits:
        """See `Sandbox`."""
        return self._sandbox.limits

    @property
    def services(self) -> ServiceHandler | None:
        """See `Sandbox`."""
        return self._sandbox.services

    @property
    def closed(self) -> bool:
        """Whether the wrapped sandbox is closed for good: the node was closed, or broke and was not brought back."""
        return self._sandbox.closed and not self._is_replacement_due

    @property
    def position(self) -> StreamPosition | None:
        """See `Sandbox`."""
        return self._sandbox.position

    @property
    def watch(self) -> Watch | None:
        """See `Sandbox`."""
        return self._sandbox.watch

    @property
    def lease(self) -> bool:
        """See `Sandbox`."""
        return self._sandbox.lease

    @lease.setter
    def lease(self, lease: bool) -> None:
        self._sandbox.lease = lease

    @property
    def on_record(self) -> Callable[[LogRecord], object] | None:
        """See `Sandbox`."""
        return self._sandbox.on_record

    @on_record.setter
    def on_record(self, on_record: Callable[[LogRecord], object] | None) -> None:
        self._sandbox.on_record = on_record

    @property
    def checkpoint(self) -> Snapshot:
        """See `Sandbox`."""
        return self._checkpoint

    @property
    def recorded(self) -> Recorded | None:
        """See `Sandbox`."""
        return self._sandbox.recorded

    @property
    def generation(self) -> int:
        """See `Sandbox`. A sandbox that is still to be replaced counts as replaced: streams of its guest have ended."""
        return self._restarts + self._is_replacement_due

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Sandbox`. The error for a break says whether the node was brought back."""
        self._check_open()
        try:
            kind, value = self._sandbox.exchange(op, operands, root)
            in_stream = Op.STREAM_OPEN <= op < Op.STREAM_CLOSE or op == Op.STREAM_BATCH
            if kind in _STEPS if in_stream else kind is Reply.RESULT:  # for other replies the caller calls `finish`
                self._answered()
        except BaseException as error:
            self._recover(error)
            raise
        return kind, value

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """See `Sandbox`."""
        try:
            try:
                self._sandbox.finish(kind, value, op)
            except ClocheError:
                if not self._sandbox.closed:  # it has answered, and its state is what it is
                    self._answered()
                raise
        except BaseException as error:
            self._recover(error)
            raise

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """See `Sandbox`. Asks the present guest alone: an observer may ask when a call has broken it, before it is replaced."""
        if self._sandbox.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        return self._recovering(self._sandbox.aside, op, operands)

    def share(self, length: int) -> memoryview:
        """See `Sandbox`. After a break the buffer is no longer guest memory: its contents are copied when they are passed."""
        return self._recovering(self._sandbox.share, length)

    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """See `Sandbox`."""
        return self._recovering(self._sandbox.snapshot, info)

    def difference(self, info: dict[str, Any], base: Base) -> Snapshot:
        """See `Sandbox`."""
        return self._recovering(self._sandbox.difference, info, base)

    def carried(self) -> Carried:
        """See `Sandbox`."""
        carried = self._sandbox.carried()
        return replace(carried, breaks=self._breaks, restarts=self._restarts, in_a_row=self._in_a_row)

    @property
    def tie(self) -> str:
        """See `Sandbox`."""
        return self._sandbox.tie

    def take_checkpoint(self) -> None:
        """See `Sandbox`."""
        self._checkpoint = self.snapshot(self._info)
        self._since = 0

    def end_recovery(self) -> None:
        """See `Sandbox`."""
        self._is_ending = True

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """See `Sandbox`."""
        self._sandbox.limit_next_calls(seconds, field)
        self._bound = seconds, field

    def expect_items(self, items: int) -> None:
        """See `Sandbox`."""
        self._sandbox.expect_items(items)

    def stats(self) -> Stats:
        """See `Sandbox`. Counts all sandboxes that the node has had."""
        return replace(self._sandbox.stats(), breaks=self._breaks, restarts=self._restarts)

    @property
    def private_bytes(self) -> int:
        """See `Sandbox`."""
        return self._sandbox.private_bytes

    def where(self) -> tuple[FrameInfo, ...]:
        """See `Sandbox`."""
        return self._sandbox.where()

    def canceller(self) -> Callable[[], bool]:
        """See `Sandbox`."""
        return self._sandbox.canceller()

    def observe(self, observer: Observer) -> None:
        """See `Sandbox`. After a break the observer follows the new sandbox."""
        self._sandbox.observe(observer)

    def end_observation(self, observer: Observer) -> None:
        """See `Sandbox`."""
        self._sandbox.end_observation(observer)

    def attach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`. After a break the new guest has no debugger."""
        self._recovering(self._sandbox.attach, debugger)

    def detach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`."""
        self._sandbox.detach(debugger)

    def layout(self) -> dict[str, int]:
        """See `Sandbox`."""
        return self._sandbox.layout()

    def sample_apart(self, period_s: float) -> SampleSource | None:
        """See `Sandbox`. After a break a sandbox in another process is sampled no longer."""
        return self._sandbox.sample_apart(period_s)

    def sample(self, word: int) -> None:
        """See `Sandbox`. After a break the new sandbox is sampled."""
        self._sandbox.sample(word)

    def end_sample(self, word: int) -> None:
        """See `Sandbox`."""
        self._sandbox.end_sample(word)

    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`."""
        self._is_ending = True
        self._sandbox.close(keep=keep)

    def _check_open(self) -> None:
        """Refuse what needs a guest, so that a guest that was given up is not taken for one that has just broken."""
        if self._is_replacement_due:
            self._replace()
        if self._sandbox.closed:
            raise ClosedError(f"node {self.name!r} is closed")

    @property
    def _is_replacement_due(self) -> bool:
        """Whether the wrapped sandbox has broken and is to be replaced. If `_replace` was interrupted, the next call does it."""
        return self._sandbox.closed and not (self._is_ending or self._is_given_up)

    def _recovering(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a method of the wrapped sandbox, and replace that sandbox if the call breaks it."""
        self._check_open()
        try:
            return function(*arguments, **keywords)
        except BaseException as error:
            self._recover(error)
            raise

    def _answered(self) -> None:
        self._in_a_row = 0
        self._since += 1
        if self._since >= self._every:
            self.take_checkpoint()

    def _recover(self, error: BaseException) -> None:
        """Replace the wrapped sandbox if the call that raised `error` has closed it, and note in the error what was done."""
        if not self._is_replacement_due:
            return
        old = self._sandbox
        try:
            self._bring_back(error)
        finally:
            if old.watch is not None:
                old.watch.report_break(self._policy.on_break if self._sandbox is not old else None)

    def _bring_back(self, error: BaseException) -> None:
        self._breaks += 1
        broken = error if isinstance(error, BrokenInstanceError) else None
        if broken is not None:
            broken.lost_calls = self._since
        if not isinstance(
            error, CallInterruptedError
        ):  # an interruption is the caller's doing: it does not count against the node
            self._in_a_row += 1
        most = self._policy.max_restarts
        if self._in_a_row > most:
            self._is_given_up = True
            error.add_note(f"it was brought back {most} times in a row, and has answered no call since (max_restarts)")
            return
        try:
            self._replace()
        except Exception as later:
            error.add_note(f"and it could not be brought back: {later}")
            return
        if broken is not None and self._policy.on_break != "raise":
            broken.recovered = self._policy.on_break
            broken.resume_at = self._sandbox.position

    def _replace(self) -> None:
        """Make a sandbox of the last checkpoint, and wrap it. If that fails, the node is given up; after an interrupt it is not.

        Raises:
            ClocheError: no sandbox could be made.
        """
        old = self._sandbox
        try:
            new = self._revive(replace(self._checkpoint, calls=old.calls))
            new.continue_from(old)
            new.limit_next_calls(*self._bound)
        except Exception:
            self._is_given_up = True
            raise
        self._since = 0
        self._restarts += 1  # before the new sandbox: it ends streams of the old guest
        self._sandbox = new
