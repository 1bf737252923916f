"""``cloche bench``: native CPython and the sandbox side by side. Tables on stdout, progress on stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloche.bench import cases, compare, contenders, results, table
from cloche.bench.measure import Settings
from cloche.bench.suite import Suite
from cloche.cli._console import Bar, InputError, say

if TYPE_CHECKING:
    from cloche.bench.contenders import Contender

__all__ = ["Job", "run"]

QUICK_SECONDS = 0.1
SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to measure, and where to put it. See the options of ``cloche bench``."""

    quick: bool
    only: Sequence[str]
    contenders: str | None
    seconds: float | None
    json: Path | None
    csv: Path | None
    old: Path | None
    quiet: bool


def run(job: Job) -> None:
    """Measure, print, write.

    Raises:
        ClocheError, OSError: it cannot be done as asked; said before anything is measured, where possible.
        KeyboardInterrupt: what had been measured is printed and written.
    """
    old = results.load(job.old) if job.old else None
    for path in (job.json, job.csv):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"there is no folder for {path}")
    everything, notes = cases.catalogue()
    chosen = cases.select(everything, list(job.only), job.quick)
    if not chosen:
        raise InputError(f"no case matches {', '.join(job.only)}: try one of {', '.join(_group_ids(everything))}")
    makers = _makers(job.contenders)
    made: list[Contender] = []
    try:
        for name, make in makers.items():
            try:
                made.append(make())
            except contenders.Unsupported as error:
                notes.append(f"{name} was left out: {error}")
        for note in notes:
            say(f"note: {note}")
        suite = Suite(chosen, made, _settings(job), job.quick, _command(), notes)
        try:
            with Bar("bench", len(chosen), job.quiet) as bar:
                suite.run(lambda _case: bar.advance(1))
        finally:
            _deliver(suite.results(), job, old)
    finally:
        for contender in made:
            contender.close()


def _settings(job: Job) -> Settings:
    seconds = job.seconds if job.seconds is not None else QUICK_SECONDS if job.quick else SECONDS
    return Settings(seconds=seconds, warmup_s=seconds / 4)


def _command() -> str:
    return shlex.join(["cloche", *sys.argv[1:]])


def _group_ids(everything: Sequence[cases.Case]) -> list[str]:
    return list(dict.fromkeys(case.group for case in everything))


def _makers(chosen: str | None) -> dict[str, Any]:
    found = contenders.available(say)
    if chosen is None:
        return found
    names = [name.strip() for name in chosen.split(",")]
    unknown = [name for name in names if name not in found]
    if unknown:
        raise InputError(f"there is no contender {unknown[0]!r}: give some of {','.join(found)}")
    return {name: found[name] for name in found if name in names}


def _deliver(data: dict[str, Any], job: Job, old: dict[str, Any] | None) -> None:
    """Files first: a broken pipe on stdout must not cost them."""
    if data["interrupted"]:
        say(f"interrupted: {len(data['cases'])} cases were measured")
    if job.json:
        results.save(data, job.json)
    if job.csv:
        results.save_csv(data, job.csv)
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    for one in table.group_tables(data):
        console.print(one)
    if data["geomean"]:
        console.print(table.geomean_table(data))
    failed = [row for row in results.rows(data) if row["error"]]
    for row in failed:
        say(f"{row['case']}, {row['contender']}: {row['error']}")
    if old is not None:
        for warning in compare.warnings(old, data):
            say(f"warning: {warning}")
        console.print(table.comparison_table(compare.as_rows(compare.compare(old, data))))
    for path in (job.json, job.csv):
        if path:
            say(f"written: {path}")
