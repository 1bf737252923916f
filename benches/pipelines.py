"""What a pipeline costs and gains, as ratios of one run: batches against calls, a stage's overhead, overlap of stages, memory.

Timed: the sandbox's batches of 16 small items against 16 calls; whole runs of small items through one and two stages, natively and
sandboxed, each figure an item's share, beside a native loop; and three sandboxed stages of some milliseconds an item against the
same nodes called one after the other, beside what three threads with a node each reach on this machine without a pipeline. Also:
how much the process grows during a long run. Not timed: loading. Levels: a batch takes at most a third of its calls; a sandboxed
stage adds at most a quarter of a call; three busy stages on two processors have at least 1.7 times the throughput of the serial
run; a long run does not grow.

    .venv/bin/python benches/pipelines.py [--quick]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloche
from cloche._runtime.batches import Batches
from cloche._runtime.stream import StreamSession
from cloche.pipeline import NodeSpec, Pipeline

QUICK = "--quick" in sys.argv
ROUNDS = 10 if QUICK else 30
SMALL_ITEMS = 2000 if QUICK else 30_000
BUSY_ITEMS = 20 if QUICK else 60
MANY_ITEMS = 2000 if QUICK else 1_000_000
SMALL = cloche.Source("def small(x): return x + 1")
BUSY = cloche.Source("def busy(x):\n    for i in range(60_000): pass\n    return x")


def small(x: int) -> int:
    """The small node, natively."""
    return x + 1


def best(function: Callable[[], object]) -> float:
    """The shortest of several times, in seconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def batches(runtime: cloche.Runtime) -> tuple[float, float]:
    """Seconds of 16 calls, and of a batch of 16."""
    items = list(range(16))
    with runtime.load(SMALL) as called, runtime.load(SMALL) as batched:
        calls = batched.__cloche__
        stream = StreamSession(calls)
        stream.open()
        batch = Batches(calls, stream)
        return best(lambda: [called.process(x) for x in items * 20]) / 20, best(
            lambda: [batch.send(items) for _ in range(20)]
        ) / 20


def per_item(nodes: Iterable[NodeSpec], runtime: cloche.Runtime, count: int) -> float:
    """Seconds for each item of a run, without its start and end."""
    with Pipeline(nodes, runtime=runtime) as pipeline:
        outputs = pipeline.run(range(count))
        next(outputs)
        began = time.perf_counter()
        for _ in outputs:
            pass
        return (time.perf_counter() - began) / (count - 1)


def overlap(runtime: cloche.Runtime) -> tuple[float, float]:
    """Throughput of three busy stages, and of three threads, as multiples of that of the same nodes one after the other."""
    nodes = [runtime.load(BUSY) for _ in range(3)]
    for node in nodes:
        node.process(0)
    began = time.perf_counter()
    for x in range(BUSY_ITEMS):
        for node in nodes:
            x = node.process(x)
    serial = (time.perf_counter() - began) / BUSY_ITEMS
    with ThreadPoolExecutor(3) as threads:
        began = time.perf_counter()
        list(threads.map(lambda node: [node.process(x) for x in range(BUSY_ITEMS)], nodes))
        parallel = (time.perf_counter() - began) / BUSY_ITEMS
    stages = per_item([NodeSpec(BUSY, id=f"n{number}") for number in range(3)], runtime, BUSY_ITEMS + 1)
    return serial / stages, serial / parallel


def growth(nodes: Iterable[NodeSpec], runtime: cloche.Runtime) -> float:
    """MiB by which the process grows between a fifth of a long run and its end."""
    resident = 0.0
    with Pipeline(nodes, runtime=runtime) as pipeline:
        for count, _ in enumerate(pipeline.run(iter(range(MANY_ITEMS))), 1):
            if count == MANY_ITEMS // 5:
                resident = _resident_mib()
        return _resident_mib() - resident


def _resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _native(count: int = 1) -> list[NodeSpec]:
    return [NodeSpec(small, placement="native", id=f"n{number}") for number in range(count)]


def main() -> None:
    """Measure, and print each figure with its level."""
    with cloche.Runtime() as runtime:
        calls, batch = batches(runtime)
        print(
            f"16 calls {calls * 1e6:.1f} us, a batch of 16 {batch * 1e6:.1f} us: {batch / calls:.2f} of them (level: 0.33)"
        )
        loop = best(lambda: [small(x) for x in range(SMALL_ITEMS)]) / SMALL_ITEMS
        figures: dict[str, Any] = {
            "native": _native(),
            "two native": _native(2),
            "sandboxed": [NodeSpec(SMALL)],
            "two sandboxed": [NodeSpec(SMALL, id="a"), NodeSpec(SMALL, id="b")],
        }
        for name, nodes in figures.items():
            took = min(per_item(nodes, runtime, SMALL_ITEMS) for _ in range(2 if QUICK else 3))
            share = took / (calls / 16)
            print(f"{name}: {took * 1e6:.2f} us an item, {share:.2f} of a call (a loop: {loop * 1e6:.3f} us)")
        stages, threads = overlap(runtime)
        print(
            f"three busy stages: {stages:.2f} times the serial run (level: 1.7 on two processors); three threads: {threads:.2f}"
        )
        for name in ("two native", "sandboxed"):
            print(f"{name}, {MANY_ITEMS:,} items: {growth(figures[name], runtime):+.1f} MiB (level: +-1)")


if __name__ == "__main__":
    main()
