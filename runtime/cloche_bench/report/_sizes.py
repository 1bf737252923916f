"""The figure of cost against size: it shows what each byte costs, and what a call costs without any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from markupsafe import Markup

from cloche_bench.report._figure import Figure, across, marker, ordered, tick_class
from cloche_bench.report._model import Contender, Group, Report
from cloche_bench.report._scale import Log, bytes_text, time_text
from cloche_bench.report._svg import el, layer, num, percent

__all__ = ["sizes"]

_IN_SIZES: Final = frozenset({"native", "pipe", "epoch", "guard"})
"""Contenders that are drawn. The other meterings would lie on top of them; the tables of the cases have their figures."""


def sizes(report: Report, group: Group) -> Figure | None:
    """The figure of a group: seconds against bytes, a line for each contender and kind of case; None for fewer than two sizes."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    owner: dict[str, Contender] = {}
    for case in group.cases:
        if case.size:
            kind = _kind(case.id)
            for entry in case.measured:
                if entry.contender.id not in _IN_SIZES:
                    continue
                lines.setdefault((entry.contender.id, kind), []).append((case.size, entry.median))
                owner[entry.contender.id] = entry.contender
    lines = {key: sorted(points) for key, points in lines.items() if len({size for size, _ in points}) > 1}
    if not lines:
        return None
    along = Log.around([size for points in lines.values() for size, _ in points], pad=0.03)
    up = Log.around([spent for points in lines.values() for _, spent in points], pad=0.05)
    height, left, right, top = 340.0, 0.09, 0.8, 14.0
    kinds = list(dict.fromkeys(kind for _, kind in lines))
    parts = []
    for tick in up.ticks(7):
        y = _y(up, tick, height, top)
        parts.append(el("line", x1=percent(left), x2=percent(right), y1=y, y2=y, cls="grid"))
        parts.append(
            el("text", time_text(tick, short=True), x=percent(left), dx="-7", y=y + 4, text_anchor="end", cls="tick")
        )
    for power in range(0, 41, 2):
        if along.low <= 2**power <= along.high:
            x = percent(across(along.at(2**power), left, right))
            parts.append(el("line", x1=x, x2=x, y1=top, y2=height + top, cls="grid"))
            parts.append(
                el(
                    "text",
                    bytes_text(2**power),
                    x=x,
                    y=height + top + 17,
                    text_anchor="middle",
                    cls=tick_class(power // 2),
                )
            )
    rows = []
    labels: list[tuple[float, str, int]] = []
    for (name, kind), points in lines.items():
        contender = owner[name]
        spots = [(across(along.at(size), left, right), _y(up, spent, height, top)) for size, spent in points]
        outline = "M" + "L".join(f"{num(1000 * x)} {num(y)}" for x, y in spots)
        dashed = f" d{kinds.index(kind) % 4}"
        parts.append(layer(height + top, el("path", d=outline, cls=f"line c{contender.slot}{dashed}")))
        parts += [marker(contender, percent(x), y) for x, y in spots]
        labels.append((spots[-1][1], f"{name} {kind}".strip() if len(kinds) > 1 else name, contender.slot))
        rows += [[kind or group.title, contender.label, bytes_text(size), time_text(spent)] for size, spent in points]
    for y, text, slot in _apart(labels, 14.0):
        parts.append(el("text", text, x=percent(right), dx="8", y=y + 4, cls=f"end c{slot}"))
    return Figure(
        f"size-{group.id}", f"{group.title}: cost against size",
        "Median time of a call against the bytes that cross, in and out together, both on logarithmic axes.",
        height + top + 24, Markup("").join(parts), ordered(list(owner.values()), report),
        ("case", "contender", "bytes in and out", "median"), rows,
    )  # fmt: skip


def _kind(name: str) -> str:
    """The kind of a case: its id without the group and the size, "arrays/leased-1MiB" -> "leased"."""
    words = name.partition("/")[2].replace("_", "-").split("-")
    return " ".join(word for word in words if not word[:1].isdigit())


def _y(scale: Log, value: float, height: float, top: float) -> float:
    return top + height * (1 - scale.at(value))


def _apart(labels: list[tuple[float, str, int]], least: float) -> Iterator[tuple[float, str, int]]:
    """The labels at the ends of lines. One that would overlap another is moved down."""
    below = -least
    for y, text, slot in sorted(labels):
        below = max(y, below + least)
        yield below, text, slot
