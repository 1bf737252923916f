"""Where the time of calls goes, by phase: the medians over many calls, and one typical call."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloche.profiling import PHASES, CallPhases, record
from cloche.source import Source
from cloche_bench import nodes

if TYPE_CHECKING:
    from cloche import Node, Runtime

__all__ = ["phases", "timeline"]

CALLS: Final = 301
_VALUE: Final = {"name": "Ada", "age": 36, "score": 9.5, "active": True, "note": None}


def recorded(node: Node, run: Callable[[], object], calls: int) -> list[CallPhases]:
    """The phases of a node's calls while `run` is called `calls` times. The first tenth, the warm-up, is left out."""
    with record(node, max_calls=100 * calls) as recorder:
        for _ in range(calls):
            run()
    return recorder.calls[len(recorder.calls) // 10 :]


def phases(calls: list[CallPhases]) -> dict[str, float]:
    """The median of each phase, in seconds."""
    return {name: statistics.median([call.totals[name] for call in calls]) for name in PHASES}


def typical(calls: list[CallPhases]) -> CallPhases:
    """The call with the median length."""
    return sorted(calls, key=lambda call: call.end - call.start)[len(calls) // 2]


def timeline(runtime: Runtime) -> dict[str, Any]:
    """One typical call of the node that returns what it gets, with a dict of five keys: its phases, in seconds since it began."""
    with runtime.load(Source(nodes.text("plain"), "plain.py"), "PassThrough") as node:
        call = typical(recorded(node, lambda: node.process(_VALUE), CALLS))
    return {
        "case": "passthrough/dict",
        "total": call.end - call.start,
        "phases": [
            {"name": phase.name, "start": phase.start - call.start, "end": phase.end - call.start}
            for phase in call.phases
        ],
    }
