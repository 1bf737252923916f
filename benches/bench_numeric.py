"""Numeric work: products, linear algebra, transforms, digests, generators. The same functions natively and in the sandbox.

Timed: one call of each function. `extra_info` has the ratio of the two processor times, measured in turns, which a busy machine
changes little. Not timed: loading, making the arrays. Set OPENBLAS_NUM_THREADS=1: the sandbox has one thread. Two differences
remain: native numpy uses AVX2 or AVX-512 where the processor has it, and the sandbox vectors of 128 bits; native sha256 uses the
processor's own instructions (SHA-NI). Levels: matrix products <= 5x native at 256 x 256 and 1024 x 1024, float32 and float64.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import cloche

SOURCE = '''
import hashlib, random, time
import numpy as np

def generator(n):
    return sum(x for x in range(n))

def cases():
    g = np.random.default_rng(1)
    found = {}
    for dtype in ("float32", "float64", "complex128"):
        for n in (16, 256, 1024) if dtype[0] == "f" else (256,):
            a, b = g.random((n, n)).astype(dtype), g.random((n, n)).astype(dtype)
            found[f"matmul {dtype} {n}"] = lambda a=a, b=b: a @ b
    a, x = g.random((256, 256)), g.random(1 << 16)
    b, text = a + a.T, bytes(1 << 20)
    return found | {
        "a @ a.T 256": lambda: a @ a.T,
        "matrix @ vector 256": lambda: a @ a[0],
        "inv 256": lambda: np.linalg.inv(a),
        "solve 256": lambda: np.linalg.solve(a, a[0]),
        "svd 256": lambda: np.linalg.svd(a),
        "eigh 256": lambda: np.linalg.eigh(b),
        "qr 256": lambda: np.linalg.qr(a),
        "rfft 65536": lambda: np.fft.rfft(x),
        "sin 65536": lambda: np.sin(x),
        "sort 65536": lambda: np.sort(x),
        "sum 65536": lambda: x.sum(),
        "normal 65536": lambda: g.normal(size=1 << 16),
        "random.random 10000": lambda: [random.random() for _ in range(10_000)],
        "generator 10000": lambda: generator(10_000),
        "sha256 1 MiB": lambda: hashlib.sha256(text).digest(),
        "blake2b 1 MiB": lambda: hashlib.blake2b(text).digest(),
    }

class Numeric:
    def __init__(self):
        self.cases = cases()

    def process(self, request):
        """Run one case some times."""
        name, rounds = request
        run = self.cases[name]
        for _ in range(rounds):
            run()
        return rounds
'''
_native: dict[str, Any] = {}
exec(SOURCE, _native)  # the bench's own text
NAMES = tuple(_native["cases"]())


@pytest.fixture(scope="module")
def native() -> Any:
    """The functions, run by this interpreter."""
    return _native["Numeric"]()


@pytest.fixture(scope="module")
def node(runtime: cloche.Runtime) -> Any:
    """The functions, run by the sandbox."""
    with runtime.load(cloche.Source(SOURCE), "Numeric", limits=cloche.Limits(deadline_s=60.0)) as loaded:
        yield loaded


@pytest.mark.parametrize("contender", ["cloche", "native"])
@pytest.mark.parametrize("name", NAMES)
def bench_numeric(benchmark: Any, native: Any, node: Any, name: str, contender: str) -> None:
    """One function, run once a round, by one contender."""
    benchmark.group = name
    runner = native if contender == "native" else node
    if benchmark.enabled and contender == "cloche":
        rounds = max(1, int(0.01 / min(_processor_s(native, name, 1) for _ in range(3))))
        pairs = [(_processor_s(node, name, rounds), _processor_s(native, name, rounds)) for _ in range(8)]
        benchmark.extra_info["ratio"] = round(min(p[0] for p in pairs) / min(p[1] for p in pairs), 2)
    assert benchmark.pedantic(runner.process, ((name, 1),), rounds=5, warmup_rounds=1) == 1


def _processor_s(runner: Any, name: str, rounds: int) -> float:
    """Seconds of processor time that `rounds` runs of a function take."""
    start = time.process_time()
    runner.process((name, rounds))
    return time.process_time() - start
