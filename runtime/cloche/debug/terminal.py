"""`Terminal`: a debugger for a terminal, with the commands of pdb. It needs no editor and no second program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from cloche.debug._breakpoints import FunctionPoint, LinePoint
from cloche.debug._events import (
    MAX_ROWS,
    Frame,
    GuestError,
    Placed,
    Stop,
    read_frames,
    read_placed,
    read_scopes,
    read_variable,
    read_variables,
)
from cloche.debug._frontend import Arrived, Back, Command, Desk, Go, Mode, Talk

__all__ = ["Terminal"]

_AROUND: Final = 5
_MOST_SHOWN: Final = 100
_GOES: Final[dict[str, Mode]] = {
    "c": "continue", "continue": "continue", "n": "next", "next": "next", "s": "step", "step": "step",
    "r": "out", "return": "out", "out": "out", "detach": "detach",
}  # fmt: skip
_BACKS: Final[dict[str, Any]] = {"back": "line", "bn": "line", "bs": "step", "bc": "breakpoint"}
_HELP: Final = """\
n(ext), s(tep), r(eturn), c(ontinue)   go on: over calls, into calls, out of the function, to the next breakpoint
back (bn), bs, bc                      go back: one line, one line also in functions, to the breakpoint before
b [LINE | FILE:LINE | FUNCTION] [, CONDITION]   set a breakpoint; without arguments, list them
cl [NUMBER]                            clear one breakpoint, or all
catch [raised] [uncaught]              stop at exceptions; without arguments, at none
w(here), u(p), d(own), l(ist)          the stack; another frame of it; the source here
a(rgs), p EXPRESSION, v EXPRESSION     the local variables; a value; a value's parts
!STATEMENT, or any other text          run it in the node, in this frame
detach, q(uit)                         go on without the debugger; end the call"""


class Terminal:
    """A debugger that prints, and reads commands. Implements `Frontend`.

    Args:
        desk: the session.
        interrupt: ends the node's call, for "quit".
        read: reads one command, given the prompt; raises EOFError at the end.
        write: prints a text.
    """

    def __init__(
        self,
        desk: Desk,
        interrupt: Callable[[], object],
        read: Callable[[str], str] = input,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._desk = desk
        self._interrupt = interrupt
        self._read = read
        self._write = write or _print
        self._sources: dict[str, list[str]] = {}
        self._frames: list[Frame] = []
        self._number = 0
        self._last = ""

    def talk(self, stop: Stop) -> Talk:
        """See `Frontend`."""
        yield from self._arrive(stop)
        while True:
            try:
                line = self._read("(cloche) ").strip()
            except EOFError:
                line = "q"
            line = self._last = line or self._last
            word, _, rest = line.partition(" ")
            if word in _GOES and not rest:
                yield Go(_GOES[word])
                return
            if word in ("q", "quit") and not rest:
                self._interrupt()
                yield Go("detach")
                return
            try:
                if word in _BACKS and not rest:
                    arrived: Arrived = yield Back(_BACKS[word])
                    if arrived.mode in ("continue", "detach"):
                        yield Go(arrived.mode)
                        return
                    yield from self._arrive(stop)
                elif line:
                    yield from self._command(word, rest.strip(), line)
            except (GuestError, ValueError) as error:
                self._write(f"*** {error}")

    def output(self, text: str) -> None:
        """See `Frontend`."""
        self._write(text)

    def placed(self, places: Sequence[Placed]) -> None:
        """See `Frontend`."""
        for place in places:
            if place.problem:
                self._write(f"breakpoint {place.number}: {place.problem}")

    def gone(self) -> None:
        """See `Frontend`."""

    def _arrive(self, stop: Stop) -> Generator[Any, Any, None]:
        self._number = 0
        _, self._frames = read_frames((yield Command("stack", (0, MAX_ROWS))))
        if stop.exception is not None:
            what = "leaves the node" if stop.exception.is_uncaught else "is raised"
            self._write(f"{stop.exception.exc_type}: {stop.exception.message} ({what})")
        elif stop.reason not in ("step", "travel"):
            self._write(f"{stop.reason}{f': {stop.text}' if stop.text else ''}")
        yield from self._show()

    def _show(self) -> Generator[Any, Any, None]:
        if not self._frames:
            return
        frame = self._frames[self._number]
        lines = yield from self._source(frame.file)
        self._write(f"> {frame.file}({frame.line}) {frame.name}()")
        if 0 < frame.line <= len(lines):
            self._write(f"-> {lines[frame.line - 1].strip()}")

    def _source(self, file: str) -> Generator[Any, Any, list[str]]:
        if file not in self._sources:
            text = yield Command("source", (file,))
            self._sources[file] = text.splitlines() if type(text) is str else []
        return self._sources[file]

    def _command(self, word: str, rest: str, line: str) -> Generator[Any, Any, None]:
        match word:
            case "h" | "help" | "?":
                self._write(_HELP)
            case "b" | "break":
                yield from self._break(rest)
            case "cl" | "clear":
                yield from self._clear(rest)
            case "catch":
                chosen = rest.split()
                self._desk.breakpoints.set_exceptions(raised="raised" in chosen, uncaught="uncaught" in chosen)
            case "w" | "where" | "bt":
                for number, frame in reversed(list(enumerate(self._frames))):
                    mark = ">" if number == self._number else " "
                    self._write(f"{mark} {frame.file}({frame.line}) {frame.name}()")
            case "u" | "up" | "d" | "down":
                step = 1 if word.startswith("u") else -1
                self._number = min(max(0, self._number + step), max(0, len(self._frames) - 1))
                yield from self._show()
            case "l" | "list":
                yield from self._list()
            case "a" | "args" | "locals":
                yield from self._locals()
            case "p" | "pp":
                yield from self._print_value(rest, changes=False)
            case "v":
                yield from self._parts(rest)
            case _:
                yield from self._print_value(line.removeprefix("!"))

    def _break(self, rest: str) -> Generator[Any, Any, None]:
        points = self._desk.breakpoints
        if not rest:
            for path, rows in points.lines.items():
                for row in rows:
                    where = f"{path}:{row.placed or row.line}"
                    more = f" if {row.condition}" if row.condition else ""
                    self._write(f"{row.number}: {where}{more}{f' ({row.problem})' if row.problem else ''}")
            for function in points.functions:
                self._write(f"{function.number}: {function.name}()")
            return
        place, _, condition = (part.strip() for part in rest.partition(","))
        file, _, number = place.rpartition(":")
        if number.isdigit():
            file = file or (self._frames[self._number].file if self._frames else "")
            rows = points.lines.get(file, [])
            kept = [LinePoint(row.line, row.condition, row.hits, row.log) for row in rows]
            points.set_lines(file, [*kept, LinePoint(int(number), condition)])
        else:
            known = [FunctionPoint(row.name, row.condition, row.hits) for row in points.functions]
            points.set_functions([*known, FunctionPoint(place, condition)])
        yield from self._send()

    def _clear(self, rest: str) -> Generator[Any, Any, None]:
        points = self._desk.breakpoints
        for path, rows in list(points.lines.items()):
            points.set_lines(path, [row for row in rows if rest and str(row.number) != rest])
        points.set_functions([row for row in points.functions if rest and str(row.number) != rest])
        yield from self._send()

    def _send(self) -> Generator[Any, Any, None]:
        """Tell the guest of the breakpoints, and show where it has put them."""
        points = self._desk.breakpoints
        places = read_placed((yield Command("breakpoints", (points.to_guest(),), changes=True)))
        points.place(places)
        self.placed(places)
        yield from self._break("")

    def _list(self) -> Generator[Any, Any, None]:
        if not self._frames:
            return
        frame = self._frames[self._number]
        lines = yield from self._source(frame.file)
        first = max(1, frame.line - _AROUND)
        for number in range(first, min(len(lines), frame.line + _AROUND) + 1):
            self._write(f"{number:4} {'->' if number == frame.line else '  '} {lines[number - 1]}")

    def _locals(self) -> Generator[Any, Any, None]:
        scopes = read_scopes((yield Command("scopes", (self._number,))))
        if scopes:
            rows = read_variables((yield Command("children", (scopes[0].reference, 0, _MOST_SHOWN))))
            for row in rows:
                self._write(f"{row.name} = {row.text}")

    def _print_value(self, expression: str, *, changes: bool = True) -> Generator[Any, Any, None]:
        row = read_variable((yield Command("evaluate", (expression, self._number), changes)))
        if row.type != "NoneType":
            self._write(row.text)

    def _parts(self, expression: str) -> Generator[Any, Any, None]:
        row = read_variable((yield Command("evaluate", (expression, self._number))))
        self._write(f"{row.type}: {row.text}")
        if row.reference:
            for part in read_variables((yield Command("children", (row.reference, 0, _MOST_SHOWN)))):
                self._write(f"  {part.name} = {part.text}")
            if row.count > _MOST_SHOWN:
                self._write(f"  ... {row.count - _MOST_SHOWN} more")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
