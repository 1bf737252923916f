"""A node's state: snapshot, restore, clone, and pools of clones.

Timed: `Node.snapshot` and `Runtime.restore` (reseeded) of a node with 2 MiB of state; `Node.clone` of a small node; its snapshot to
bytes and back, beside the whole pages that the node has written to, as bytes; a pool of two clones over 200 small jobs, beside a
`ProcessPoolExecutor` of native CPython. Not timed: closing a node, starting a pool. `extra_info` has the sizes of the bytes.
Levels: snapshot of 2 MiB <= 0.5 ms, restore <= 2 ms.
"""

from __future__ import annotations

import hashlib
import zlib
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
    """The same job, run by native CPython."""
    return sum(i * x for i in range(2000))


def _node(runtime: cloche.Runtime) -> cloche.Node:
    """A node with 2 MiB of state."""
    node = runtime.load(SOURCE, "N")
    assert node.process(2 << 20) == 2 << 20
    return node


def bench_snapshot(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Find the words of a node that differ from the image."""
    with _node(runtime) as node:
        snapshot = benchmark(node.snapshot)
        assert snapshot.size_bytes > 2 << 20


def bench_restore(benchmark: Any, runtime: cloche.Runtime) -> None:
    """Give a snapshot's words to a fresh instance, and reseed it. The node is closed between the rounds."""
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
    """Clone a small node, as a pool does to replace a broken one. The clone is closed between the rounds."""
    with runtime.load(cloche.Source(JOB), "f") as node:
        nodes: list[cloche.Node] = []
        benchmark.pedantic(
            lambda: nodes.append(node.clone()),
            teardown=lambda: nodes.pop().__cloche__.discard(),
            rounds=300,
            warmup_rounds=5,
        )


def bench_bytes_of_a_small_node(benchmark: Any, runtime: cloche.Runtime) -> None:
    """`Snapshot.to_bytes`: what is stored or sent."""
    benchmark.group = "a small node as bytes"
    with runtime.load(cloche.Source(JOB), "f") as node:
        data = benchmark(node.snapshot().to_bytes)
        benchmark.extra_info["bytes"] = len(data)
        benchmark.extra_info["of whole pages"] = len(data) / len(_packed(_whole_pages(node)))


def bench_whole_pages_of_a_small_node(benchmark: Any, runtime: cloche.Runtime) -> None:
    """The same with all of each page that the node has written to."""
    benchmark.group = "a small node as bytes"
    with runtime.load(cloche.Source(JOB), "f") as node:
        benchmark.extra_info["bytes"] = len(benchmark(_packed, _whole_pages(node)))


def bench_snapshot_of_bytes(benchmark: Any, runtime: cloche.Runtime) -> None:
    """`Snapshot.from_bytes`, which checks everything."""
    with runtime.load(cloche.Source(JOB), "f") as node:
        data = node.snapshot().to_bytes()
        assert benchmark(cloche.Snapshot.from_bytes, data).memory_digest == node.snapshot().memory_digest


def _whole_pages(node: cloche.Node) -> bytes:
    memory = node.__cloche__.sandbox._memory  # type: ignore[attr-defined]
    return b"".join(memory._view[4096 * first : 4096 * (first + count)] for first, count in memory.dirty_runs())


def _packed(pages: bytes) -> bytes:
    data = zlib.compress(pages, 1)
    return data + hashlib.blake2b(data, digest_size=32).digest()


def bench_pool(benchmark: Any, runtime: cloche.Runtime) -> None:
    """200 jobs on two clones."""
    benchmark.group = "pool of 2, 200 jobs"
    with runtime.pool(cloche.Source(JOB), "f", size=2) as pool:
        assert benchmark(lambda: list(pool.map(JOBS))) == [native_job(x) for x in JOBS]


def bench_process_pool_native(benchmark: Any) -> None:
    """The same 200 jobs on two native processes."""
    benchmark.group = "pool of 2, 200 jobs"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert benchmark(lambda: list(pool.map(native_job, JOBS))) == [native_job(x) for x in JOBS]
