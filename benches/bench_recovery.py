"""The cost of recovery: from a trap to the recovered node's next result, and checkpoints after calls.

Timed: a call that traps, the recovery (reseeded), and the next result; beside it, the same without ``on_break``: a call that traps,
`Runtime.load`, and the next result. Then one call with a checkpoint after each call, after every hundredth, and without. The node's
state is small, or 2 MiB. Not timed: loading the first node.
"""

from __future__ import annotations

from typing import Any

import pytest

import cloche

SOURCE = cloche.Source(
    "import os\nclass N:\n    def __init__(self, size):\n        self.data = os.urandom(64) * (size // 64)\n"
    "    def process(self, x):\n        if x is None: os.abort()\n        return x\n"
)
SIZES = [pytest.param(0, id="small"), pytest.param(2 << 20, id="2MiB")]


def _trap(node: cloche.Node) -> None:
    """Make the node's guest trap."""
    try:
        node.process(None)
    except cloche.GuestTrapError:
        return
    raise AssertionError("it did not trap")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("on_break", ["restart", "restore"])
def bench_trap_to_answer(benchmark: Any, runtime: cloche.Runtime, on_break: Any, size: int) -> None:
    """The runtime recovers the node before it raises the error of the trap."""
    benchmark.group = f"trap to the next answer, {size >> 20} MiB"
    with runtime.load(SOURCE, "N", {"size": size}, on_break=on_break) as node:

        def run() -> Any:
            _trap(node)
            return node.process(1)

        assert benchmark.pedantic(run, rounds=100, warmup_rounds=5) == 1


@pytest.mark.parametrize("size", SIZES)
def bench_trap_and_load(benchmark: Any, runtime: cloche.Runtime, size: int) -> None:
    """The caller loads the node again. This node has almost nothing to load."""
    benchmark.group = f"trap to the next answer, {size >> 20} MiB"
    nodes = [runtime.load(SOURCE, "N", {"size": size})]

    def run() -> Any:
        _trap(nodes.pop())
        nodes.append(runtime.load(SOURCE, "N", {"size": size}))
        return nodes[0].process(1)

    assert benchmark.pedantic(run, rounds=100, warmup_rounds=5) == 1
    nodes[0].close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("every", [None, 100, 1], ids=["none", "every100", "each"])
def bench_call_with_checkpoint(benchmark: Any, runtime: cloche.Runtime, every: int | None, size: int) -> None:
    """A call without checkpoints, with one after every hundredth call, and with one after each call."""
    benchmark.group = f"a call, with checkpoints, {size >> 20} MiB"
    options: dict[str, Any] = {} if every is None else {"on_break": "restore", "checkpoint_every": every}
    with runtime.load(SOURCE, "N", {"size": size}, **options) as node:
        assert benchmark.pedantic(node.process, (1,), rounds=300, warmup_rounds=20) == 1
