"""The main figures as SVG files of their own, each with its own style sheet."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cloche_bench.report import _calls, _ratios, _sizes, _theme
from cloche_bench.report._figure import Figure, marker
from cloche_bench.report._model import Contender, Report
from cloche_bench.report._svg import el, num

__all__ = ["figures"]

_WIDTH = 820.0
_EDGE = 16.0
_LETTER = 7.0


def figures(report: Report) -> dict[str, str]:
    """File name -> SVG: each figure in light and in dark colours."""
    arrays = next((group for group in report.groups if group.id == "arrays"), None)
    drawn = {
        "ratios": _ratios.means(report),
        "size": _sizes.sizes(report, arrays) if arrays else None,
        "timeline": _calls.timeline(report.raw.get("timeline")),
    }
    return {
        f"{name}-{'dark' if dark else 'light'}.svg": _standalone(figure, dark)
        for name, figure in drawn.items()
        if figure is not None
        for dark in (False, True)
    }


def _standalone(figure: Figure, dark: bool) -> str:
    legend, below = _legend(figure.legend)
    height = num(figure.height + below + 2 * _EDGE)
    inside = el(
        "svg", *legend, el("svg", figure.body, y=below, overflow="visible"),
        x=_EDGE, y=_EDGE, width=_WIDTH - 2 * _EDGE, overflow="visible",
    )  # fmt: skip
    about = el("title", figure.title), el("desc", figure.alt), el("style", Markup(_theme.figure_style(dark)))
    drawn = el(
        "svg", *about, inside, xmlns="http://www.w3.org/2000/svg",
        width=num(_WIDTH), height=height, viewBox=f"0 0 {num(_WIDTH)} {height}", role="img",
    )  # fmt: skip
    return f"{drawn}\n"


def _legend(contenders: Sequence[Contender]) -> tuple[list[Markup], float]:
    """The markers and names of the contenders, in lines; and the height that they take."""
    parts: list[Markup] = []
    x, y = 6.0, 6.0
    for contender in contenders:
        width = 28 + _LETTER * len(contender.label)
        if x + width > _WIDTH - 2 * _EDGE and x > 6:
            x, y = 6.0, y + 20
        parts.append(marker(contender, num(x), y))
        parts.append(el("text", contender.label, x=x + 10, y=y + 4, cls="label"))
        x += width
    return parts, y + 18 if contenders else 0.0
