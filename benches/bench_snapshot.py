"""A node's state: taken, restored, cloned, and pools of clones. Levels: snapshot of 2 MiB dirty <= 0.5 ms, restore <= 2 ms.

Timed: `Node.snapshot` and `Runtime.restore` (reseeded; closed between the rounds) of a node that holds 2 MiB of its own; a pool of two workers over 200
small jobs beside `ProcessPoolExecutor` with native CPython. Not timed: starting either pool.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cloche

SOURCE = cloche.Source(
    "import os\nclass N:\n    def process(self, x):\n        self.data = os.urandom(64) * (x // 64)\n        return len(self.data)\n"
)
JOB = "def f(x):\n    return sum(i * x for i in range(2000))\n"
JOBS = range(200)


def native_job(x: int) -> int:
    """The same, native."""
    return sum(i * x for i in range(2000))


def _node(runtime: cloche.Runtime) -> cloche.Node:
    node = runtime.load(SOURCE, "N")
    assert node.process(2 << 20) == 2 << 20
    return node


def bench_snapshot(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Copy the dirty pages out."""
    with _node(runtime) as node:
        snapshot = benchmark(node.snapshot)
        assert len(snapshot.pages) > 2 << 20


def bench_restore(benchmark: Any, runtime: cloche.Runtime) -> None:
    """A fresh instance with those pages, reseeded; and its end."""
    with _node(runtime) as node:
        snapshot = node.snapshot()
        nodes: list[cloche.Node] = []
        benchmark.pedantic(
            lambda: nodes.append(runtime.restore(snapshot)),
            teardown=lambda: nodes.pop().__cloche__.discard(),
            rounds=200,
            warmup_rounds=5,
        )


def bench_clone_of_a_small_node(benchmark: Any, runtime: cloche.Runtime) -> None:
    """What a pool pays to replace a worker's node."""
    with runtime.load(cloche.Source(JOB), "f") as node:
        nodes: list[cloche.Node] = []
        benchmark.pedantic(
            lambda: nodes.append(node.clone()),
            teardown=lambda: nodes.pop().__cloche__.discard(),
            rounds=300,
            warmup_rounds=5,
        )


def bench_pool(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Two workers, 200 jobs."""
    benchmark.group = "pool of 2, 200 jobs"
    with runtime.pool(cloche.Source(JOB), "f", size=2) as pool:
        assert benchmark(lambda: list(pool.map(JOBS))) == [native_job(x) for x in JOBS]


def bench_process_pool_native(benchmark: Any) -> None:
    """The same by native processes."""
    benchmark.group = "pool of 2, 200 jobs"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert benchmark(lambda: list(pool.map(native_job, JOBS))) == [native_job(x) for x in JOBS]
