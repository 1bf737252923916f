"""`Inspector`: the frames and values of a stopped node, for a debugger. What it tells is bounded in number, size and depth.

Showing a value runs code of the node (``__repr__``), and so does evaluating an expression. When that takes too long, the host says
so, and `Expired` is raised there.
"""

from __future__ import annotations

import builtins
import linecache
import re
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cloche_guest import Interrupted
from cloche_guest.failure import as_text, text, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

MAX_TEXT: Final = 2000
"""Characters of a value that are shown."""
MAX_ROWS: Final = 200
"""Frames, variables or names in one answer."""
_MAX_NAME: Final = 200
_MAX_ITEMS: Final = 20
_DEPTH: Final = 3
_MAX_SOURCE: Final = 1 << 20
_FILE: Final = "<debugger>"
_BRACKETS: Final[dict[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)


class Expired(BaseException):
    """The host waits no longer for what the debugger is doing. Not an `Exception`, so that the node's code does not catch it."""


class _Scope:
    """The variables of a frame, as a value whose children are they."""

    def __init__(self, names: Any) -> None:
        self.names = names


class Inspector:
    """The frames of one stop, and the values that were shown since.

    Args:
        frames: frame and line, the innermost first.
        is_own: whether a file's code is to be shown as the node's own.
    """

    def __init__(self, frames: list[tuple[FrameType, int]], is_own: Callable[[str], bool]) -> None:
        self._frames = frames
        self._is_own = is_own
        self._values: list[Any] = []
        self._room = 0
        self._is_short = False

    def command(self, name: str, *operands: Any) -> Any:
        """Carry out one of the commands of docs/reference/wire.md that look at the node.

        Raises:
            LookupError: there is no such command, frame or value.
            Expired: it took too long.
            BaseException: the node's code raised this.
        """
        functions: dict[str, Callable[..., Any]] = {
            "stack": self._stack,
            "scopes": self._scopes,
            "children": self._children,
            "evaluate": self._evaluate,
            "assign": self._assign,
            "complete": self._complete,
            "source": self._source,
        }
        function = functions.get(name)
        if function is None:
            raise LookupError(f"a debugger has no command {name[:_MAX_NAME]!r}")
        self._is_short = False
        return function(*operands)

    def value(self, expression: Any, number: int = 0) -> Any:
        """The value of compiled code in a frame. Statements have the value None."""
        frame = self._frame(number)
        names = frame.f_locals
        if isinstance(expression, str):
            try:
                code = compile(expression.strip(), _FILE, "eval")
            except SyntaxError:
                exec(
                    compile(expression, _FILE, "exec"), frame.f_globals, names
                )  # what the user of the debugger asks for
                return None
        else:
            code = expression
        # a lambda or comprehension in it looks names up in the globals alone
        return eval(code, {**frame.f_globals, **names}, names)

    def shown(self, value: Any) -> str:
        """The value as a short text."""
        self._room = MAX_TEXT
        return text(self._shown(value, _DEPTH), MAX_TEXT)

    def _stack(self, start: int, count: int) -> list[Any]:
        rows = self._frames[start : start + min(count, MAX_ROWS)]
        return [
            len(self._frames),
            [
                [
                    text(frame.f_code.co_qualname, _MAX_NAME),
                    text(frame.f_code.co_filename, _MAX_NAME),
                    line,
                    self._is_own(frame.f_code.co_filename),
                ]
                for frame, line in rows
            ],
        ]

    def _scopes(self, number: int) -> list[Any]:
        frame = self._frame(number)
        scopes = [("Globals", frame.f_globals)]
        if frame.f_locals is not frame.f_globals:
            scopes.insert(0, ("Locals", frame.f_locals))
        return [[name, self._keep(_Scope(names)), len(names)] for name, names in scopes]

    def _children(self, reference: int, start: int, count: int) -> list[Any]:
        start, stop = max(0, start), max(0, start) + min(max(0, count), MAX_ROWS)
        value = self._kept(reference)
        return [[text(name, _MAX_NAME), *self._row(child)] for name, child in islice(_parts(value), start, stop)]

    def _evaluate(self, expression: str, number: int) -> list[Any]:
        return self._row(self.value(expression, number))

    def _assign(self, reference: int, name: str, expression: str, number: int) -> list[Any]:
        holder = self._kept(reference)
        value = self.value(compile(expression.strip(), _FILE, "eval"), number)
        if isinstance(holder, _Scope):
            holder.names[name] = value
        elif isinstance(holder, dict):
            key = next((key for key in holder if self.shown(key) == name), None)
            holder[name if key is None else key] = value
        elif isinstance(holder, (list, deque)):
            holder[int(name)] = value
        else:
            setattr(holder, name, value)
        return self._row(value)

    def _complete(self, begun: str, number: int) -> list[str]:
        found = re.search(r"((?:\w+\s*\.\s*)*)(\w*)$", begun)
        path, start = (found[1].strip(), found[2]) if found else ("", "")
        if path:
            names: Iterable[str] = dir(self.value(compile(path.rstrip(". "), _FILE, "eval"), number))
        else:
            frame = self._frame(number)
            names = {*frame.f_locals, *frame.f_globals, *vars(builtins)}
        fitting = sorted(name for name in names if type(name) is str and name.startswith(start))
        return [text(name, _MAX_NAME) for name in fitting[:MAX_ROWS]]

    def _source(self, file: str) -> str:
        return text("".join(linecache.getlines(file)), _MAX_SOURCE)

    def _frame(self, number: int) -> FrameType:
        if not 0 <= number < len(self._frames):
            raise LookupError(f"there is no frame {number}")
        return self._frames[number][0]

    def _keep(self, value: Any) -> int:
        self._values.append(value)
        return len(self._values)

    def _kept(self, reference: int) -> Any:
        if not 0 < reference <= len(self._values):
            raise LookupError("the node has gone on since that value was shown")
        return self._values[reference - 1]

    def _row(self, value: Any) -> list[Any]:
        """Text, type, reference (0: it has no parts) and number of parts of a value."""
        count = _count(value)
        return [self.shown(value), _type_of(value), self._keep(value) if count else 0, count]

    def _shown(self, value: Any, depth: int) -> str:
        kind: Any = type(value)
        if kind is str or kind is bytes:
            shown = repr(value[: MAX_TEXT + 1])
        elif kind in _BRACKETS or kind is dict:
            return self._shown_items(value, kind, depth)
        else:
            shown = self._represented(value)
        self._room -= len(shown)
        return shown

    def _shown_items(self, value: Any, kind: type, depth: int) -> str:
        opened, closed = _BRACKETS.get(kind, ("{", "}"))
        if not value:
            return f"{kind.__name__}()" if kind is set or kind is frozenset else opened + closed
        shown = []
        for item in islice(value.items() if kind is dict else value, _MAX_ITEMS):
            if depth == 0 or self._room <= 0:
                break
            if kind is dict:
                shown.append(f"{self._shown(item[0], depth - 1)}: {self._shown(item[1], depth - 1)}")
            else:
                shown.append(self._shown(item, depth - 1))
        if len(shown) < len(value):
            shown.append("...")
        elif kind is tuple and len(shown) == 1:
            closed = ",)"
        return f"{opened}{', '.join(shown)}{closed}"

    def _represented(self, value: Any) -> str:
        """``repr(value)``, or why there is none. Once that has taken too long, no other value of this answer is asked."""
        if self._is_short:
            return f"<{_type_of(value)}>"
        try:
            if type(value) is int and value.bit_length() > 4 * MAX_TEXT:
                return f"<int of {value.bit_length()} bits>"
            shown = repr(value)
            return text(shown, MAX_TEXT)
        except Expired:
            self._is_short = True
            return f"<{_type_of(value)}: repr() took too long>"
        except Interrupted:
            raise
        except BaseException as error:
            return f"<{_type_of(value)}: repr() raised {type_name(error)}>"


def explained(error: BaseException) -> list[str]:
    """Type and message of an exception."""
    message = as_text(error.msg) if isinstance(error, SyntaxError) else as_text(error)
    return [type_name(error), text(message, MAX_TEXT)]


def _type_of(value: Any) -> str:
    return text(type.__dict__["__name__"].__get__(type(value)), _MAX_NAME)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def _attributes(value: Any) -> dict[str, Any]:
    """Attributes that are there, without running properties."""
    found: dict[str, Any] = {}
    if isinstance(value, type) or callable(value):
        return found
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        for name, member in list(type.__dict__["__dict__"].__get__(kind).items()):
            if type(member).__name__ == "member_descriptor" and type(name) is str:
                try:
                    found[name] = member.__get__(value)
                except Exception:  # a slot that is empty
                    continue
    try:
        found.update(object.__getattribute__(value, "__dict__"))
    except Exception:  # it has none, or its class replaces it
        pass
    return {name: part for name, part in found.items() if type(name) is str}


def _count(value: Any) -> int:
    if isinstance(value, (dict, *_SEQUENCES)):
        return len(value) if type(value).__len__ in _LENGTHS else sum(1 for _ in islice(_parts(value), MAX_ROWS))
    if _is_array(value):
        return int(value.size) + 2
    return len(_attributes(value))


_LENGTHS: Final = tuple(kind.__len__ for kind in (dict, *_SEQUENCES))


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """Names and values of the parts of a value. Methods of its own, which a subclass may have, are not called."""
    if isinstance(value, _Scope):
        yield from ((str(name), part) for name, part in list(value.names.items()))
    elif isinstance(value, dict):
        own = Inspector([], bool)
        for key, part in list(islice(dict.items(value), 10 * MAX_ROWS)):
            yield own.shown(key), part
    elif isinstance(value, _SEQUENCES):
        base = next(kind for kind in _SEQUENCES if isinstance(value, kind))
        yield from ((str(number), part) for number, part in enumerate(base.__iter__(value)))  # type: ignore[arg-type]
    elif _is_array(value):
        yield "shape", value.shape
        yield "dtype", value.dtype
        yield from ((str(number), part) for number, part in enumerate(value.flat))
    else:
        yield from _attributes(value).items()
