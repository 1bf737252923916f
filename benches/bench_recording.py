"""One call of a dict of five keys, recorded and not: what ``record`` of `Runtime.load` adds to a call.

Timed: `Node.process` of a node that is not recorded ("off"), and of one whose last calls are kept ("on"), in the same run.
Not timed: loading. The checkpoints that are taken every 2000 calls are timed, as part of the calls. Natively: the function itself.
Levels: "on" costs at most 1.1 times what "off" does.
"""

from __future__ import annotations

from typing import Any

import pytest

import cloche

SOURCE = "def f(x):\n    return x\n"
VALUE = {"a": 1, "b": 2, "c": 3.0, "d": "x", "e": None}


@pytest.mark.parametrize("stage", ["native", "off", "on"])
def bench_call(benchmark: Any, runtime: cloche.Runtime, stage: str) -> None:
    """One call of a node that returns its argument."""
    if stage == "native":
        assert benchmark(lambda x: x, VALUE) == VALUE
        return
    with runtime.load(cloche.Source(SOURCE), record=stage == "on") as node:
        assert benchmark(node.process, VALUE) == VALUE
