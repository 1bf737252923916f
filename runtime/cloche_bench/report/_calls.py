"""Figures on where the time of calls goes: the phases of one call on a time axis, and the phases for each input of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from cloche_bench.report._figure import Figure
from cloche_bench.report._model import number
from cloche_bench.report._scale import round_steps, time_text
from cloche_bench.report._svg import el, percent

__all__ = ["PHASES", "node_phases", "phase_slot", "timeline"]

PHASES: Final = ("encode", "lower", "guest", "lift", "decode", "logs")


def phase_slot(name: str) -> int:
    """The number of a phase's colour."""
    return PHASES.index(name) if name in PHASES else len(PHASES)


def timeline(raw: Any) -> Figure | None:
    """The figure of one call, with each phase on a line of its own; None if no call was recorded."""
    found = _phases(raw)
    if not found:
        return None
    begin, end = found[0][1], max(stop for _, _, stop in found)
    whole = end - begin
    left, right, height = 0.12, 0.88, 24.0
    parts, rows = [], []
    bottom = 22 + height * len(found)
    for step in round_steps(whole):
        place = percent(left + (right - left) * step / whole)
        parts.append(el("line", x1=place, x2=place, y1="18", y2=bottom, cls="grid"))
        text = time_text(step, short=True) if step else "0"
        parts.append(el("text", text, x=place, y="12", text_anchor="middle", cls="tick"))
    for index, (name, start, stop) in enumerate(found):
        y = 22 + height * index
        x, width = left + (right - left) * (start - begin) / whole, (right - left) * (stop - start) / whole
        parts.append(el("text", name, x="0", y=y + 15, cls="label"))
        parts.append(
            el(
                "rect",
                x=percent(x),
                width=percent(max(width, 0.002)),
                y=y + 4,
                height="15",
                rx="2",
                cls=f"p{phase_slot(name)}",
            )
        )
        parts.append(el("text", time_text(stop - start), x=percent(x + width), dx="6", y=y + 16, cls="value"))
        rows.append([name, time_text(start - begin), time_text(stop - start), f"{(stop - start) / whole:.1%}"])
    case = raw.get("case") if isinstance(raw.get("case"), str) else ""
    return Figure(
        "timeline", "One call, host to host",
        f"Phases of the median call of {case or 'one case'}: {time_text(whole)} from the first to the last. "
        "Gaps are the host's bookkeeping and the recording itself, which adds some 0.3 µs to each phase.",
        28 + height * len(found), Markup("").join(parts), (), ("phase", "begins after", "takes", "share"), rows,
    )  # fmt: skip


def _phases(raw: Any) -> list[tuple[str, float, float]]:
    entries = raw.get("phases") if isinstance(raw, Mapping) else None
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            start, end = number(entry.get("start")), number(entry.get("end"))
            if start is not None and end is not None and end > start and isinstance(entry.get("name"), str):
                found.append((entry["name"], start, end))
    return sorted(found, key=lambda phase: phase[1])[:40]


def node_phases(inputs: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The figure of a node of the user's, with a bar of phases for each input."""
    parts, rows, y = [], [], 4.0
    for entry in inputs:
        given = entry.get("phases")
        phases = given if isinstance(given, Mapping) else {}
        spent = {name: number(phases.get(name)) or 0.0 for name in PHASES}
        total = max(number(entry.get("recorded_total")) or number(entry.get("total")) or 0.0, sum(spent.values()))
        if not total:
            continue
        title = str(entry.get("title") or "")
        parts.append(el("text", title, x="0", y=y + 12, cls="label"))
        parts.append(el("text", time_text(total), x="100%", y=y + 12, text_anchor="end", cls="value"))
        at = 0.0
        for name, seconds in [*spent.items(), ("rest", total - sum(spent.values()))]:
            share = seconds / total
            if share > 0.0005:
                parts.append(
                    el("rect", x=percent(at), width=percent(share), y=y + 18, height="16", cls=f"p{phase_slot(name)}")
                )
            at += share
        rows.append(
            [
                title or "",
                *(f"{time_text(seconds)} ({seconds / total:.1%})" for seconds in spent.values()),
                time_text(total),
            ]
        )
        y += 46
    if not rows:
        return None
    return Figure(
        "node-phases", "Where the time goes", "Share of each phase in one call, input by input.",
        y, Markup("").join(parts), (), ("input", *PHASES, "total"), rows,
    )  # fmt: skip
