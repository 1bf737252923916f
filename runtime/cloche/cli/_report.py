"""The report of ``cloche check``, as text and as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from cloche.cli._comparing.rows import Row
from cloche.cli._console import say
from cloche.texts import name

__all__ = ["Call", "Finding", "Import", "Report", "Trouble", "Unread"]

_VERSION = 1
_WIDTH = 15
_MOST_UNTRIED = 20
"""Imports that were not tried, of which the names are shown."""


@dataclass(frozen=True, slots=True)
class Import:
    """A module that the node's sources import.

    Attributes:
        module: its full name.
        file: the file that imports it, and needs it most.
        line: the line there.
        optional: whether the source can do without: it catches the ImportError, or it takes another module instead.
        tried: whether it was tried; if there are very many imports, not all are.
        problem: what the import raises in the sandbox; None if it works, or was not tried.
        remedy: what to do; "" if there is no advice.
    """

    module: str
    file: str
    line: int
    optional: bool
    tried: bool
    problem: str | None
    remedy: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A module of the node's own package that cannot be imported, or an entry that cannot be loaded."""

    module: str
    file: str
    problem: str
    remedy: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A line that does something else in the sandbox than natively.

    Attributes:
        kind: what it is about, e.g. "thread".
        file: the file.
        line: the line.
        use: what is used there.
        problem: what happens in the sandbox: it was tried.
        remedy: what to do.
    """

    kind: str
    file: str
    line: int
    use: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Call:
    """The calls with the items of ``--input``: how many items the node took and gave, and what it raised; None if nothing."""

    items_in: int
    items_out: int
    problem: str | None
    remedy: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check has found. The fields are those of the JSON object."""

    node: str
    imports: list[Import]
    modules: list[Trouble]
    findings: list[Finding]
    unread: list[Unread]
    skipped: int
    load: Trouble | None
    entry: dict[str, Any] | None
    call: Call | None
    nodes: list[Row] = field(default_factory=list)

    def fails(self, *, strict: bool) -> bool:
        """Whether a node does not work: it does not load, lacks an import that it needs, or fails on an item that it should take.

        Args:
            strict: count everything else that was found as well.
        """
        needed = any(item.problem and not item.optional for item in self.imports)
        broken = self.load is not None or (self.call is not None and self.call.problem is not None)
        broken |= any(row.verdict == "broken" for row in self.nodes)
        others = self.findings or self.modules or self.unread or self.skipped
        return needed or broken or bool(strict and (others or any(row.verdict != "works" for row in self.nodes)))

    def to_json(self, *, strict: bool) -> str:
        """One JSON object: ``version`` (1), ``ok`` and the fields."""
        return json.dumps({"version": _VERSION, "ok": not self.fails(strict=strict), **asdict(self)}, indent=2)

    def show(self) -> None:
        """Print the report on stdout, and the node's tracebacks on stderr."""
        _row("imports:", ", ".join(item.module for item in self.imports if item.tried and not item.problem) or "none")
        for item in self.imports:
            if item.problem:
                kind = "missing, optional:" if item.optional else "missing:"
                _row(kind, f"{item.module} ({item.file}:{item.line}): {item.problem}", item.remedy)
        for module in self.modules:
            _row("not importable:", f"{module.module} ({module.file}): {module.problem}", module.remedy)
        for unread in self.unread:
            _row("not read:", f"{unread.file}: {unread.problem}")
        for found in self.findings:
            _row("in the sandbox:", f"{found.file}:{found.line}: {found.use}: {found.problem}", found.remedy)
        if self.skipped:
            untried = [item.module for item in self.imports if not item.tried]
            others = self.skipped - min(len(untried), _MOST_UNTRIED)
            _row("not tried:", ", ".join([*untried[:_MOST_UNTRIED], *([f"{others} more"] if others > 0 else [])]))
        if self.load is not None:
            _row("does not load:", self.load.problem)
            say(self.load.traceback)
            if self.load.remedy:
                say(self.load.remedy)
        if self.entry is not None:
            shapes = [shape for shape in ("is_streaming", "is_source", "is_sink") if self.entry[shape]]
            _row("entry:", f"{name(self.entry['entry'])} ({', '.join([self.entry['kind'], *shapes])})")
            if self.entry["kind"] == "class":
                _row("methods:", ", ".join(sorted(map(name, self.entry["methods"]))))
        if self.call is not None:
            amount = f"{self.call.items_in} items in, {self.call.items_out} out"
            _row("called:", f"{amount}: {self.call.problem}" if self.call.problem else amount, self.call.remedy)
            if self.call.traceback:
                say(self.call.traceback)
        if self.nodes:
            _show_matrix(self.nodes)


def _show_matrix(rows: list[Row]) -> None:
    from rich.console import Console

    from cloche.cli._comparing import table

    print()
    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table.table(rows))
    for row in rows:
        for number, text in enumerate(table.details(row)):
            if not number:
                print(f"{name(row.node)}:")
            print(text)


def _row(head: str, text: str, more: str = "") -> None:
    print(f"{head:{_WIDTH}} {text}")
    if more:
        print(f"{'':{_WIDTH}} {more}")
