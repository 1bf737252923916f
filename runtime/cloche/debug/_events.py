"""What a guest's debugger says: stops, frames and values. All of it is untrusted: checked, cut and cleaned here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloche import texts
from cloche.errors import ClocheError, ProtocolError

__all__ = [
    "MAX_ROWS",
    "ExceptionInfo",
    "Frame",
    "GuestError",
    "Placed",
    "Scope",
    "Stop",
    "Variable",
    "read_error",
    "read_frames",
    "read_names",
    "read_placed",
    "read_scopes",
    "read_stop",
    "read_variable",
    "read_variables",
]

MAX_ROWS: Final = 200
"""Frames or variables in one answer of a guest."""
_MAX_NUMBER: Final = 1 << 31
_MAX_POINTS: Final = 1000
_REASONS: Final = frozenset({"breakpoint", "function breakpoint", "step", "entry", "pause", "exception", "travel"})


class GuestError(ClocheError):
    """The guest could not do what the debugger asked: an expression raised, took too long, or names a value that is gone.

    Attributes:
        exc_type: name of the exception's type in the guest.
        message: its message.
    """

    def __init__(self, exc_type: str, message: str) -> None:
        super().__init__(f"{exc_type}: {message}" if message else exc_type)
        self.exc_type = exc_type
        self.message = message


@dataclass(frozen=True, slots=True)
class ExceptionInfo:
    """The exception at which the node has stopped.

    Attributes:
        exc_type: name of its type.
        message: its message.
        is_uncaught: whether it is about to leave the node; otherwise it has just been raised.
    """

    exc_type: str
    message: str
    is_uncaught: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The node has stopped.

    Attributes:
        reason: "breakpoint", "function breakpoint", "step", "entry", "pause", "exception" or "travel" (to an earlier line).
        text: more about it; often "".
        points: numbers of the breakpoints that were reached.
        exception: the exception, if that is the reason.
        count: lines that the node has begun in this call; 0: not counted.
        over: that count at the line before that is no deeper in the stack; 0: there is none.
        hit: that count at the last breakpoint before this; 0: there is none.
        also: with "travel", the reason for which the node would have stopped here in any case; "": none.
    """

    reason: str
    text: str = ""
    points: tuple[int, ...] = ()
    exception: ExceptionInfo | None = None
    count: int = 0
    over: int = 0
    hit: int = 0
    also: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the node's stack.

    Attributes:
        name: qualified name of the function.
        file: the file, as the guest calls it.
        line: line in the file; 0: not known.
        is_own: whether it is the node's own code.
    """

    name: str
    file: str
    line: int
    is_own: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """A value of the node.

    Attributes:
        name: its name, or its key or place in the value that it is a part of.
        text: its ``repr``, cut.
        type: name of its type.
        reference: a number with which its parts can be asked for while the node stays here; 0: it has none.
        count: number of its parts.
    """

    name: str
    text: str
    type: str
    reference: int
    count: int


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables of a frame.

    Attributes:
        name: "Locals" or "Globals".
        reference: as for `Variable`.
        count: number of variables.
    """

    name: str
    reference: int
    count: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a breakpoint is.

    Attributes:
        number: the breakpoint's number.
        line: its line; 0: it has none yet.
        problem: why it has none.
    """

    number: int
    line: int
    problem: str


def read_stop(value: Any) -> Stop:
    """Read the guest's "stopped".

    Raises:
        ProtocolError: it is malformed.
    """
    match value:
        case {"reason": str(reason), "text": str(text), "points": list(points)} if reason in _REASONS:
            numbers = tuple(_number(point) for point in points[:_MAX_POINTS])
        case _:
            raise _malformed("stop")
    exception = None
    match value.get("exception"):
        case [str(name), str(message), str(kind)]:
            exception = ExceptionInfo(texts.name(name), texts.clean(message), kind == "uncaught")
    count, over, hit = (_number(value.get(key, 0)) for key in ("count", "over", "hit"))
    also = value.get("also")
    return Stop(
        reason,
        texts.clean(text),
        numbers,
        exception,
        count=count,
        over=over,
        hit=hit,
        also=also if type(also) is str and also in _REASONS else "",
    )


def read_frames(value: Any) -> tuple[int, list[Frame]]:
    """Read the guest's answer to "stack": the number of all frames, and some of them. Raises as `read_stop` does."""
    match value:
        case [int(total), list(rows)] if len(rows) <= MAX_ROWS:
            return max(_number(total), len(rows)), [_frame(row) for row in rows]
    raise _malformed("stack")


def read_scopes(value: Any) -> list[Scope]:
    """Read the guest's answer to "scopes". Raises as `read_stop` does."""
    return [_scope(row) for row in _rows(value, "scopes")]


def read_variables(value: Any) -> list[Variable]:
    """Read the guest's answer to "children". Raises as `read_stop` does."""
    return [read_variable(row[1:], row[0]) for row in _rows(value, "variables") if type(row) is list and row]


def read_variable(value: Any, name: Any = "") -> Variable:
    """Read one value. Raises as `read_stop` does."""
    match value:
        case [str(text), str(kind), int(reference), int(count)] if type(name) is str:
            return Variable(texts.name(name), texts.clean(text), texts.name(kind), _number(reference), _number(count))
    raise _malformed("value")


def read_names(value: Any) -> list[str]:
    """Read the guest's answer to "complete". Raises as `read_stop` does."""
    return [texts.name(row) for row in _rows(value, "names") if type(row) is str]


def read_placed(value: Any) -> list[Placed]:
    """Read the guest's answer to "breakpoints". Raises as `read_stop` does."""
    found = []
    for row in value if type(value) is list and len(value) <= 100 * _MAX_POINTS else [None]:
        match row:
            case [int(number), int(line), str(problem)]:
                found.append(Placed(_number(number), _number(line), texts.line(problem)))
            case _:
                raise _malformed("breakpoint")
    return found


def read_error(value: Any) -> GuestError:
    """Read the guest's "failed". Raises as `read_stop` does."""
    match value:
        case [str(name), str(message)]:
            return GuestError(texts.name(name), texts.clean(message))
    raise _malformed("failure")


def _frame(row: Any) -> Frame:
    match row:
        case [str(name), str(file), int(line), bool(is_own)]:
            return Frame(texts.name(name), texts.name(file), _number(line), is_own)
    raise _malformed("frame")


def _scope(row: Any) -> Scope:
    match row:
        case [str(name), int(reference), int(count)]:
            return Scope(texts.name(name), _number(reference), _number(count))
    raise _malformed("scope")


def _rows(value: Any, what: str) -> list[Any]:
    if type(value) is not list or len(value) > MAX_ROWS:
        raise _malformed(what)
    return value


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value < _MAX_NUMBER else 0


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(f"the guest's debugger sent a malformed {what}")
