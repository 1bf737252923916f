"""The frame of all large figures: SVG that is as wide as the place it stands in, for the page and for a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup

from cloche_bench.report._model import Contender, Report
from cloche_bench.report._scale import Log
from cloche_bench.report._svg import el, num, percent

__all__ = ["LEFT", "RIGHT", "SHAPES", "Figure", "across", "grid", "marker", "ordered", "tick_class"]

LEFT: Final = 0.27
RIGHT: Final = 0.92
"""Where the axis of a figure begins and ends, as parts of its width. Names stand to the left of it, numbers to the right."""
SHAPES: Final = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",  # circle
    "M-4-4h8v8h-8z",
    "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "M0-5L5 4h-10z",
    "M0 5L5-4h-10z",
    "M-5-1.7h3.3v-3.3h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3z",
    "M-5 0L-2.5-4.3h5L5 0L2.5 4.3h-5z",
    "M-4.5-4.5h4.5v4.5h4.5v4.5h-9z",
    "M-5 0a5 5 0 0 1 10 0z",
    "M-2-5h4v10h-4z",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, with a sentence that describes it, and the numbers that it shows as a table.

    Attributes:
        id: for links and file names.
        title: its heading.
        alt: what one sees.
        body: the drawing, `height` pixels high and as wide as its place.
        legend: contenders to explain.
        columns: heads of the table.
        rows: its cells.
    """

    id: str
    title: str
    alt: str
    height: float
    body: Markup
    legend: Sequence[Contender] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)

    def svg(self) -> Markup:
        """The figure as an element of the page."""
        return el(
            "svg", el("title", self.title), el("desc", self.alt), self.body,
            cls="figure", role="img", aria_label=f"{self.title}. {self.alt}", width="100%", height=num(self.height),
        )  # fmt: skip


def marker(contender: Contender, x: str, y: float) -> Markup:
    """A mark in the contender's shape and colour."""
    shape = el("path", d=SHAPES[contender.slot], cls="mark")
    return el("svg", shape, x=x, y=num(y), overflow="visible", cls=f"c{contender.slot}")


def across(part: float, left: float = LEFT, right: float = RIGHT) -> float:
    """Where a point of the axis lies, as a part of the figure's width.

    Args:
        part: 0 is the beginning of the axis, 1 its end.
        left: where the axis begins.
        right: where it ends.
    """
    return left + (right - left) * part


def grid(
    scale: Log,
    top: float,
    bottom: float,
    ticks: Sequence[tuple[float, str]],
    *,
    base: float | None = None,
    left: float = LEFT,
    right: float = RIGHT,
) -> Markup:
    """The vertical lines of an axis, with the texts of its ticks above. The line at `base`, to compare with, stands out."""
    parts = []
    for index, (tick, text) in enumerate(ticks):
        place = percent(across(scale.at(tick), left, right))
        parts.append(el("line", x1=place, x2=place, y1=top, y2=bottom, cls="base" if tick == base else "grid"))
        parts.append(el("text", text, x=place, y=top - 5, text_anchor="middle", cls=tick_class(index)))
    return Markup("").join(parts)


def tick_class(index: int) -> str:
    """The class of a tick's text: the style sheet hides the odd ones where there is no room for all."""
    return "tick odd" if index % 2 else "tick"


def ordered(contenders: Sequence[Contender], report: Report) -> list[Contender]:
    """The contenders without repetitions, in the order of the report."""
    return [contender for contender in report.contenders if contender in contenders]
