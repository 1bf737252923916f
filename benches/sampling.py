"""What sampling costs: the processor time of calls with a sampler at 100 Hz, as a ratio to calls without, and that of the sampler itself.

Both are taken in turns in one process, so that they share what else the machine does. Level: a ratio of at most 1.01.

    python -m benches.sampling [--quick]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import cloche
from cloche.profiling import sample

SOURCE = """
def down(n, x):
    return down(n - 1, x) if n else x
def flat(x):
    return x
def deep(x):
    return down(100, x)
def loop(x):
    for i in range(2000):
        x = {**x, "a": i}
    return x
"""
VALUE = {"a": 1, "b": 2.0, "c": "three", "d": [1, 2], "e": None}
HZ = 100


def threads() -> dict[str, int]:
    """Nanoseconds of processor time of each thread of this process."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[0])
        except OSError:  # it has just ended
            continue
    return found


def block(node: cloche.Node, seconds: float) -> float:
    """Processor time of one call, of all threads together."""
    count, began, until = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in range(10):
            node.process(VALUE)
        count += 10
    return (time.process_time() - began) / count


def own(node: cloche.Node, seconds: float) -> tuple[float, int]:
    """Processor time of the sampler's thread for a second, and the number of its samples."""
    before = threads()
    with sample(node, hz=HZ) as profile:
        block(node, seconds)
        spent = [now for task, now in threads().items() if task not in before]
        return (max(spent) if spent else 0) / 1e9 / seconds, profile.samples


def main(quick: bool) -> None:
    rounds, seconds = (2, 0.02) if quick else (60, 0.25)
    print(f"{'node':6} {'us a call':>10} {'ratio':>7} {'sampler':>9} {'samples':>8}")
    with cloche.Runtime() as runtime:
        for entry in ("flat", "deep", "loop"):
            with runtime.load(cloche.Source(SOURCE), entry) as node:
                block(node, seconds)
                plain, ratios = [], []
                for number in range(rounds):
                    if number % 2:
                        plain.append(block(node, seconds))
                    with sample(node, hz=HZ):
                        sampled = block(node, seconds)
                    if not number % 2:
                        plain.append(block(node, seconds))
                    ratios.append(sampled / plain[-1])
                share, samples = own(node, seconds if quick else 4.0)
                ratio = statistics.median(ratios)
                print(f"{entry:6} {statistics.median(plain) * 1e6:10.1f} {ratio:7.3f} {share:9.2%} {samples:8}")


if __name__ == "__main__":
    main("--quick" in sys.argv)
