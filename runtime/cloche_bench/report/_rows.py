"""The rows of a case: for each contender a bar of its ratio to native, and how its samples spread around their median."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from cloche_bench.report._model import Figures, Group
from cloche_bench.report._scale import Log, ratio_text, time_text
from cloche_bench.report._svg import el, percent

__all__ = ["SPREAD", "axis", "bar", "marks", "spread", "value_axis"]

SPREAD: Final = Log(0.5, 4.0)
"""The axis of the samples, as multiples of their median. All rows have the same, so that their noise can be compared."""
_BAR: Final = 16.0
_VIOLIN: Final = 18.0
_POINTS: Final = 11


def value_axis(group: Group) -> Log:
    """The axis of a group's bars: ratios to native if there are any, else seconds."""
    entries = [entry for case in group.cases for entry in case.measured]
    if group.has_ratios:
        ratios = [value for entry in entries for value in (entry.ratio, entry.low, entry.high) if value]
        return Log.around(ratios, include=(1.0,))
    return Log.around([entry.median for entry in entries])


def axis(scale: Log, *, seconds: bool = False, most: int = 6) -> Markup:
    """The ticks above a column of rows."""
    marks = []
    for index, tick in enumerate(scale.ticks(most)):
        place = scale.at(tick)
        anchor = "start" if place < 0.04 else "end" if place > 0.96 else "middle"
        text = time_text(tick, short=True) if seconds else ratio_text(tick)
        marks.append(el("text", text, x=percent(place), y="10", text_anchor=anchor, cls="odd" if index % 2 else None))
    return el("svg", *marks, cls="axis", width="100%", height="14", aria_hidden="true")


def marks(name: str, scale: Log, *, base: bool) -> Markup:
    """The vertical lines behind a column of bars. They are drawn once, and each row refers to them."""
    lines = [
        el("line", x1=percent(scale.at(tick)), x2=percent(scale.at(tick)), y2=_BAR, cls="grid")
        for tick in scale.ticks(6)
    ]
    if base:
        lines.append(el("line", x1=percent(scale.at(1.0)), x2=percent(scale.at(1.0)), y2=_BAR, cls="base"))
    return el("svg", el("defs", el("g", *lines, id=name)), cls="defs", aria_hidden="true")


def bar(entry: Figures, group: Group, scale: Log, behind: str) -> Markup:
    """A bar from 1 to the ratio; in a group without ratios, a point at the median. The 95 % interval is a line."""
    ratios, parts = group.has_ratios, [el("use", href=f"#{behind}")]
    value = entry.ratio if ratios else entry.median
    if value:
        place = percent(scale.at(value))
        low, high = (entry.low, entry.high) if ratios else (entry.values.get("low"), entry.values.get("high"))
        if ratios and value != 1:
            left, right = sorted((scale.at(1.0), scale.at(value)))
            parts.append(el("rect", x=percent(left), width=percent(right - left), y="4", height="8", cls="fill"))
        if low and high and low < high:
            parts.append(el("line", x1=percent(scale.at(low)), x2=percent(scale.at(high)), y1="8", y2="8", cls="ci"))
        parts.append(el("circle", cx=place, cy="8", r="3", cls="dot"))
    return el("svg", *parts, cls="bar")


def spread(entry: Figures) -> Markup:
    """A violin plot of the samples, with the median and a box from the first to the third quartile."""
    relative = [sample / entry.median for sample in entry.samples] if entry.median else []
    if len(relative) < 4:
        return el("svg", cls="dist")
    first, third = relative[len(relative) // 4], relative[len(relative) * 3 // 4]
    left, right, middle = SPREAD.at(first), SPREAD.at(third), percent(SPREAD.at(1.0))
    outline = el("path", d=_violin(relative), cls="violin")
    return el(
        "svg",
        el("svg", outline, viewBox="0 0 1000 200", preserveAspectRatio="none"),
        el("rect", x=percent(left), width=percent(right - left), y="7", height="4", cls="fill"),
        el("line", x1=middle, x2=middle, y1="5", y2="13", cls="median"),
        cls="dist",
    )


def _violin(relative: Sequence[float]) -> str:
    """The outline of a violin: the density of the samples' logarithms (Gaussian kernels, Silverman's bandwidth), mirrored."""
    logs = [math.log(value) for value in relative if value > 0]
    count = len(logs)
    mean = math.fsum(logs) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in logs) / count)
    middle = logs[count * 3 // 4] - logs[count // 4]
    width = max(0.9 * min(deviation, middle / 1.34 or deviation) * count**-0.2, 0.004)
    low = max(logs[0] - 2 * width, math.log(SPREAD.low))
    high = min(logs[-1] + 2 * width, math.log(SPREAD.high))
    places = [low + (high - low) * step / (_POINTS - 1) for step in range(_POINTS)]
    # half of the points lie between the outer deciles, where most samples are
    inner_low, inner_high = logs[count // 10], logs[count * 9 // 10]
    places += [inner_low + (inner_high - inner_low) * step / (_POINTS - 1) for step in range(_POINTS)]
    places = sorted(place for place in places if low <= place <= high)
    if not places:  # all samples lie outside of the axis
        return "M0 0"
    heights = [math.fsum(math.exp(-0.5 * ((place - value) / width) ** 2) for value in logs) for place in places]
    top = max(heights, default=1.0) or 1.0
    spots = [
        (round(1000 * SPREAD.at(math.exp(place))), round(95 * height / top))
        for place, height in zip(places, heights, strict=True)
    ]
    outline = [(x, 100 - y) for x, y in spots] + [(x, 100 + y) for x, y in spots[::-1]]
    steps = [(x - px, y - py) for (px, py), (x, y) in itertools.pairwise(outline)]
    moves = "".join(
        f"{x:+d}{y:+d}" for x, y in steps if x or y
    )  # signs need no spaces: a report has thousands of these
    return f"M{outline[0][0]} {outline[0][1]}l{moves.replace('+', ' ')}z"
