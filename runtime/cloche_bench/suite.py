"""One run of the bench: it measures every case in every contender, and has the results."""

from __future__ import annotations

import datetime
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cloche.metering import DEFAULT_METERING
from cloche_bench import machine, measure, published, results, timeline
from cloche_bench.case import Case
from cloche_bench.cases import groups
from cloche_bench.contender import Contender
from cloche_bench.measure import Lane, Settings
from cloche_bench.operations import Unsupported
from cloche_bench.pace import SITS_OUT, Pace
from cloche_bench.sandboxes import ClocheContender, main_sandbox

__all__ = ["UNFAIR", "Suite", "close_to"]

RELATIVE_TOLERANCE: Final = 1e-5

UNFAIR: Final = [
    "Native Python and the guest's Python are different versions, and part of each ratio is what changed between them.",
    (
        "A native call has no isolation, no deadline and no memory limit, and copies nothing. For nodes that do next to nothing, "
        "the ratio compares the cost of the boundary with nothing: read the times there, not the ratios."
    ),
    (
        "Native numpy uses SIMD chosen at run time and a BLAS on all cores, unless OPENBLAS_NUM_THREADS says otherwise (see the "
        "flags); the guest has one thread and 128-bit SIMD."
    ),
    "The subprocess is trusted: it has no limits, and the host unpickles what it sends. To isolate it would cost more.",
    "Contenders take turns in one process, so each finds the caches filled by the others. That favours small ones.",
    "Published figures of other projects were measured elsewhere, on other machines and versions.",
]


def close_to(a: Any, b: Any, *, exact: bool) -> bool:
    """Whether two results are the same. Arrays must have the same dtype and shape; floats may differ by 1e-5 of their value unless
    `exact`.
    """
    if hasattr(a, "dtype") or hasattr(b, "dtype"):
        import numpy as np

        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(np.array_equal(a, b) if exact else np.allclose(a, b, rtol=RELATIVE_TOLERANCE))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close_to(a[key], b[key], exact=exact) for key in a)
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(close_to(x, y, exact=exact) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float) and not exact:
        return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
    return type(a) is type(b) and bool(a == b)


@dataclass
class Suite:
    """One run. `results` can be taken at any moment, also after an interruption.

    Attributes:
        cases: what to measure.
        contenders: where to measure it.
        settings: how long to measure each case.
        total_s: about how long the whole run may take; None: as long as it needs. When time runs short, cases are measured for less
            time, and slow contenders sit out cases (`Pace`). Cases that are left at the end are left out, with a note.
        quick: whether the cases are the selection of ``--quick``.
        command: the command line, for the file of results.
        notes: sentences on what was left out, and why.
        entries: the cases that have been measured.
        interrupted: whether the user ended the run early.
        node: the section of the results on a node of the user's; None: there is none.
    """

    cases: Sequence[Case]
    contenders: Sequence[Contender]
    settings: Settings
    total_s: float | None = None
    quick: bool = False
    command: str = "cloche bench"
    notes: list[str] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    node: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(20)
        self._created = datetime.datetime.now(datetime.UTC)
        self._machine = machine.machine()

    def run(self, tell: Callable[[Case], None] = lambda _: None) -> None:
        """Measure the cases one after the other.

        Args:
            tell: called with each case before it is measured.

        Raises:
            KeyboardInterrupt: the user interrupted the run. The cases that were measured by then are kept.
        """
        began = time.monotonic()
        pace = Pace(self.total_s or math.inf, len(self.cases), [contender.id for contender in self.contenders])
        try:
            for index, case in enumerate(self.cases):
                spent_s = time.monotonic() - began
                settings = self._affordable(spent_s, len(self.cases) - index)
                if settings is None:
                    left = [case.id for case in self.cases[index:]]
                    self.notes.append(f"{len(left)} cases were left out, because the time was over: {', '.join(left)}")
                    return
                tell(case)
                self.entries.append(self._one(case, settings, pace, pace.sitting_out(spent_s, index)))
        except KeyboardInterrupt:
            self.interrupted = True
            raise

    def _affordable(self, spent_s: float, cases: int) -> Settings | None:
        """The settings for the next case, with less time if the rest of the run is short of it; None if no time is left."""
        if self.total_s is None:
            return self.settings
        share = (self.total_s - spent_s) / (cases * max(1, len(self.contenders)))
        if share <= 0:
            return None
        seconds = min(self.settings.seconds, share / 1.5)  # loading and warming up take the rest
        return Settings(seconds=seconds, warmup_s=min(self.settings.warmup_s, seconds / 4))

    def _one(self, case: Case, settings: Settings, pace: Pace, sitting_out: frozenset[str]) -> dict[str, Any]:
        lanes = []
        try:
            for contender in self.contenders:
                lane = Lane(contender.id)
                lanes.append(lane)
                with lane.spending():
                    if contender.id in sitting_out:
                        raise Unsupported(SITS_OUT)
                    lane.operation = case.operation(contender)
            measure.verify(lanes, lambda a, b: close_to(a, b, exact=case.exact))
            measure.measure(lanes, settings, self._rng)
            for lane in lanes:
                pace.spend(lane.id, lane.spent_s)
        finally:
            for contender in self.contenders:
                contender.release()
        return results.case_entry(case, lanes, self._rng)

    def results(self) -> dict[str, Any]:
        """The results so far, in the form of the file."""
        sandboxes = [contender for contender in self.contenders if isinstance(contender, ClocheContender)]
        runtime = sandboxes[0].runtime if sandboxes else None
        inside = main_sandbox(self.contenders)
        measured = {entry["group"] for entry in self.entries}
        return {
            "schema": results.SCHEMA,
            "created": self._created.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "quick": self.quick,
            "command": self.command,
            "interrupted": self.interrupted,
            "machine": self._machine,
            "versions": machine.versions(runtime),
            "flags": {
                "seconds_per_case": self.settings.seconds,
                "warmup_s": self.settings.warmup_s,
                "min_rounds": measure.MIN_ROUNDS,
                "rounds": measure.ROUNDS,
                "interleaved": True,
                "gc": "collected and frozen before each case, on while timed",
                "clock_overhead_s": measure.clock_overhead_s(),
                **machine.environment_flags(),
            },
            "contenders": [{"id": c.id, "label": c.label, "note": c.note} for c in self.contenders],
            "unfair": UNFAIR,
            "notes": self.notes,
            "published": [published.RUSTPYTHON],
            "groups": [
                {"id": group.id, "title": group.title, "about": group.about}
                for group in groups()
                if group.id in measured
            ],
            "cases": self.entries,
            "geomean": results.geomeans(self.entries, [contender.id for contender in self.contenders]),
            "node": self.node,
            "default": DEFAULT_METERING,
            "timeline": timeline.timeline(inside.runtime) if inside else None,
        }
