"""A profile in Chrome's Trace Event Format, which Perfetto, speedscope and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events ("ph": "X"), times in
microseconds. Those of one thread nest by containment, so all times are whole nanoseconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cloche import _phases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloche._phases import CallPhases
    from cloche._profile import Profile
    from cloche._tree import Function, Tree

__all__ = ["trace"]

_CALLS: Final = 1
_SUMS: Final = 2


def trace(profile: Profile, total: Tree, functions: list[Function]) -> str:
    """The trace's text: every kept call on one track, and on another one the sums of all calls.

    A function that was called several times by the same caller in one call is one bar, as wide as its time; bars begin where
    the one before ends, not where the function began. Order and widths are measured, gaps are not.
    """
    events: list[dict[str, Any]] = [
        *_title(_CALLS, f"{profile.node}: calls"),
        *_title(_SUMS, f"{profile.node}: sum of {profile.count} calls"),
    ]
    for call in profile.calls:
        phases = call.phases
        start, end = _ns(phases.start), _ns(phases.end)
        about = {"call": phases.call} | ({"failed": phases.failed} if phases.failed else {})
        events.append(_bar(_CALLS, f"{phases.op} {phases.call}", "call", start, end - start, about))
        for name, begin, stop in _stretches(phases):
            events.append(_bar(_CALLS, name, "host", begin, stop - begin))
            if name == "guest" and call.tree is not None:
                events += _functions(_CALLS, call.tree, functions, begin, stop - begin)
    events += _sums(profile, total, functions)
    about_all = {
        "node": profile.node,
        "calls": profile.count,
        "functions_without_place": profile.dropped,
        "profiler_ns_per_call": [round(cost * 1e9) for cost in profile.cost_s],
        "problem": profile.problem,
        "about": "functions: the guest's own word; several calls under one caller are one bar (args.calls)",
    }
    return json.dumps({"displayTimeUnit": "ns", "otherData": about_all, "traceEvents": events}, separators=(",", ":"))


def _stretches(call: CallPhases) -> Iterator[tuple[str, int, int]]:
    """The phases in nanoseconds; the guest's as one, also where the host served it in between."""
    guest = [(_ns(phase.start), _ns(phase.end)) for phase in call.phases if phase.name == "guest"]
    first, last = (guest[0][0], guest[-1][1]) if guest else (0, 0)
    for phase in call.phases:
        begin, stop = _ns(phase.start), _ns(phase.end)
        if guest and begin == first:
            yield "guest", first, last
        elif stop <= first or begin >= last:
            yield phase.name, begin, stop


def _sums(profile: Profile, total: Tree, functions: list[Function]) -> list[dict[str, Any]]:
    seconds = profile.seconds
    widths = {name: _ns(seconds[name]) for name in _phases.NAMES}
    widths["guest"] = max(widths["guest"], total.total)
    whole = max(_ns(seconds["total"]), sum(widths.values()))
    events = [_bar(_SUMS, f"{profile.count} calls", "call", 0, whole)]
    at = 0
    for name, width in widths.items():
        events.append(_bar(_SUMS, name, "host", at, width))
        if name == "guest":
            events += _functions(_SUMS, total, functions, at, width)
        at += width
    return events


def _functions(track: int, tree: Tree, functions: list[Function], start: int, width: int) -> list[dict[str, Any]]:
    children = tree.children()
    starts = [0] * len(tree)
    events: list[dict[str, Any]] = []
    for parent in (-1, *range(len(tree))):  # callers come before their callees
        at = starts[parent] if parent >= 0 else start
        end = at + (tree.spent[parent] if parent >= 0 else width)
        for child in children[parent]:
            function, spent = functions[tree.functions[child]], min(tree.spent[child], max(0, end - at))
            starts[child] = at
            about: dict[str, Any] = {"calls": tree.calls[child]}
            if function.file:
                about |= {"file": f"{function.file}:{function.line}"} if function.line else {"module": function.file}
            events.append(_bar(track, function.name, "node" if function.line else "builtin", at, spent, about))
            at += spent
    return events


def _title(track: int, name: str) -> list[dict[str, Any]]:
    return [
        {"ph": "M", "name": kind, "pid": track, "tid": track, "args": {"name": text}}
        for kind, text in (("process_name", name), ("thread_name", "host and guest"))
    ]


def _bar(
    track: int, name: str, category: str, start: int, width: int, about: dict[str, Any] | None = None
) -> dict[str, Any]:
    bar: dict[str, Any] = {
        "ph": "X", "name": name, "cat": category, "pid": track, "tid": track, "ts": start / 1000, "dur": width / 1000,
    }  # fmt: skip
    if about:
        bar["args"] = about
    return bar


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
