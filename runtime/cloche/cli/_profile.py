"""A profile as a short table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cloche.profiling import PHASES

if TYPE_CHECKING:
    from cloche.profiling import FunctionTime, Profile, SampledFunction, SampledProfile

__all__ = ["samples_table", "table"]

_ROWS: Final = 12
_LINES: Final = 3
_NAME: Final = 40


def table(profile: Profile) -> Iterator[str]:
    """The lines of the table: the functions with the most time of their own, then the share of each phase of the calls."""
    rows = profile.functions()
    if rows:
        yield f"{'self ms':>10} {'total ms':>10} {'calls':>9}  function"
        for row in rows[:_ROWS]:
            yield f"{row.self_s * 1e3:10.3f} {row.total_s * 1e3:10.3f} {row.calls:9,}  {_cut(row.name)}  {_place(row)}".rstrip()
        inner, outer = profile.cost_s
        yield f"the profiler's own {(inner + outer) * 1e6:.1f} us a call are taken off; {len(rows)} functions in all"
    if profile.dropped:
        yield f"calls that found no room in the profile: at least {profile.dropped:,}"
    if profile.problem:
        yield f"the guest's profile ends {profile.problem}"
    whole = profile.seconds["total"] or 1.0
    shares = ", ".join(f"{name} {profile.seconds[name] / whole:.1%}" for name in PHASES)
    yield f"{profile.count:,} calls, {whole:.3f} s: {shares}"


def samples_table(profile: SampledProfile) -> Iterator[str]:
    """The lines of a sampled profile's table: the functions with the most time of their own, then what the samples are worth."""
    rows = profile.functions()
    if rows:
        yield f"{'self ms':>10} {'total ms':>10} {'samples':>9}  function"
        for row in rows[:_ROWS]:
            yield f"{row.self_s * 1e3:10.1f} {row.total_s * 1e3:10.1f} {row.samples:9,}  {_cut(row.name)}  {_place(row)}".rstrip()
    lines = ", ".join(f"{line.file}:{line.line} {line.samples:,}" for line in profile.lines()[:_LINES] if line.line)
    if lines:
        yield f"samples by line: {lines}"
    parts = {"only in part believed": profile.torn, "cut": profile.cut, "lost": profile.lost}
    doubts = "".join(f", {count:,} {what}" for what, count in parts.items() if count)
    yield f"{profile.samples:,} samples, {profile.hz:g} a second: {profile.seconds:.3f} s in the node{doubts}"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _place(row: FunctionTime | SampledFunction) -> str:
    if row.line:
        return f"{row.file}:{row.line}"
    return f"({row.file})" if row.file else ""
