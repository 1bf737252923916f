"""Figures of ratios: the geometric means by group, and the changes since an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from markupsafe import Markup

from cloche_bench.compare import Change
from cloche_bench.report._figure import SHAPES, Figure, across, grid, marker, ordered
from cloche_bench.report._model import Contender, Group, Report
from cloche_bench.report._scale import Log, ratio_text
from cloche_bench.report._svg import el, percent

__all__ = ["changes", "means"]

_DRAWN: Final = frozenset({"pipe", "epoch", "guard", "monty"})
"""Contenders that are drawn. The others, which lie close to one of these or interest few readers, are in the table only."""
_LINE: Final = 27.0
_RATIOS: Final = 0.86


def means(report: Report) -> Figure | None:
    """The figure of the geometric means of ratios to native, a line for each group; None if there are no such ratios."""
    groups = [group for group in report.groups if any(mean[0].id != "native" for mean in group.means)]
    if not groups:
        return None
    found = ordered([mean[0] for group in groups for mean in group.means if mean[0].id != "native"], report)
    shown = [contender for contender in found if contender.id in _DRAWN] or found[:4]
    main = report.main if report.main in shown else shown[0]
    drawn = [mean for group in groups for mean in group.means if mean[0] in shown]
    scale = Log.around([value for mean in drawn for value in mean[1:4]], include=(1.0,))
    parts, y = [el("text", main.label, x="100%", y="11", text_anchor="end", cls=f"end c{main.slot}")], 22.0
    rows: list[list[str]] = []
    for group in groups:
        middle = y + _LINE / 2
        parts.append(el("line", x1="0", x2="100%", y1=y, y2=y, cls="rule"))
        parts.append(el("text", group.title, x="0", y=middle + 4, cls="label"))
        for contender, ratio, low, high, _ in sorted(group.means, key=lambda mean: mean[0] == main):
            if contender in shown:
                parts += _interval(scale, contender, low, ratio, high, middle)
            if contender == main:
                parts.append(el("text", ratio_text(ratio), x="100%", y=middle + 4, text_anchor="end", cls="value"))
        for contender, ratio, low, high, cases in group.means:
            if contender.id != "native":
                interval = f"{ratio_text(low)} to {ratio_text(high)}"
                rows.append([group.title, contender.label, ratio_text(ratio), interval, str(cases or "")])
        y += _LINE
    frame = grid(scale, 16, y, [(tick, ratio_text(tick)) for tick in scale.ticks(7)], base=1.0, right=_RATIOS)
    extremes = _extremes(groups, main)
    return Figure(
        "ratios", "How many times as long as native",
        "Geometric means of the ratios to a native call by group of cases, on a logarithmic axis: left is faster. "
        "Lines are 95 % intervals." + (" The other contenders are in the table." if len(shown) < len(found) else "") + extremes,
        y + 6, Markup("").join([frame, *parts]), shown,
        ("group", "contender", "ratio to native", "95 % interval", "cases"), rows,
    )  # fmt: skip


def _extremes(groups: Sequence[Group], main: Contender) -> str:
    found = sorted((mean[1], group.title) for group in groups for mean in group.means if mean[0] == main)
    if len(found) < 2:
        return ""
    low, high = (f"{ratio_text(ratio)} ({title})" for ratio, title in (found[0], found[-1]))
    return f" {main.label}: from {low} to {high}."


def _interval(scale: Log, contender: Contender, low: float, middle: float, high: float, y: float) -> Iterator[Markup]:
    place, *ends = (percent(across(scale.at(value), right=_RATIOS)) for value in (middle, low, high))
    yield el("line", x1=ends[0], x2=ends[1], y1=y, y2=y, cls=f"range c{contender.slot}")
    yield marker(contender, place, y)


def changes(found: Sequence[Change], contenders: Mapping[str, Contender], most: int = 60) -> Figure | None:
    """The figure of the changes that are not noise, the largest first; None if there is none."""
    known = [change for change in found if change.verdict in ("faster", "slower") and change.low > 0]
    if not known:
        return None
    known = sorted(known, key=lambda change: max(change.change, 1 / change.change), reverse=True)[:most]
    scale = Log.around([value for change in known for value in (change.low, change.high)], include=(1.0,))
    left, parts, rows = 0.36, [], []
    for index, change in enumerate(known):
        y = 30.0 + 20 * index
        low, middle, high = (
            percent(across(scale.at(value), left)) for value in (change.low, change.change, change.high)
        )
        kind, times = "good" if change.verdict == "faster" else "bad", ratio_text(change.change)
        shape = el("path", d=SHAPES[contenders[change.contender].slot], cls=f"mark {kind}")
        parts += [
            el("line", x1=low, x2=high, y1=y, y2=y, cls=f"range {kind}"),
            el("svg", shape, x=middle, y=y, overflow="visible"),
            el("text", f"{change.case} · {change.contender}", x="0", y=y + 4, cls="label"),
            el("text", times, x=high, dx="9", y=y + 4, cls="value"),
        ]
        interval = f"{ratio_text(change.low)} to {ratio_text(change.high)}"
        rows.append([change.case, change.contender, change.basis, times, interval, change.verdict])
    bottom = 30.0 + 20 * len(known) - 6
    frame = grid(scale, 16, bottom, [(tick, ratio_text(tick)) for tick in scale.ticks(6)], base=1.0, left=left)
    return Figure(
        "changes", "Changed since the earlier run",
        "New over old with its 95 % interval; left of 1× is faster. Only what lies outside the noise.",
        bottom + 6, Markup("").join([frame, *parts]), (),
        ("case", "contender", "basis", "new / old", "95 % interval", "verdict"), rows,
    )  # fmt: skip
