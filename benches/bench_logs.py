"""One call of a node that prints lines: what it costs to have the lines while the call runs (``on_log``), instead of after it.

Timed: `Node.process` of a node that prints LINES lines, or none: as it is, through a view without `on_log` (`deadline_s`), and
through one with it. The logger of the runtime throws everything away. Not timed: loading, and what the function does. Natively the
same lines go to a list.
Levels: without lines, `on_log` costs <= 1.3 times the other view; each line costs <= 40 us more.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

import cloche

LINES = 100
SOURCE = "def f(lines):\n    for number in range(lines):\n        print('line', number)\n    return lines\n"


class Nowhere:
    """A logger that keeps nothing."""

    def info(self, message: str, **fields: Any) -> None:
        """Do nothing."""

    debug = warning = error = critical = info


def natively(lines: int) -> int:
    """The same, run by native CPython."""
    with contextlib.redirect_stdout(io.StringIO()):
        for number in range(lines):
            print("line", number)
    return lines


@pytest.mark.parametrize("contender", ["plain", "deadline_s", "on_log", "native"])
@pytest.mark.parametrize("lines", [0, LINES])
def bench_lines(benchmark: Any, lines: int, contender: str) -> None:
    """A call with so many lines."""
    benchmark.group = f"{lines} lines"
    if contender == "native":
        assert benchmark(natively, lines) == lines
        return
    with cloche.Runtime(logger=Nowhere()) as runtime, runtime.load(cloche.Source(SOURCE)) as node:
        views = {
            "plain": node,
            "deadline_s": node.with_options(deadline_s=10),
            "on_log": node.with_options(on_log=lambda record: None),
        }
        assert benchmark(views[contender].process, lines) == lines
