"""Tables for notebooks (``_repr_html_``). Every text is escaped: names come from strangers' code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cloche.texts import line

__all__ = ["table"]

_MOST: Final = 200
"""Characters of each cell."""


def _cell(value: Any) -> str:
    import html  # slow to import, and only for notebooks

    return html.escape(line(f"{value:.6g}" if isinstance(value, float) else str(value), _MOST))


def table(caption: str, rows: Iterable[tuple[Any, ...]], head: tuple[str, ...] = ()) -> str:
    """An HTML table.

    Args:
        caption: its title.
        rows: the cells of each row.
        head: titles of the columns; (): the first cell of each row is the row's title.
    """
    parts = [f"<table><caption>{_cell(caption)}</caption>"]
    if head:
        parts.append(f"<tr>{''.join(f'<th>{_cell(title)}</th>' for title in head)}</tr>")
    for first, *others in rows:
        mark = "td" if head else "th"
        cells = "".join(f"<td>{_cell(value)}</td>" for value in others)
        parts.append(f"<tr><{mark}>{_cell(first)}</{mark}>{cells}</tr>")
    return f"{''.join(parts)}</table>"
