"""`Breakpoints`: where a node is to stop. Plain data, which the session sends to the guest as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cloche.debug._events import Placed

__all__ = ["Breakpoints", "FunctionPoint", "LinePoint"]


@dataclass(slots=True)
class LinePoint:
    """A breakpoint at a line.

    Attributes:
        line: the line that was asked for.
        condition: expression that must be true; "": none.
        hits: how often it must have been reached, such as ">= 5"; "": any number.
        log: text to log instead of stopping, with expressions in braces; "": it stops.
        number: its number; every breakpoint has its own.
        placed: the line where it is; 0: none yet.
        problem: why it has none.
    """

    line: int
    condition: str = ""
    hits: str = ""
    log: str = ""
    number: int = 0
    placed: int = 0
    problem: str = ""


@dataclass(slots=True)
class FunctionPoint:
    """A breakpoint at the first line of a function.

    Attributes:
        name: the function's name, or its qualified name.
        condition: as for `LinePoint`.
        hits: likewise.
        number: likewise.
        problem: why it will never stop the node.
    """

    name: str
    condition: str = ""
    hits: str = ""
    number: int = 0
    problem: str = ""


@dataclass(slots=True)
class Breakpoints:
    """All breakpoints of a session.

    Attributes:
        raised: whether to stop where an exception is raised.
        uncaught: whether to stop where an exception leaves the node.
        version: grows with each change.
    """

    raised: bool = False
    uncaught: bool = False
    version: int = 0
    _lines: dict[str, list[LinePoint]] = field(default_factory=dict)
    _functions: list[FunctionPoint] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def lines(self) -> dict[str, list[LinePoint]]:
        """Path -> breakpoints there."""
        return self._lines

    @property
    def functions(self) -> list[FunctionPoint]:
        """Breakpoints at functions."""
        return self._functions

    def set_lines(self, path: str, points: list[LinePoint]) -> None:
        """Replace the breakpoints of one file."""
        for point in points:
            point.number = next(self._numbers)
        self._lines = {**self._lines, path: points}  # another thread may be reading the old one
        if not points:
            del self._lines[path]
        self.version += 1

    def set_functions(self, points: list[FunctionPoint]) -> None:
        """Replace the breakpoints at functions."""
        for point in points:
            point.number = next(self._numbers)
        self._functions = points
        self.version += 1

    def set_exceptions(self, *, raised: bool, uncaught: bool) -> None:
        """Set at which exceptions to stop."""
        self.raised, self.uncaught = raised, uncaught
        self.version += 1

    def place(self, places: Iterable[Placed]) -> None:
        """Note where the guest has put breakpoints."""
        found = {place.number: place for place in places}
        for rows in self._lines.values():
            for row in rows:
                if place := found.get(row.number):
                    row.placed, row.problem = place.line, place.problem
        for function in self._functions:
            if place := found.get(function.number):
                function.problem = place.problem

    def to_guest(self) -> dict[str, Any]:
        """The operand of the guest's command "breakpoints"."""
        return {
            "lines": {
                path: [[point.number, point.line, point.condition, point.hits, point.log] for point in points]
                for path, points in self._lines.items()
            },
            "functions": [[point.number, point.name, point.condition, point.hits] for point in self._functions],
            "raised": self.raised,
            "uncaught": self.uncaught,
        }
