"""The interface of a sandbox: what a node needs of whatever its guest lives in.

An `Instance` lives in this process, a `RemoteInstance` in a worker process, a `LocalInstance` without WebAssembly; a `Supervisor`
wraps one of these and replaces it when it breaks. `replies` has what the first three share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

if TYPE_CHECKING:
    from cloche._records import StreamPosition
    from cloche._requests import ServiceHandler
    from cloche._sandbox.snapshot import Snapshot
    from cloche._wasm import FrameInfo
    from cloche.limits import Limits
    from cloche_wire import Op, Reply

__all__ = ["PHASES", "Observer", "Sandbox", "Stats"]

PHASES: Final = ("encode", "lower", "guest", "lift", "decode", "logs")
"""The phases of a call, in the order in which a call meets them. What is copied into guest memory during encoding is "lower",
what is copied out of it "lift". While the guest runs, all is "guest", also what the host does to answer the guest's requests."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a node has used so far.

    Attributes:
        calls: calls into the guest, loading and the steps of streams included.
        seconds: wall time spent in the guest: its own marshaling included, the host's not.
        memory_bytes: linear memory that the guest has now, the interpreter included; 0 once closed.
        dropped_records: log records that were over a limit, or were no log records.
        fuel: WebAssembly instructions burned, under ``metering="fuel"``; else 0. The same calls burn the same, in every run.
        last_fuel: those of the last call.
        breaks: instances that the node has lost.
        restarts: how often it was brought back after that (see ``on_break`` of `Runtime.load`).
    """

    calls: int
    seconds: float
    memory_bytes: int
    dropped_records: int
    fuel: int = 0
    last_fuel: int = 0
    breaks: int = 0
    restarts: int = 0


class Observer(Protocol):
    """Follows the calls of one sandbox, on the thread that makes them. An exception of an observer ends the call."""

    def begin(self) -> None:
        """A call begins, in none of the phases."""

    def phase(self, name: str) -> None:
        """The call leaves the phase it was in, and enters this one of `PHASES`; "": the host's bookkeeping, which is none."""

    def end(self, op: int, call: int, failed: str) -> None:
        """The call has ended, and with it the phase it was in.

        Args:
            op: number of its `Op`.
            call: its number on the node.
            failed: the exception's type, if the guest did not answer, or answered with a failure because it was told to stop;
                else "".
        """


class Sandbox(Protocol):
    """One guest, with a node in it. Not thread-safe, but for `canceller` and `where`: `NodeCalls` lets in one call at a time.

    Attributes:
        lease: whether large arrays of numbers arrive as views of guest memory.
    """

    lease: bool

    @property
    def name(self) -> str:
        """The node's name, for errors and logs."""

    @property
    def limits(self) -> Limits:
        """What the guest may use."""

    @property
    def services(self) -> ServiceHandler | None:
        """The services that the node may call; None if none was granted."""

    @property
    def closed(self) -> bool:
        """Whether the guest is gone: it was closed, or it broke."""

    @property
    def position(self) -> StreamPosition | None:
        """Where the stream is that the guest has open; None: it has none."""

    @property
    def checkpoint(self) -> Snapshot | None:
        """The state that the sandbox would go on from if the guest broke now; None: a break is the end."""

    @property
    def generation(self) -> int:
        """How many guests the sandbox has had before this one."""

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """Send one message and return the reply: kind and value. Logs are delivered in every case.

        Args:
            op: a number of `cloche_wire.Op`.
            operands: what the message carries.
            root: what to call the operands in an `EncodeError`'s path.

        Raises:
            EncodeError: an operand cannot be sent; the guest was not entered.
            BrokenInstanceError: the guest was stopped, trapped, exited or broke the protocol, or its process died; the guest is
                gone.
            ClosedError: the guest was gone before.
        """

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """Raise what a reply other than the expected one means. The last call was the one that it answers.

        Raises:
            NodeRaisedError: the node's failure.
            DeadlineError: the failure is the node's answer to being told to stop. Likewise `Cancelled`.
            ProtocolError: the reply is no answer to that message, or a malformed failure; the guest is gone.
        """

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """As `exchange`, for the observer's own message: neither counted nor observed, and `finish` still means the call before.

        Raises:
            ClocheError: the sandbox can't be observed.
        """

    def share(self, length: int) -> memoryview:
        """A buffer of guest memory for the host to fill. Raises as `exchange` does."""

    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """The state at rest, copied out.

        Args:
            info: as `Node.info`.
        """

    def take_checkpoint(self) -> None:
        """Make the state at rest, of now, the one to go on from after a break, if a break is not the end."""

    def end_recovery(self) -> None:
        """From now on a break is the end."""

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """Bound the next calls by so many seconds, and name that field of `Limits` in their error; None: ``deadline_s`` again."""

    def stats(self) -> Stats:
        """What the node has used."""

    def where(self) -> tuple[FrameInfo, ...]:
        """The Python frames that the guest is in, the outermost first; empty once it is gone. From any thread."""

    def canceller(self) -> Callable[[], None]:
        """What tells the call under way to stop, and no later call, whenever it is called. From any thread."""

    def observe(self, observer: Observer) -> None:
        """Have an observer follow the calls from now on.

        Raises:
            ClocheError: the sandbox is observed already, or can't be.
        """

    def end_observation(self, observer: Observer) -> None:
        """Have that observer follow the calls no longer. If it does not, nothing happens, and another one goes on."""

    def close(self, *, keep: bool = False) -> None:
        """Free the guest; further calls raise ClosedError. Calling it again does nothing, or goes on after an interruption.

        Args:
            keep: the guest is at rest: its memory may be made pristine and used for the next one.
        """
