"""Writes a profile in Chrome's Trace Event Format, which Perfetto, speedscope and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events ("ph": "X"), times in
microseconds. Events of one thread nest if one contains the other. Viewers differ about events that begin or end at the same time,
so each bar begins a nanosecond after the bar around it, and ends one before the next. speedscope adds up events if their names and
``args`` are equal: so there are no ``args``, and the number of calls is in the category, which Perfetto shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cloche._profiling import phases as _phases

if TYPE_CHECKING:
    from cloche._profiling.call_tree import Function, Tree
    from cloche._profiling.phases import CallPhases

__all__ = ["Traced", "trace"]

_CALLS: Final = 1
_SUMS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The data of a trace.

    Attributes:
        node: the node's name.
        count: number of all calls.
        calls: the calls that were kept, each with the tree of the guest's functions; None if the guest sent none.
        seconds: sums over all calls: "total", and by phase.
        total: the sum of the trees of all calls.
        functions: the functions to which the numbers in the trees refer.
        about: further facts for the file's ``otherData``.
    """

    node: str
    count: int
    calls: Iterable[tuple[CallPhases, Tree | None]]
    seconds: Mapping[str, float]
    total: Tree
    functions: list[Function]
    about: Mapping[str, Any]


def trace(traced: Traced) -> str:
    """The trace as JSON text: every kept call on one track, and the sums of all calls on another.

    If a caller called a function several times within one call, these are one bar, as wide as their time together. A bar begins
    where the one before it ends, not when the function began: order and widths are measured, gaps are not.
    """
    events: list[dict[str, Any]] = [
        *_title(_CALLS, f"{traced.node}: calls"),
        *_title(_SUMS, f"{traced.node}: sum of {traced.count} calls"),
    ]
    for phases, tree in traced.calls:
        start, end = _ns(phases.start), _ns(phases.end)
        name = f"{phases.op} ({phases.failed})" if phases.failed else phases.op
        events.append(_bar(_CALLS, name, f"call {phases.call}", start, end))
        for phase in phases.phases:
            begin, stop = max(_ns(phase.start), start + 1), min(_ns(phase.end), end)
            events.append(_bar(_CALLS, phase.name, "host", begin, stop - 1))
            if phase.name == "guest" and tree is not None:
                events += _functions(_CALLS, tree, traced.functions, begin, stop - 1)
    events += _sums(traced)
    about_all = {
        "node": traced.node,
        "calls": traced.count,
        **traced.about,
        "about": "functions: the guest's own word; several calls under one caller are one bar, its category says how many",
    }
    return json.dumps({"displayTimeUnit": "ns", "otherData": about_all, "traceEvents": events}, separators=(",", ":"))


def _sums(traced: Traced) -> list[dict[str, Any]]:
    seconds, total = traced.seconds, traced.total
    widths = {name: _ns(seconds[name]) for name in _phases.NAMES}
    widths["guest"] = max(widths["guest"], total.total)
    whole = max(_ns(seconds["total"]), sum(widths.values()))
    events = [_bar(_SUMS, f"{traced.count} calls", "call", 0, whole + 2)]
    at = 1
    for name, width in widths.items():
        if width:
            events.append(_bar(_SUMS, name, "host", at, at + width - 1))
        if name == "guest":
            events += _functions(_SUMS, total, traced.functions, at, at + width - 1)
        at += width
    return events


def _functions(track: int, tree: Tree, functions: list[Function], start: int, end: int) -> list[dict[str, Any]]:
    """The guest's functions as bars within [start, end]. A function with too little time to draw is left out, with its callees."""
    children = tree.children()
    places: list[tuple[int, int] | None] = [None] * len(tree)
    events: list[dict[str, Any]] = []
    for parent in (-1, *range(len(tree))):  # callers come before their callees
        around = places[parent] if parent >= 0 else (start, end)
        if around is None:
            continue
        at, last = around[0] + 1, around[1] - 1
        for child in children[parent]:
            stop = min(at + tree.spent[child], last)
            if stop - at < 3:
                continue
            places[child] = at, stop - 1
            name, calls = _label(functions[tree.functions[child]]), tree.calls[child]
            events.append(_bar(track, name, f"{calls} calls" if calls != 1 else "1 call", at, stop - 1))
            at = stop
    return events


def _label(function: Function) -> str:
    if function.line:
        return f"{function.name} ({function.file}:{function.line})"
    return f"{function.name} ({function.file})" if function.file else function.name


def _title(track: int, name: str) -> list[dict[str, Any]]:
    return [
        {"ph": "M", "name": kind, "pid": track, "tid": track, "ts": 0, "args": {"name": text}}
        for kind, text in (("process_name", name), ("thread_name", "host and guest"))
    ]


def _bar(track: int, name: str, category: str, start: int, end: int) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": track, "tid": track, "ts": start / 1000, "dur": (end - start) / 1000,
    }  # fmt: skip


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
