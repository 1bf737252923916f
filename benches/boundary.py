"""The cost of a call and the lateness of deadlines, each beside a figure to compare with, in one run: `python benches/boundary.py`.

Timed: calls as a caller makes them, encoding and decoding included, with logs on and none written; and the time from a deadline to
the moment that the caller has the error. Not timed: loading. Every row of the first table gives a ratio of best times of
interleaved rounds, because machines differ and are shared. Lateness is given as median and 99th percentile.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cbor2

import cloche

DICT = {"a": 1, "b": 2.5, "c": "hello", "d": True, "e": None}
ECHO = "def f(x): return x\n"
GENERATOR = "def f(n):\n    for i in range(n): yield i\n"
SPIN = """
class Spin:
    def __init__(self): self.turns = 0
    def process(self, how):
        if how == "count": return self.turns
        if how == "hard": return sum(range(10**15))
        while True: self.turns += 1
"""


class Row(NamedTuple):
    """The cost of one call.

    Attributes:
        what: name of the operation.
        us: microseconds of the operation.
        than: name of the operation that it is compared with.
        than_us: microseconds of that one.
        native_us: microseconds of the same operation in native CPython, without a boundary.
        guest_us: microseconds of the operation that pass inside the guest; None if not measured.
    """

    what: str
    us: float
    than: str
    than_us: float
    native_us: float
    guest_us: float | None


def interleaved(functions: dict[str, Callable[[], Any]], repeat: int, rounds: int) -> dict[str, float]:
    """Time several functions in turns.

    Args:
        functions: the functions by name.
        repeat: calls of each function in each round.
        rounds: number of rounds.

    Returns:
        by name, the seconds of one call in the function's best round.
    """
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            for _ in range(repeat):
                function()
            best[name] = min(best[name], (time.perf_counter() - began) / repeat)
    return best


def native(source: str) -> Callable[[Any], Any]:
    """The function `f` of a node's source, run by this interpreter without any boundary."""
    found: dict[str, Any] = {}
    exec(source, found)
    function: Callable[[Any], Any] = found["f"]
    return function


def guest_us(node: cloche.Node, value: Any) -> float:
    """Microseconds of a call that pass inside the guest, in the best of 20 rounds. No host can make the whole call faster."""
    best = float("inf")
    for _ in range(20):
        before = node.stats.seconds
        for _ in range(500):
            node.process(value)
        best = min(best, (node.stats.seconds - before) / 500)
    return 1e6 * best


def calls(runtime: cloche.Runtime, rounds: int) -> list[Row]:
    """The rows of the first table."""
    node = runtime.load(cloche.Source(ECHO), "f")
    source = runtime.load(cloche.Source(GENERATOR), "f")
    echo, generator = native(ECHO), native(GENERATOR)
    bare = ctypes.CDLL(None).abs
    items = 1000

    def stream() -> None:
        for _ in source.stream([items]):
            pass

    def iterate() -> None:
        for _ in generator(items):
            pass

    timed = interleaved(
        {
            "bare": lambda: bare(1),
            "cbor2": lambda: cbor2.loads(cbor2.dumps(DICT)),
            "dict": lambda: node.process(DICT),
            "int": lambda: node.process(1),
            "native dict": lambda: echo(DICT),
            "native int": lambda: echo(1),
        },
        2000,
        rounds,
    )
    steps = interleaved({"item": stream, "native item": iterate}, 1, 2 * rounds)
    us = {name: 1e6 * seconds for name, seconds in timed.items()}
    us |= {name: 1e6 * seconds / items for name, seconds in steps.items()}
    return [
        Row(
            "5-key dict, there and back",
            us["dict"],
            "cbor2.loads(cbor2.dumps(d))",
            us["cbor2"],
            us["native dict"],
            guest_us(node, DICT),
        ),
        Row("int, there and back", us["int"], "a bare ctypes call", us["bare"], us["native int"], guest_us(node, 1)),
        Row("item of a guest generator", us["item"], "an int, there and back", us["int"], us["native item"], None),
    ]


def lateness(runtime: cloche.Runtime, how: str, busy: int, samples: int) -> tuple[list[float], int]:
    """Measure how late deadlines are.

    Args:
        runtime: its limits have the deadline and the grace.
        how: "soft": the node's loop ends at the notice; "hard": one long C function, which has to be stopped.
        busy: number of Python threads that compute in the host meanwhile.
        samples: number of deadlines.

    Returns:
        seconds by which each deadline was late; and how many times the node was usable afterwards.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(busy)]
    for thread in threads:
        thread.start()
    late, usable = [], 0
    node = None
    try:
        for _ in range(samples):
            if node is None or node.broken:
                node = runtime.load(cloche.Source(SPIN), "Spin")
            try:
                node.process(how)
            except cloche.DeadlineError as error:
                grace = runtime.limits.grace_s if isinstance(error, cloche.HardDeadlineError) else 0.0
                late.append((error.reached or 0.0) - (runtime.limits.deadline_s or 0.0) - grace)
                usable += not node.broken and node.process("count") >= 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return late, usable


def main() -> None:
    """Print the tables, and write the figures to the file of `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    samples = 30 if options.quick else 300
    figures: dict[str, Any] = {}
    limits = cloche.Limits(deadline_s=0.02, grace_s=0.02)
    with cloche.Runtime() as runtime:
        for row in calls(runtime, 3 if options.quick else 15):
            figures[row.what] = {**row._asdict(), "ratio": row.us / row.than_us}
            inside = "" if row.guest_us is None else f", {row.guest_us:.2f} in the guest"
            print(
                f"{row.what:34} {row.us:8.2f} us{inside}   {row.us / row.than_us:5.2f} times {row.than} ({row.than_us:.2f} us); "
                f"native CPython {row.native_us:.2f} us"
            )
    with cloche.Runtime(limits=limits) as runtime:
        for how in ("soft", "hard"):
            for busy in (0, 1, 8):
                late, usable = lateness(runtime, how, busy, samples)
                ms = sorted(1e3 * seconds for seconds in late)
                p50, p99 = statistics.median(ms), ms[int(0.99 * (len(ms) - 1))]
                name = f"{how} deadline, {busy} busy threads"
                figures[name] = {"p50_ms": p50, "p99_ms": p99, "samples": len(ms), "usable": usable}
                print(f"{name:34} {p50:8.2f} ms median, {p99:.2f} ms p99; usable after {usable} of {len(ms)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
