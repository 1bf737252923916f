"""The cost of the boundary by type and size of the value: time of a round trip = per_call + per_byte * n, fitted over the sizes.

Timed: a value into the guest and out again, in the best of several rounds. Not timed: loading, making the value. Contenders: Cloche
with copies; Cloche with a lease (arrays); pickle twice in this process; a multiprocessing pipe to a native process that sends the
value back; JSON twice, for values that it can hold; and copying the memory twice. `n` is the size of the value: 8 bytes for each
item of a list or dict, the characters of a text, the bytes of an array.

    .venv/bin/python benches/marshal.py [--quick]
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import cloche

ECHO = cloche.Source("class N:\n    def process(self, x):\n        return x\n")
QUICK = "--quick" in sys.argv
SIZES = (1 << 10, 1 << 14) if QUICK else (1 << 10, 1 << 14, 1 << 18, 1 << 21)
ROUNDS = 2 if QUICK else 7
MAKERS: dict[str, Callable[[int], Any]] = {
    "float32 array": lambda n: np.ones(n // 4, np.float32),
    "bytes": bytes,
    "text": lambda n: "x" * n,
    "list of ints": lambda n: list(range(n // 8)),
    "list of floats": lambda n: [i / 7 for i in range(n // 8)],
    "list of texts": lambda n: [f"item {i:03d}" for i in range(n // 8)],
    "dict of numbers": lambda n: {f"k{i}": i for i in range(n // 8)},
}


def echo(pipe: Connection) -> None:
    """Main function of the native process: send back every value until None comes."""
    while (value := pipe.recv()) is not None:
        pipe.send(value)


@contextmanager
def pipe() -> Iterator[Callable[[Any], Any]]:
    """Start a native process for a ``with`` block. Yields a function that sends a value to the process and returns its reply."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=echo, args=(theirs,), daemon=True)
    process.start()

    def call(value: Any) -> Any:
        ours.send(value)
        return ours.recv()

    try:
        yield call
    finally:
        ours.send(None)
        process.join(10)


def memcpy(value: Any) -> Any:
    """Copy a value's memory twice, the least that a round trip with copies can cost. Only for arrays and bytes."""
    if isinstance(value, np.ndarray):
        return value.copy().copy()
    if isinstance(value, bytes):
        return bytes(bytearray(bytearray(value)))
    return None


def measure(function: Callable[[Any], Any], value: Any) -> float:
    """Seconds of one call, in the best of ROUNDS rounds."""
    began = time.perf_counter()
    function(value)
    count = max(1, min(200, int(0.01 / max(1e-7, time.perf_counter() - began))))
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(count):
            function(value)
        best = min(best, (time.perf_counter() - began) / count)
    return best


def main() -> None:
    with (
        cloche.Runtime(limits=cloche.Limits(deadline_s=60)) as runtime,
        runtime.load(ECHO, "N") as node,
        pipe() as over_pipe,
    ):

        def leased(value: Any) -> Any:
            with node.lease():
                return node.process(value)

        contenders: dict[str, Callable[[Any], Any]] = {
            "cloche": node.process,
            "leased": leased,
            "pickle": lambda v: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(v, 5)), 5)),
            "pipe": over_pipe,
            "json": lambda v: json.loads(json.dumps(json.loads(json.dumps(v)))),
            "memcpy": memcpy,
        }
        print(
            f"{'type':16} {'contender':9} "
            + " ".join(f"{size >> 10:>7} KiB" for size in SIZES)
            + "    per call + per byte * n"
        )
        for kind, make in MAKERS.items():
            flat = kind in ("float32 array", "bytes")
            for name, function in contenders.items():
                if (
                    (name == "json" and flat)
                    or (name == "memcpy" and not flat)
                    or (name == "leased" and kind != "float32 array")
                ):
                    continue
                seconds = [measure(function, make(size)) for size in SIZES]
                slope, start = np.polyfit(SIZES, seconds, 1, w=1 / np.array(seconds))
                cells = " ".join(f"{s * 1e6:8.1f} us" for s in seconds)
                print(f"{kind:16} {name:9} {cells}    {max(0.0, start) * 1e6:7.2f} us + {slope * 1e9:8.4f} ns * n")


if __name__ == "__main__":
    main()
