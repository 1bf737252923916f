"""Where the time of calls goes, from recorded phases: medians over many calls, and the one call that is typical."""

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
    """Run it that many times while the phases of the node's calls are recorded; the first tenth is left out."""
    with record(node, max_calls=100 * calls) as recorder:
        for _ in range(calls):
            run()
    return recorder.calls[len(recorder.calls) // 10 :]


def phases(calls: list[CallPhases]) -> dict[str, float]:
    """The median of each phase, in seconds."""
    return {name: statistics.median([call.totals[name] for call in calls]) for name in PHASES}


def typical(calls: list[CallPhases]) -> CallPhases:
    """The call of median length."""
    return sorted(calls, key=lambda call: call.end - call.start)[len(calls) // 2]


def timeline(runtime: Runtime) -> dict[str, Any]:
    """One typical call of the pass-through node with a dict of five, phase by phase, from its own start."""
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
