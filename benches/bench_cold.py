"""From nothing to the first result: a new sandbox with numpy ready, and a fresh process that imports Cloche.

Timed: `Runtime.load` of a small class and its first `process`; natively, compile, exec and call of the same text, and a fresh
interpreter that imports numpy, the only isolation of that kind that CPython itself offers. Not timed: `close`, where the bench does
not say so; compiling the image. Level: <= 0.6 ms from `load` to the first result.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cloche

SOURCE = "import numpy as np\nclass N:\n    def process(self, x):\n        return float(np.sum(np.arange(x)))\n"


def bench_new_sandbox(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Load a node and take its first result. The node is closed between the rounds."""
    benchmark.group = "new sandbox to first result"
    source = cloche.Source(SOURCE)
    nodes: list[cloche.Node] = []

    def run() -> Any:
        nodes.append(runtime.load(source, "N"))
        return nodes[-1].process(10)

    assert benchmark.pedantic(run, teardown=lambda: nodes.pop().close(), rounds=500, warmup_rounds=20) == 45.0


def bench_life_of_a_sandbox(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Load a node, take its first result, and close it: the whole cost of a sandbox that is used once."""
    benchmark.group = "new sandbox to first result"
    source = cloche.Source(SOURCE)

    def run() -> Any:
        with runtime.load(source, "N") as node:
            return node.process(10)

    assert benchmark(run) == 45.0


def bench_native_exec(benchmark: Any) -> None:
    """Compile, exec and call the same text in this interpreter, without any isolation."""
    benchmark.group = "new sandbox to first result"

    def run() -> Any:
        env: dict[str, Any] = {}
        exec(compile(SOURCE, "node.py", "exec"), env)  # the bench's own text
        return env["N"]().process(10)

    assert benchmark(run) == 45.0


def bench_native_process(benchmark: Any) -> None:
    """A fresh native interpreter that imports numpy and runs the same text."""
    benchmark.group = "new sandbox to first result"
    command = [sys.executable, "-c", SOURCE + "print(N().process(10))"]
    out = benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True).stdout, rounds=3)
    assert out.strip() == b"45.0"


def bench_import(benchmark: Any) -> None:
    """`import cloche` in a fresh interpreter. The figure includes the interpreter's start. Level: <= 60 ms."""
    benchmark.group = "a fresh process"
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", "import cloche"], check=True), rounds=10, warmup_rounds=1
    )


def bench_import_wasmtime(benchmark: Any) -> None:
    """`import wasmtime` in a fresh interpreter, for comparison. The figure includes the interpreter's start."""
    benchmark.group = "a fresh process"
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", "import wasmtime"], check=True), rounds=10, warmup_rounds=1
    )


def bench_first_result_of_a_process(benchmark: Any, runtime: cloche.Runtime) -> None:
    """A process from its start to its end, with import, load and one result. Level: <= 150 ms.

    The image is compiled before, by the fixture `runtime`.
    """
    benchmark.group = "a fresh process"
    program = (
        f"import cloche\nwith cloche.Runtime() as r, r.load(cloche.Source({SOURCE!r}), 'N') as n: print(n.process(10))"
    )
    run = [sys.executable, "-c", program]
    out = benchmark.pedantic(
        lambda: subprocess.run(run, capture_output=True, check=True).stdout, rounds=10, warmup_rounds=1
    )
    assert out.strip() == b"45.0"
