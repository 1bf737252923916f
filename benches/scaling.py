"""The throughput of two nodes on two threads against one node on one thread: a guest computes without the GIL.

Timed: threads that each call their own node, with calls of several lengths; natively, threads that run the same functions, and
share the GIL. One and two threads take turns; the figure is the median of several rounds. Not timed: loading. Level: two threads
have at least 1.9 times the throughput of one.

    .venv/bin/python benches/scaling.py [--quick]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cloche
from cloche_bench import nodes

QUICK = "--quick" in sys.argv
ROUNDS = 2 if QUICK else 9
SECONDS = 0.02 if QUICK else 0.4
LENGTHS = {"0.1 ms": 600, "1 ms": 6000, "10 ms": 60_000}
"""The size of the work, by how long a call in the guest takes, roughly."""


def throughput(calls: list[Callable[[], Any]]) -> float:
    """Calls per second of all functions together, each on its own thread."""
    done = [0] * len(calls)
    start, stop = threading.Barrier(len(calls) + 1), time.perf_counter() + SECONDS + 0.005

    def work(index: int) -> None:
        call = calls[index]
        start.wait()
        while not done[index] or time.perf_counter() < stop:
            call()
            done[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def scaled(make: Callable[[], Callable[[], Any]]) -> tuple[float, float]:
    """Compare one thread with two.

    Args:
        make: makes the function that a thread calls.

    Returns:
        calls per second of one thread; and the throughput of two threads as a multiple of that.
    """
    two = [make(), make()]
    ones, ratios = [], []
    for _ in range(ROUNDS):
        one = throughput(two[:1])
        ones.append(one)
        ratios.append(throughput(two) / one)
    return statistics.median(ones), statistics.median(ratios)


def main() -> None:
    namespace: dict[str, Any] = {}
    text = nodes.text("kernels")
    exec(compile(text, "kernels.py", "exec"), namespace)
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30)) as runtime:
        print(f"{'call':8} {'contender':9} {'1 thread':>14} {'2 threads':>10}")
        for title, size in LENGTHS.items():

            def sandboxed(size: int = size) -> Callable[[], Any]:
                process = runtime.load(cloche.Source(text, "kernels.py"), "generators").process
                return lambda: process(size)

            def native(size: int = size) -> Callable[[], Any]:
                return lambda: namespace["generators"](size)

            for name, make in (("cloche", sandboxed), ("native", native)):
                one, ratio = scaled(make)
                print(f"{title:8} {name:9} {one:10.0f} /s {ratio:9.2f}x")


if __name__ == "__main__":
    main()
