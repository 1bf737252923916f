"""`CheckedSandbox`: checks each reply of a guest, and decides which error an unexpected one raises. Shared by all sandboxes.

Replies have been decoded by `_codec/codec.py` when they arrive here.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cloche._codec import REFUSED, Codec, refused_reply
from cloche._records import LogRecord, StreamPosition
from cloche._sandbox.carried import Carried
from cloche._sandbox.failures import raise_failure
from cloche._sandbox.interface import Stats
from cloche._sandbox.request_handlers import go_on_with, quotas
from cloche._sandbox.termination import ADVISED, interruption, name_limit, with_data
from cloche._wasm import HasCallState, Stop
from cloche.errors import ClocheError, ClosedError, NodeRaisedError, ProtocolError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._requests import DebugHandler, ServiceHandler
    from cloche._sandbox.difference import Base
    from cloche._sandbox.interface import Observer, Recorded, SampleSource, Watch
    from cloche._sandbox.snapshot import Snapshot
    from cloche._sandbox.termination import CallUsage
    from cloche._wasm import FrameInfo
    from cloche.limits import Limits

__all__ = ["CheckedSandbox"]

# plain values, because looking up a member of an enum would double the time of the check
_REPLIES: Final = tuple(Reply)
_KINDS: Final = len(_REPLIES)
_FAILURE: Final = Reply.FAILURE
_STREAM_OPEN, _STREAM_FEED, _STREAM_CLOSE = int(Op.STREAM_OPEN), int(Op.STREAM_FEED), int(Op.STREAM_CLOSE)
_STREAM_BATCH = int(Op.STREAM_BATCH)
_BEGINNING: Final = StreamPosition(0, 0, False)
_GOES_ON: Final = (Reply.YIELD, Reply.YIELD_NEED, Reply.NEED)
_STOPPED: Final = {Stop.DEADLINE: "DeadlineError", Stop.CANCELLED: "CallInterruptedError", Stop.BUDGET: "BudgetError"}


def _after_batch(position: StreamPosition | None, kind: Reply, value: Any) -> StreamPosition | None:
    """The position after a batch. One that is malformed or could not be sent leaves it; whoever asked for it looks at it."""
    if kind is not Reply.BATCH:
        return position
    try:
        if len(value) == 1:
            done = given = len(value[0])
            ended = False
        else:
            outcomes, failure, ended = value
            given = sum(map(len, outcomes))
            done = len(outcomes) + (failure is not None)
    except (TypeError, ValueError, LookupError):
        return position
    items, outputs, _ = _BEGINNING if position is None else position
    return None if ended else StreamPosition(items + done, outputs + given, True)


def _advanced(position: StreamPosition | None, op: int, kind: Reply) -> StreamPosition | None:
    """The position after a step, or None when the stream has ended."""
    if kind not in _GOES_ON:
        return None
    items, outputs, _ = _BEGINNING if position is None or op == _STREAM_OPEN else position
    return StreamPosition(items + (op == _STREAM_FEED), outputs + (kind is not Reply.NEED), kind is not Reply.YIELD)


def _private_bytes(sandbox: weakref.ref[CheckedSandbox]) -> int:
    """The private memory of a sandbox that statistics do not keep alive."""
    found = sandbox()
    return 0 if found is None else found.private_bytes


class CheckedSandbox(HasCallState, ABC):
    """A `Sandbox` with one guest. A subclass moves messages (`_reply_to`); this class interprets the replies.

    Attributes:
        limits: the node's limits.
        services: the services that the node may call; None if none was granted.
        closed: whether the sandbox has no guest any more.
        lease: whether large arrays of numbers arrive as views of guest memory.
        position: the position of the guest's open stream; None if no stream is open.
        observer: notified of each call; None if nobody observes.
        on_record: see `Sandbox`.
        guest_seconds: wall time spent in the guest.
        watch: follows the sandbox for the figures of its runtime; None: it belongs to none.
        dropped_records: log records that were dropped because they passed a limit, or were malformed.
        fuel: instructions executed in all calls.
        last_fuel: instructions executed in the last call.
    """

    __slots__ = (
        "closed",
        "dropped_records",
        "fuel",
        "guest_seconds",
        "host",
        "last_fuel",
        "lease",
        "limits",
        "observer",
        "on_record",
        "position",
        "services",
        "watch",
    )
    limits: Limits
    services: ServiceHandler | None
    closed: bool
    lease: bool
    position: StreamPosition | None
    observer: Observer | None
    watch: Watch | None
    on_record: Callable[[LogRecord], object] | None
    guest_seconds: float
    dropped_records: int
    fuel: int
    last_fuel: int
    checkpoint = None
    generation = 0

    @property
    def recorded(self) -> Recorded | None:
        """See `Sandbox`."""
        return None

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """Size of the guest's linear memory; 0 once closed."""

    @property
    @abstractmethod
    def traffic(self) -> Codec:
        """The codec, which counts bytes if the sandbox is a `Watched` one."""

    @abstractmethod
    def pay_from(self, account: int, left_ns: int | None) -> None:
        """Have the next call pay for its processor time.

        Args:
            account: address of the account (`Budget.account`), for a guest in this process; 0: it does not pay.
            left_ns: nanoseconds that are left, for a guest in another one; None: no limit, or it does not pay.
        """

    @abstractmethod
    def unpaid_ns(self, here_ns: int) -> int:
        """Processor time of the last call that no account has paid yet, in nanoseconds.

        Args:
            here_ns: processor time that the calling thread has used for it.
        """

    @abstractmethod
    def bound_memory(self, size: int) -> None:
        """Bound linear memory from now on, below `Limits.memory_bytes`."""

    @property
    @abstractmethod
    def told(self) -> Stop | None:
        """Why the guest was interrupted in the current or last call; None if it was not."""

    @property
    @abstractmethod
    def serial(self) -> int:
        """Serial number of the current or last call, for `cancel`."""

    @abstractmethod
    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        """Send one message. Returns the decoded reply or, if its value was refused, the codec's exception (one of `REFUSED`)."""

    @abstractmethod
    def fail(self, error: ProtocolError) -> ProtocolError:
        """Close the sandbox because its guest broke the protocol. Returns the error, with node and log records filled in."""

    @abstractmethod
    def usage(self) -> CallUsage:
        """How the last call ended, and the time and fuel that it used."""

    @abstractmethod
    def share(self, length: int) -> memoryview:
        """See `Sandbox`."""

    @abstractmethod
    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """See `Sandbox`."""

    @abstractmethod
    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """See `Sandbox`."""

    @property
    @abstractmethod
    def private_bytes(self) -> int:
        """See `Sandbox`."""

    @abstractmethod
    def expect_items(self, items: int) -> None:
        """See `Sandbox`."""

    @abstractmethod
    def where(self) -> tuple[FrameInfo, ...]:
        """See `Sandbox`."""

    @abstractmethod
    def cancel(self, serial: int = 0, number: int = 0) -> bool:
        """Interrupt a call. Called from another thread.

        Args:
            serial: serial number of the call; 0: the current one.
            number: the value of `calls` during that call; 0: the present value.

        Returns:
            whether the guest was in that call, and has been told.
        """

    @abstractmethod
    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`."""

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Sandbox`."""
        observer = None if self.closed else self.observer  # what a closed sandbox refuses is no call
        if observer is not None:
            observer.begin()
        is_refused = False
        try:
            reply = self._reply_to(op, operands, root)
            if type(reply) is list and len(reply) == 2 and type(number := reply[0]) is int and 0 <= number < _KINDS:
                kind, value = _REPLIES[number], reply[1]
            elif isinstance(reply, REFUSED):
                is_refused, kind, value = True, _FAILURE, refused_reply(reply)[1]
            else:
                raise self.fail(ProtocolError("a reply is [kind, value]"))
        except BaseException as error:
            if self.closed:
                with_data(error, op, operands, in_pool=self.host.in_pool)
                self._note_break(error, op)
            if observer is not None:
                observer.end(op, self.calls, type(error).__name__)
            raise
        if observer is not None:
            observer.end(op, self.calls, _STOPPED[self.told] if kind is _FAILURE and self.told is not None else "")
        if op == _STREAM_BATCH:
            self.position = _after_batch(self.position, kind, value)
        elif _STREAM_OPEN <= op <= _STREAM_CLOSE:
            self.position = _advanced(self.position, op, kind)
            if is_refused and op != _STREAM_CLOSE:
                self.exchange(
                    _STREAM_CLOSE, [], ""
                )  # the guest sent a valid output: it does not know that its value was refused
        return kind, value

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """See `Sandbox`."""
        try:
            if kind is _FAILURE:
                raise_failure(value, self.name, op)
            raise ProtocolError(f"node {self.name!r}: {kind.name} is no answer to {op.name}")
        except ProtocolError as error:
            self._note_break(self.fail(error), op)
            raise error from None
        except NodeRaisedError as error:
            name_limit(error, self.limits, self.memory_bytes)
            if error.exc_type in ADVISED:
                from cloche import remedies  # its tables are rarely needed

                error.remedy = remedies.for_failure(error.failure)
            if self.told is None:
                raise
            raised = interruption(error, self.told, self.usage(), self.limits)
            if raised is error:
                raise
        raise raised

    def stats(self) -> Stats:
        """See `Sandbox`."""
        return Stats(
            self.calls,
            self.guest_seconds,
            self.memory_bytes,
            self.dropped_records,
            self.fuel,
            self.last_fuel,
            _measure=partial(_private_bytes, weakref.ref(self)),
        )

    def _note_break(self, error: BaseException, op: int = -1) -> None:
        """Have the watch know that `error` has ended the guest, unless the sandbox was closed before."""
        if self.watch is not None and not isinstance(error, ClosedError):
            self.watch.broke(error, op, self.calls)

    def _note_end(self) -> None:
        """Have the watch know that the sandbox is closed."""
        if self.watch is not None:
            self.watch.closed(self.calls, self.guest_seconds)

    def continue_from(self, other: CheckedSandbox) -> None:
        """Take over counts, service records, lease and observer of the sandbox that this one replaces after a break."""
        if self.watch is not None:
            self.watch.inherit(other.guest_seconds)
        self.guest_seconds += other.guest_seconds
        self.dropped_records += other.dropped_records
        self.fuel, self.last_fuel = self.fuel + other.fuel, other.last_fuel
        self.lease = other.lease
        if other.services is not None and self.services is not None:
            self.services.continue_from(other.services)
        if other.observer is not None and self.observer is None:
            self.observe(other.observer)

    def difference(self, info: dict[str, Any], base: Base) -> Snapshot:
        """See `Sandbox`. Only an `Instance` makes differences."""
        return self.snapshot(info)

    def carried(self) -> Carried:
        """See `Sandbox`."""
        return Carried(
            seconds=self.guest_seconds,
            dropped_records=self.dropped_records,
            fuel=self.fuel,
            last_fuel=self.last_fuel,
            quotas=quotas(self.host),
            seed=self.host.seed,
        )

    def carry(self, carried: Carried) -> None:
        """Go on from what the node has used in the sandbox before this one.

        Raises:
            ClocheError: it is malformed.
        """
        if self.watch is not None:
            self.watch.inherit(carried.seconds)
        self.guest_seconds += carried.seconds
        self.dropped_records += carried.dropped_records
        self.fuel, self.last_fuel = self.fuel + carried.fuel, carried.last_fuel
        self.host.seed = self.host.seed or carried.seed
        if carried.quotas:
            go_on_with(carried.quotas, self.host)

    @property
    def tie(self) -> str:
        """See `Sandbox`."""
        if self.observer is not None:
            return "it is being profiled: end that first"
        if self.services is not None and self.services.abandoned.count:
            return "services that it called and that were given up still run: park it when they have ended"
        return ""

    def canceller(self) -> Callable[[], bool]:
        """See `Sandbox`."""
        while True:
            number, serial = self.calls, self.serial
            if number == self.calls:  # otherwise a call has begun meanwhile, and the two may belong to different calls
                return partial(self.cancel, serial, number)

    def observe(self, observer: Observer) -> None:
        """See `Sandbox`. Only an `Instance` can be observed."""
        raise self._not_observable()

    def end_observation(self, observer: Observer) -> None:
        """See `Sandbox`. Only an `Instance` can be observed."""

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """See `Sandbox`. Only an `Instance` can be observed."""
        raise self._not_observable()

    def attach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`. Only an `Instance` can be debugged."""
        raise ClocheError(
            f"node {self.name!r} has no sandbox in this process: load it in a Runtime with isolation='none' to debug it, or record "
            "it there and debug the recording (cloche debug call.cloche)"
        )

    def detach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`. Only an `Instance` can be debugged."""

    def layout(self) -> dict[str, int]:
        """See `Sandbox`. Only an `Instance` can be sampled."""
        raise ClocheError(
            f"node {self.name!r} has no sandbox in this process: load it in a Runtime with isolation='none' to sample it"
        )

    def sample_apart(self, period_s: float) -> SampleSource | None:
        """See `Sandbox`."""
        return None

    def sample(self, word: int) -> None:
        """See `Sandbox`. Only an `Instance` can be sampled."""
        self.layout()

    def end_sample(self, word: int) -> None:
        """See `Sandbox`. Only an `Instance` can be sampled."""

    def _not_observable(self) -> ClocheError:
        return ClocheError(
            f"node {self.name!r} has no sandbox in this process: load it in a Runtime with isolation='none' to time its calls"
        )

    def take_checkpoint(self) -> None:
        """Does nothing: this sandbox does not recover from breaks."""

    def end_recovery(self) -> None:
        """Does nothing: this sandbox does not recover from breaks."""
