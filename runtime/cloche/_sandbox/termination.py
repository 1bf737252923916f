"""Decides why a call ended (deadline, cancellation, trap, exit, limit), and makes the error that says so.

It stops nothing itself: the native core does (runtime/native/timer.c).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._sandbox.interface import GIVEN
from cloche._wasm import Reason, Stop
from cloche.errors import (
    BrokenInstanceError,
    CallInterruptedError,
    ClocheError,
    DeadlineError,
    FuelError,
    GuestExitError,
    GuestTrapError,
    HardDeadlineError,
    HardInterruptedError,
    NodeError,
    OutputError,
    ProtocolError,
)
from cloche_wire import Failure, Op, abi

if TYPE_CHECKING:
    from cloche._records import LogRecord
    from cloche._wasm import FrameInfo
    from cloche.limits import Limits

__all__ = [
    "ADVISED",
    "CallUsage",
    "interruption",
    "name_limit",
    "termination_error",
    "with_data",
]

_TAKING_DATA: Final = frozenset({int(Op.PROCESS), int(Op.STREAM_FEED)})
_COUNT_MASK: Final = abi.EXIT_OUTPUT - 1
ADVISED: Final = frozenset(
    ("FileNotFoundError", "ImportError", "ModuleNotFoundError", "NotADirectoryError", "PermissionError", "TypeError")
)
"""Exceptions of a call for which `cloche.remedies` may know what to do."""
_INTERRUPTIONS: Final = frozenset({"cloche_guest.DeadlineExceeded", "cloche_guest.Cancelled", "BaseExceptionGroup"})
"""Exceptions with which an interrupted node ends. A task group wraps them in a group, a `BaseExceptionGroup` as they are no
`Exception`."""


@dataclass(frozen=True, slots=True)
class CallUsage:
    """How a call ended, and the time and fuel that it used.

    Attributes:
        stopped: why the host stopped the guest; NONE: it did not.
        trap: the engine's name for the trap; "" if there was none.
        message: the engine's error message.
        exit_code: the argument of the guest's `exit`.
        seconds: wall time of the call.
        fuel: instructions that the call executed.
        limited_by: the field of `Limits` that bounded the call's time; GIVEN: a deadline for this call alone.
        limit_s: seconds that the call was allowed by that field.
        frames: the guest's Python frames at its end, the outermost first.
    """

    stopped: Reason
    trap: str = ""
    message: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    fuel: int = 0
    limited_by: str = "deadline_s"
    limit_s: float = 0.0
    frames: tuple[FrameInfo, ...] = ()


def termination_error(usage: CallUsage, limits: Limits, node: str, logs: Sequence[LogRecord]) -> BrokenInstanceError:
    """The error for a guest that did not return. A stop by the host explains the trap that it caused, so it is looked at first."""
    traceback = "".join(["Traceback (most recent call last):\n", *map(str, usage.frames)]) if usage.frames else ""
    match usage.stopped:
        case Reason.DEADLINE | Reason.BUDGET:
            ran = (
                f"{_time(usage, limits)}, and went on for {limits.grace_s:g} s of grace"
                if limits.grace_s
                else _time(usage, limits)
            )
            return HardDeadlineError(
                f"node {node!r} {ran}; it was stopped ({_limit(usage, limits)})",
                **_reached(usage, limits),
                node=node,
                last_logs=logs,
                guest_traceback=traceback,
            )
        case Reason.CANCELLED:
            went_on = f", and went on for {limits.grace_s:g} s of grace" if limits.grace_s else ""
            message = f"the call on node {node!r} was interrupted by its caller{went_on}; it was stopped"
            return HardInterruptedError(message, node=node, last_logs=logs)
        case Reason.REENTERED:
            return ProtocolError(
                "the guest asked the host again from inside node_alloc or node_check", node=node, last_logs=logs
            )
        case Reason.ABANDONED:
            return BrokenInstanceError(f"the call on node {node!r} was given up by its host", node=node, last_logs=logs)
        case Reason.EXITED if usage.exit_code & abi.EXIT_OUTPUT:
            written = max(usage.exit_code & _COUNT_MASK, limits.output_bytes + 1)
            message = (
                f"node {node!r} wrote {written} bytes of output in one call (Limits.output_bytes={limits.output_bytes})"
            )
            return OutputError(
                message, limit="output_bytes", value=limits.output_bytes, reached=written, node=node, last_logs=logs
            )
        case Reason.EXITED:
            message = f"node {node!r} ended its own process with code {usage.exit_code}"
            return GuestExitError(message, code=usage.exit_code, node=node, last_logs=logs)
    if usage.trap == "OUT_OF_FUEL":
        message = f"node {node!r} burned {usage.fuel} instructions in one call (Limits.fuel={limits.fuel})"
        return FuelError(message, limit="fuel", value=limits.fuel or 0, reached=usage.fuel, node=node, last_logs=logs)
    hint = "; it recursed too deeply in C" if usage.trap == "STACK_OVERFLOW" else ""
    message = f"node {node!r} crashed its interpreter ({usage.trap or usage.message}){hint}"
    return GuestTrapError(message, trap_code=usage.trap, node=node, last_logs=logs, guest_traceback=traceback)


def _time(usage: CallUsage, limits: Limits) -> str:
    match usage.limited_by:
        case "load_s":
            return f"was still loading after {usage.limit_s:g} s (its imports and __init__ count)"
        case "stream_s":
            return f"ran {_reached(usage, limits)['reached']:.3f} s in one stream"
        case _:
            return f"ran {usage.seconds:.3f} s in one call"


def _limit(usage: CallUsage, limits: Limits) -> str:
    if usage.limited_by == GIVEN:
        return f"with_options(deadline_s={usage.limit_s})"
    return f"Limits.{usage.limited_by}={getattr(limits, usage.limited_by)}"


def _reached(usage: CallUsage, limits: Limits) -> dict[str, Any]:
    if usage.limited_by == GIVEN:
        return {"limit": "deadline_s", "value": usage.limit_s, "reached": usage.seconds}
    value = getattr(limits, usage.limited_by)
    before = (value or 0.0) - usage.limit_s if usage.limited_by == "stream_s" else 0.0
    return {"limit": usage.limited_by, "value": value, "reached": before + usage.seconds}


def _chain(failure: Failure | None) -> Iterator[Failure]:
    while failure is not None:
        yield failure
        failure = failure.cause


def interruption(
    error: NodeError, told: Stop | None, usage: CallUsage, limits: Limits, *, usable: bool = True
) -> ClocheError:
    """The error to raise for a failure of a guest that may have been interrupted.

    If the failure is, or was caused by, the exception with which the node was interrupted, the error is a `DeadlineError` or a
    `CallInterruptedError`. Otherwise it is the node's own failure, and `error` is returned.

    Args:
        error: the failure.
        told: why the guest was interrupted; None: it was not.
        usage: the time that the call used, and its limit.
        limits: the node's limits.
        usable: whether the node can be used afterwards; False: it was being loaded or restored, and its instance is closed.
    """
    if told is None or not any(failure.exc_type in _INTERRUPTIONS for failure in _chain(error.failure)):
        return error
    node = error.node
    if told is Stop.CANCELLED:
        what = "call on" if usable else "load of"
        return CallInterruptedError(
            f"the {what} node {node!r} was interrupted by its caller", node=node, failure=error.failure
        )
    outcome = "and is usable" if usable else f"so there is no node to use: raise Limits.{usage.limited_by}"
    made = DeadlineError(
        f"node {node!r} {_time(usage, limits)} ({_limit(usage, limits)}); it was interrupted, {outcome}",
        **_reached(usage, limits),
        node=node,
        guest_traceback=error.guest_traceback,
    )
    made.failure = error.failure
    return made


def with_data(error: BaseException, op: int, operands: Sequence[Any], *, in_pool: bool = False) -> BaseException:
    """Attach the caller's data, and whether the node was one of a pool, to the error of a call that broke it. Returns the error."""
    if isinstance(error, BrokenInstanceError):
        error.in_pool = in_pool
        if op in _TAKING_DATA:
            error.data = tuple(operands)
        elif op == Op.CALL:
            error.data = tuple(operands[1])
    return error


def name_limit(error: NodeError, limits: Limits, memory_bytes: int) -> None:
    """Name the limit in the error for a MemoryError or RecursionError. It is a guess: a node can raise them without a limit."""
    match error.exc_type.rpartition(".")[2]:
        case "MemoryError" | "_ArrayMemoryError":
            error.limit, error.value, error.reached = "memory_bytes", limits.memory_bytes, memory_bytes
            error.remedy = (
                f"It had {memory_bytes} bytes and wanted more (Limits.memory_bytes={limits.memory_bytes}): raise that limit if it "
                "may have more, up to 4 GiB."
            )
        case "RecursionError":
            depth = len(error.frames) + error.failure.omitted
            error.limit, error.value, error.reached = "stack_depth", limits.stack_depth, depth
            what = (
                "raise that limit if it may go deeper"
                if 2 * depth >= limits.stack_depth
                else "the node has lowered its limit, or recursed in C code, which has limits of its own"
            )
            error.remedy = f"It was {depth} frames deep (Limits.stack_depth={limits.stack_depth}): {what}."
