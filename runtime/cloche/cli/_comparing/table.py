"""The matrix as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from cloche.texts import line

if TYPE_CHECKING:
    from rich.table import Table

    from cloche.cli._comparing.rows import Cost, Difference, Row

__all__ = ["COLUMNS", "about", "cells", "cost", "details", "table"]

COLUMNS: Final = ("node", "verdict", "why", "workaround", "inputs", "cost")
_COLORS: Final = {"works": "green", "differs": "yellow", "broken": "red", "unknown": "cyan"}
_MOST: Final = 300
_MOST_LINES: Final = 3
"""Differences of a node that are shown here: the JSON and the page have more."""


def table(rows: Sequence[Row]) -> Table:
    """One line for each node. No text is taken for markup: names and values are a stranger's."""
    from rich.table import Table
    from rich.text import Text

    made = Table(show_edge=False, pad_edge=False)
    for column in COLUMNS:
        made.add_column(column, overflow="fold")
    for row in rows:
        first, verdict, *others = cells(row)
        made.add_row(Text(first), Text(verdict, _COLORS[row.verdict]), *map(Text, others))
    return made


def cells(row: Row) -> tuple[str, ...]:
    """The texts of a row, by the columns."""
    texts = (row.node, row.verdict, row.why, row.workaround, about(row), "" if row.cost is None else cost(row.cost))
    return tuple(line(text, _MOST) for text in texts)


def about(row: Row) -> str:
    """How many inputs were tried, from where, and on which sides."""
    sides = "both sides" if row.compared else "sandbox alone"
    if not row.tried:
        return f"none, {sides}"
    return f"{row.tried} {row.inputs}, {row.accepted} accepted, {sides}"


def cost(found: Cost) -> str:
    """What a call costs."""
    memory = f"{found.memory_bytes / (1 << 20):.0f} MiB"
    if found.native_s is None or found.ratio is None:
        return f"{_time(found.sandbox_s)} a call, {memory}"
    return f"{found.ratio:.1f}x: {_time(found.native_s)} -> {_time(found.sandbox_s)} a call, {memory}"


def details(row: Row) -> Iterator[str]:
    """What the table has no room for: differences, what is unstable, notes."""
    for one in row.differences[:_MOST_LINES]:
        yield f"  {difference(one)}"
    others = len(row.differences) + row.more - _MOST_LINES
    if others > 0:
        yield f"  {others} more differences"
    if row.unstable:
        yield f"  changes from run to run natively, compared by type only: {', '.join(map(line, row.unstable))}"
    for note in row.notes:
        yield f"  note: {line(note)}"


def difference(one: Difference) -> str:
    """A difference on one line."""
    given = f" for {'the smallest input, ' if one.smallest else ''}{one.input}" if one.input else ""
    place = f"{one.where}: " if one.where else ""
    return line(f"{one.what}{given}: {place}{one.how}: natively {one.native}, in the sandbox {one.sandbox}")


def _time(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
