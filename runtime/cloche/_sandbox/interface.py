"""`Sandbox`: the interface through which a node uses its guest, wherever the guest runs.

Implementations: `Instance` (in this process), `RemoteInstance` (in a worker process), `LocalInstance` (plain Python, for tests).
These three share `replies.CheckedSandbox`. A `Supervisor` wraps one of them and replaces it after a break.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from cloche._html import table

if TYPE_CHECKING:
    from cloche._records import LogRecord, StreamPosition
    from cloche._requests import DebugHandler, ServiceHandler
    from cloche._sandbox.carried import Carried
    from cloche._sandbox.difference import Base
    from cloche._sandbox.snapshot import Snapshot
    from cloche._sandbox.tape import Kept, Tape
    from cloche._wasm import FrameInfo
    from cloche._wasm.sampler import Found
    from cloche.errors import ClocheError
    from cloche.limits import Limits
    from cloche_wire import Op, Reply

__all__ = [
    "GIVEN",
    "PHASES",
    "Exchange",
    "Observer",
    "Recorded",
    "Recorder",
    "SampleSource",
    "Sandbox",
    "Stats",
    "Watch",
]

GIVEN: Final = "given_s"
"""Stands for a field of `Limits` where a call's deadline is the option of `Node.with_options` instead."""

PHASES: Final = ("encode", "lower", "guest", "lift", "decode", "logs")
"""The phases of a call, in the order in which a call meets them. Copying into guest memory during encoding is "lower", copying out
of it is "lift". While the guest runs the phase is "guest", even while the host carries out a request of the guest."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The calls, time, memory and fuel that a node has used so far.

    Attributes:
        calls: calls into the guest, including loading and the steps of streams.
        seconds: wall time in the guest, including its own encoding and decoding, but not the host's.
        memory_bytes: current size of the guest's linear memory, including the interpreter; 0 once the node is closed.
        dropped_records: log records that were dropped because they passed a limit, or were malformed.
        fuel: WebAssembly instructions that the node's calls have executed, under ``metering="fuel"``; otherwise 0. The same calls
            give the same number in every run.
        last_fuel: the instructions of the last call.
        breaks: how many instances of the node have broken.
        restarts: how often the node was brought back after a break (see ``on_break`` of `Runtime.load`).
        private_bytes: memory that is the node's alone, as the kernel counts it now, when this attribute is read: pages of linear
            memory that the node has written to. The others are shared with the image, though a process's RSS may count them for
            each node. It costs a look at the kernel's page tables (up to a millisecond), which
            ``stats`` itself does not. 0 once the node is closed, and where /proc/self/pagemap cannot be read.
    """

    calls: int
    seconds: float
    memory_bytes: int
    dropped_records: int
    fuel: int = 0
    last_fuel: int = 0
    breaks: int = 0
    restarts: int = 0
    _measure: Callable[[], int] | int = field(default=0, repr=False, compare=False)

    @property
    def private_bytes(self) -> int:
        """See the class."""
        return self._measure if isinstance(self._measure, int) else self._measure()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with the number that `private_bytes` has now."""
        numbers = [getattr(self, each.name) for each in fields(self)[:-1]]
        return type(self), (*numbers, self.private_bytes)

    def _repr_html_(self) -> str:
        names = (*(each.name for each in fields(self)[:-1]), "private_bytes")
        return table("Stats", ((name, getattr(self, name)) for name in names))


Exchange = Callable[[int, Sequence[Any], str], "tuple[Reply, Any]"]
"""`Sandbox.exchange`."""


class Observer(Protocol):
    """Notified of the phases of each call of one sandbox, on the calling thread. An exception of an observer ends the call."""

    def begin(self) -> None:
        """A call begins. It is not in a phase yet."""

    def phase(self, name: str) -> None:
        """The call leaves its phase and enters this one of `PHASES`; "": no phase, for the host's bookkeeping."""

    def end(self, op: int, call: int, failed: str) -> None:
        """The call has ended, and so has its phase.

        Args:
            op: number of its `Op`.
            call: number of the call on the node.
            failed: name of the exception's type, if the guest did not answer, or answered with a failure because it was
                interrupted; otherwise "".
        """


class Watch(Protocol):
    """Follows one sandbox for the figures of its runtime, its hooks, and the node's budget.

    Attributes:
        is_supervised: whether a `Supervisor` calls `report_break` after each break.
    """

    is_supervised: bool

    def around(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """Make a call of a `Watched` sandbox: call `exchange` with the other arguments, once at most."""

    def explained(self, error: ClocheError) -> ClocheError:
        """The error to raise instead of one with which a call has ended; often the same."""

    def inherit(self, seconds: float) -> None:
        """The sandbox continues another one, whose wall time counts as its own from now on."""

    def broke(self, error: BaseException, op: int, call: int) -> None:
        """The guest has broken.

        Args:
            error: the error that the caller gets.
            op: number of the `Op` that broke it; -1 if it was not a message.
            call: number of the call on the node.
        """

    def report_break(self, recovered: str | None = None) -> None:
        """Report the last break, unless that has been done.

        Args:
            recovered: see `BreakRecord`.
        """

    def closed(self, calls: int, seconds: float) -> None:
        """The sandbox is closed. Later reports of the same change nothing.

        Args:
            calls: number of calls on the node so far, the inherited ones included.
            seconds: wall time in the guest so far, likewise.
        """


class Recorder(Protocol):
    """Keeps the tape of a node, over all the sandboxes that the node has had.

    Attributes:
        tape: the tape.
    """

    tape: Tape

    def failed(self, sandbox: Recorded, error: ClocheError) -> None:
        """A call has failed, or has broken the guest. The recorder may write a file, whose path goes into the error.

        Args:
            sandbox: the sandbox.
            error: what the caller gets.
        """


class Recorded(Protocol):
    """A sandbox whose calls are recorded.

    Attributes:
        recorder: keeps its tape.
        closed: see `Sandbox`.
        limits: see `Sandbox`.
        info: the guest's description of the node; None: it is being loaded.
        is_granted: whether the guest may make requests.
    """

    recorder: Recorder
    closed: bool
    limits: Limits
    info: dict[str, Any] | None
    is_granted: bool

    @property
    def name(self) -> str:
        """See `Sandbox`."""

    def begin(self, info: dict[str, Any]) -> None:
        """Take the first checkpoint: the node has been loaded.

        Args:
            info: the guest's description of the node.

        Raises:
            ClocheError: no snapshot can be taken.
        """

    def kept(self) -> Kept:
        """The node's last calls. The guest is at rest, or has broken.

        Raises:
            ClocheError: they are lost.
        """


class SampleSource(Protocol):
    """Samples of a guest in another process."""

    def read(self) -> Found:
        """What was found so far, in the first lane; after `end`, what was found until then."""

    def end(self) -> None:
        """End the sampling. Again: does nothing."""


class Sandbox(Protocol):
    """One guest with a node.

    Only `canceller`, `where`, `sample`, `end_sample` and `private_bytes` are thread-safe; for the others, `NodeCalls` lets in one
    call at a time.

    Attributes:
        lease: whether large arrays of numbers arrive as views of guest memory.
        on_record: called with each log record of the next calls while they run; None: nobody wants them before the call has ended.
            It returns at once, and raises no `Exception`.
    """

    lease: bool
    on_record: Callable[[LogRecord], object] | None

    @property
    def name(self) -> str:
        """The node's name, for errors and logs."""

    @property
    def limits(self) -> Limits:
        """The node's limits."""

    @property
    def services(self) -> ServiceHandler | None:
        """The services that the node may call; None if none was granted."""

    @property
    def closed(self) -> bool:
        """Whether the sandbox has no guest any more, because it was closed or the guest broke."""

    @property
    def watch(self) -> Watch | None:
        """Follows the sandbox for its runtime; None: it belongs to none."""

    @property
    def position(self) -> StreamPosition | None:
        """The position of the guest's open stream; None if no stream is open."""

    @property
    def checkpoint(self) -> Snapshot | None:
        """The state from which the sandbox would continue after a break; None if it does not recover from breaks."""

    @property
    def recorded(self) -> Recorded | None:
        """The sandbox whose calls are recorded: this one, or the one that it wraps; None if they are not."""

    @property
    def generation(self) -> int:
        """Number of guests that the sandbox has had before the current one."""

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """Send one message and return the reply: kind and value. The guest's log records are delivered, whatever the outcome.

        Args:
            op: a number of `cloche_wire.Op`.
            operands: operands of the message.
            root: name of the operands in the path of an `EncodeError`.

        Raises:
            EncodeError: an operand cannot be sent; the guest was not entered.
            BrokenInstanceError: the guest was stopped, trapped, exited or broke the protocol, or its worker process died. The
                sandbox is closed.
            ClosedError: the sandbox was closed already.
        """

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """Raise the error for a reply of an unexpected kind. Must follow the `exchange` that returned the reply.

        Raises:
            NodeRaisedError: the reply is a failure of the node.
            DeadlineError: the failure is the exception with which the node was interrupted at its deadline.
            CallInterruptedError: the same, after an interruption.
            ProtocolError: the reply does not answer that message, or is a malformed failure. The sandbox is closed.
        """

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """As `exchange`, for a message of the observer: neither counted nor observed. `finish` still refers to the call before it.

        Raises:
            ClocheError: the sandbox cannot be observed.
        """

    def share(self, length: int) -> memoryview:
        """A buffer of guest memory for the host to fill. Raises as `exchange` does."""

    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """A copy of the guest's state. The guest must be at rest.

        Args:
            info: the guest's description of the node, see `Node.info`.
        """

    def difference(self, info: dict[str, Any], base: Base) -> Snapshot:
        """As `snapshot`, but as a `Difference` from `base` if the sandbox can make one, for a state that is to be stored."""

    def carried(self) -> Carried:
        """What the node goes on with in another sandbox, beside the guest's state."""

    @property
    def tie(self) -> str:
        """What ties the node to this very sandbox, so that it cannot be parked, as the end of a sentence; "": nothing does."""

    def take_checkpoint(self) -> None:
        """Make the current state the one to continue from after a break, if the sandbox recovers from breaks."""

    def end_recovery(self) -> None:
        """Stop recovering from breaks."""

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """Set the deadline of the next calls.

        Args:
            seconds: time that each call may take; None: `Limits.deadline_s` again; infinite: as long as it takes.
            field: the field of `Limits` that the error names; GIVEN: the option ``deadline_s`` of `Node.with_options`.
        """

    def expect_items(self, items: int) -> None:
        """Say that the next call sends a batch of so many items: each of them has the deadline for itself. 0: it sends none."""

    def stats(self) -> Stats:
        """What the node has used so far."""

    @property
    def private_bytes(self) -> int:
        """See `Stats`. Thread-safe."""

    def where(self) -> tuple[FrameInfo, ...]:
        """The current Python frames of the guest, the outermost first; empty if the sandbox is closed. Thread-safe."""

    def canceller(self) -> Callable[[], bool]:
        """A function that interrupts the current call, and does nothing once that call has ended. Thread-safe.

        It returns whether the guest was in that call and has been told. Before the guest is entered there is nothing to tell.
        """

    def observe(self, observer: Observer) -> None:
        """Notify an observer of all further calls.

        Raises:
            ClocheError: the sandbox has an observer already, or cannot be observed.
        """

    def end_observation(self, observer: Observer) -> None:
        """Have that observer follow the calls no longer. If it does not, nothing happens, and another one goes on."""

    def attach(self, debugger: DebugHandler) -> None:
        """Have a debugger answer the requests of the guest's debugger, and follow all further calls. The guest must be at rest.

        Raises:
            ClocheError: the sandbox has a debugger already, or cannot be debugged.
        """

    def detach(self, debugger: DebugHandler) -> None:
        """End `attach`. If another debugger is attached, or none, nothing happens."""

    def layout(self) -> dict[str, int]:
        """The layout of the guest's interpreter, for `cloche._wasm.sampler`.

        Raises:
            ClocheError: there is no guest in this process.
        """

    def sample_apart(self, period_s: float) -> SampleSource | None:
        """Have a guest in another process sampled there; None: it is in this one, see `sample`. Thread-safe.

        Args:
            period_s: average time between two samples.

        Raises:
            ClocheError: it cannot be sampled.
        """

    def sample(self, word: int) -> None:
        """Have a sampler look at the guest, also in the middle of a call. Thread-safe.

        Args:
            word: from `cloche._wasm.sampler.Sampler.word`.

        Raises:
            ClocheError: another one does already, or there is no guest in this process.
        """

    def end_sample(self, word: int) -> None:
        """End what `sample` with the same word began, if it did. Thread-safe."""

    def close(self, *, keep: bool = False) -> None:
        """Free the guest; further calls raise ClosedError. Calling it again does nothing, or completes an interrupted `close`.

        Args:
            keep: True only if the guest is at rest: its memory may then be made pristine and used for another guest.
        """
