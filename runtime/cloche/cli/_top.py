"""``cloche top``: how the nodes of running processes are doing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from cloche import inspection
from cloche.cli._console import say
from cloche.cli._watch import duration
from cloche.errors import ClocheError
from cloche.texts import line, name

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["rows", "run"]

HEADS: Final = ("process", "node", "calls", "calls/s", "p50", "p99", "memory", "own", "breaks", "where")
_TEXTS: Final = ("process", "node", "where")
_WIDE: Final = 110
"""Characters of a terminal that shows all columns."""
_SPARED: Final = ("p50", "memory", "breaks")
"""Columns that a narrower one does not show."""
_HOW: Final = "Start it with CLOCHE_TOP=1 in its environment, or make its Runtime with inspectable=True"
_Counts = dict[tuple[int, int], tuple[float, int]]
"""Process and node -> the process's clock, and the calls so far."""


def run(pid: int | None, interval: float, *, as_json: bool) -> None:
    """Show all processes, or one: again and again on a terminal, else once.

    Raises:
        ClocheError: there is nothing to show.
    """
    if as_json:
        answers, _ = _asked(pid)
        print(json.dumps({"version": inspection.VERSION, "processes": answers}))
        return
    answers, problems = _asked(pid)
    counts = _counts(answers)
    if not sys.stdout.isatty():
        time.sleep(interval)  # a rate needs two looks
        answers, problems = _asked(pid)
        _print(rows(answers, counts), problems)
        return
    from rich.live import Live

    with Live(_table(rows(answers, {}), problems, None), auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            try:
                answers, problems = _asked(pid)
            except ClocheError as error:
                live.stop()
                say(str(error))
                return
            live.update(_table(rows(answers, counts), problems, live.console.width), refresh=True)
            counts = _counts(answers)


def _asked(pid: int | None) -> tuple[list[dict[str, Any]], list[str]]:
    """What the processes say, and why others say nothing."""
    answers, problems = [], []
    for one in inspection.processes() if pid is None else [pid]:
        try:
            answer = inspection.ask(one)
        except ClocheError as error:
            problems.append(str(error))
            continue
        if answer is not None:
            answers.append(answer)
    if not answers and not problems:
        who = (
            "no process of yours shows its nodes"
            if pid is None
            else f"process {pid} does not show its nodes, or has ended"
        )
        raise ClocheError(f"{who}. {_HOW}")
    return answers, problems


def _nodes(answers: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for answer in answers:
        for runtime in answer["runtimes"]:
            for node in runtime["nodes"]:
                yield answer, node


def _counts(answers: list[dict[str, Any]]) -> _Counts:
    return {(answer["pid"], node["id"]): (answer["at"], node["calls"]) for answer, node in _nodes(answers)}


def rows(answers: list[dict[str, Any]], before: _Counts) -> list[tuple[str, ...]]:
    """A row of texts for each node, those at work first.

    Args:
        answers: of the processes.
        before: calls at an earlier look, for the rates.
    """
    found = sorted(_nodes(answers), key=lambda pair: (not pair[1]["busy"], -pair[1]["seconds"]))
    return [_row(answer, node, before.get((answer["pid"], node["id"]))) for answer, node in found]


def _row(answer: dict[str, Any], node: dict[str, Any], before: tuple[float, int] | None) -> tuple[str, ...]:
    rate = "-"
    if before is not None and answer["at"] > before[0]:
        a_second = max(0, node["calls"] - before[1]) / (answer["at"] - before[0])
        rate = f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.1f}"
    own = node["private_bytes"]
    return (
        f"{answer['pid']} {line(answer['program'], 20)}",
        name(node["name"]),
        f"{node['calls']:,}",
        rate,
        duration(node["p50_s"]),
        duration(node["p99_s"]),
        _size(node["memory_bytes"]),
        "-" if own is None else _size(own),
        f"{node['breaks']:,}",
        _where(node),
    )


def _size(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _where(node: dict[str, Any]) -> str:
    if not node["busy"]:
        return "at rest"
    if not node["where"]:
        return "in a call"
    file, number, function = node["where"][-1]
    return f"{name(function)} {name(file)}:{number}"


def _print(found: list[tuple[str, ...]], problems: list[str]) -> None:
    widths = [max(map(len, column)) for column in zip(HEADS, *found, strict=True)]
    for row in (HEADS, *found):
        cells = [
            cell.ljust(width) if head in _TEXTS else cell.rjust(width)
            for head, cell, width in zip(HEADS, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    for problem in problems:
        say(problem)


def _table(found: list[tuple[str, ...]], problems: list[str], width: int | None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    spared = _SPARED if width is not None and width < _WIDE else ()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=Text("\n".join(problems)), caption_justify="left")
    for head in HEADS:
        if head not in spared:
            table.add_column(head, justify="left" if head in _TEXTS else "right", no_wrap=True)
    for row in found:
        table.add_row(*(Text(cell) for head, cell in zip(HEADS, row, strict=True) if head not in spared))
    return table
