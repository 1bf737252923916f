"""Why a guest was stopped: what the host knows, and what the trap says, as the error to raise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._ffi import Trapped
from cloche._host import Host, Stop
from cloche.errors import (
    BrokenInstanceError,
    DeadlineError,
    FuelError,
    GuestExitError,
    GuestTrapError,
    InternalError,
    LimitError,
    NodeError,
    OutputError,
    ProtocolError,
)
from cloche_wire import Op, abi

if TYPE_CHECKING:
    from cloche._logs import LogRecord
    from cloche.limits import Limits

__all__ = ["Cancelled", "Spent", "name_limit", "reason", "with_data"]

_TAKING_DATA: Final = frozenset({int(Op.PROCESS), int(Op.STREAM_FEED)})
_COUNT_MASK: Final = abi.EXIT_OUTPUT - 1


class Cancelled(BrokenInstanceError):
    """The call was cancelled by the host, and the guest had to be stopped for it; or it had not begun, and nothing is lost.

    Args:
        begun: whether it had.
    """

    def __init__(
        self, message: str, *, node: str = "", last_logs: Sequence[LogRecord] = (), begun: bool = True
    ) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self._begun = begun

    def __str__(self) -> str:
        return super().__str__() if self._begun else str(self.args[0])


@dataclass(frozen=True, slots=True)
class Spent:
    """What the call that ended had used.

    Attributes:
        seconds: of wall time.
        fuel: instructions.
        stream_s: seconds of its stream before it, if ``stream_s`` was what bounded it; else None.
    """

    seconds: float
    fuel: int = 0
    stream_s: float | None = None


def reason(
    trapped: Trapped, stop: Stop | None, host: Host, limits: Limits, spent: Spent, node: str, logs: Sequence[LogRecord]
) -> BaseException:
    """The error for a guest that did not return. What the host knows of the reason comes before what the trap says."""
    if isinstance(host.error, Trapped):  # the guest stopped inside node_alloc or node_check, for an answer
        trapped = host.error
    elif isinstance(host.error, ProtocolError):
        host.error.node, host.error.last_logs = node, tuple(logs)
        return host.error
    elif host.error is not None:
        if not isinstance(host.error, Exception):
            return host.error  # KeyboardInterrupt, SystemExit
        error = InternalError(f"a host function failed while node {node!r} ran: {host.error!r}")
        error.__cause__ = host.error
        return error

    def limit(kind: type[LimitError], field: str, reached: float, text: str) -> LimitError:
        value = getattr(limits, field)
        message = f"node {node!r} {text} (Limits.{field}={value})"
        return kind(message, limit=field, value=value, reached=reached, node=node, last_logs=logs)

    match stop:
        case Stop.DEADLINE if spent.stream_s is not None:
            seconds = spent.stream_s + spent.seconds
            return limit(DeadlineError, "stream_s", seconds, f"ran {seconds:.3f} s in one stream")
        case Stop.DEADLINE:
            return limit(DeadlineError, "deadline_s", spent.seconds, f"ran {spent.seconds:.3f} s in one call")
        case Stop.CANCELLED:
            return Cancelled(f"the call on node {node!r} was cancelled", node=node, last_logs=logs)
        case Stop.EXIT if host.exit_code & abi.EXIT_OUTPUT:
            written = max(host.exit_code & _COUNT_MASK, limits.output_bytes + 1)
            return limit(OutputError, "output_bytes", written, f"wrote {written} bytes of output in one call")
        case Stop.EXIT:
            message = f"node {node!r} ended its own process with code {host.exit_code}"
            return GuestExitError(message, code=host.exit_code, node=node, last_logs=logs)
    if trapped.code == "OUT_OF_FUEL":
        return limit(FuelError, "fuel", spent.fuel, f"burned {spent.fuel} instructions in one call")
    hint = "; it recursed too deeply in C" if trapped.code == "STACK_OVERFLOW" else ""
    message = f"node {node!r} crashed its interpreter ({trapped.code or trapped}){hint}"
    return GuestTrapError(message, trap_code=trapped.code, node=node, last_logs=logs)


def with_data(error: BaseException, op: int, operands: Sequence[Any]) -> BaseException:
    """The error, with the caller's data that the guest was given."""
    if op in _TAKING_DATA and isinstance(error, BrokenInstanceError):
        error.data = tuple(operands)
    return error


def name_limit(error: NodeError, limits: Limits, memory_bytes: int) -> None:
    """Say on a node's MemoryError or RecursionError which limit it met, as far as the host can tell: nodes raise them, too."""
    match error.exc_type.rpartition(".")[2]:
        case "MemoryError" | "_ArrayMemoryError":
            error.limit, error.value, error.reached = "memory_bytes", limits.memory_bytes, memory_bytes
            error.remedy = f"It had {memory_bytes} bytes and wanted more (Limits.memory_bytes={limits.memory_bytes})."
        case "RecursionError":
            depth = len(error.frames) + error.failure.omitted
            error.limit, error.value, error.reached = "stack_depth", limits.stack_depth, depth
            error.remedy = (
                f"It was {depth} frames deep (Limits.stack_depth={limits.stack_depth}; C code has limits of its own)."
            )
