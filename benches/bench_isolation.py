"""The cost of `Runtime(isolation="process")`: a call in a worker process, beside a call in this process and beside a bare pipe.

Timed: `Node.process` of a node that returns its argument; natively, the same value through a `multiprocessing.Pipe` to a process
that sends it back, which pickles and checks nothing; loading a node; starting a worker process. Not timed: loading and starting, in
the benches of calls. The memory of a worker process is in benches/footprint.py.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cloche

SOURCE = cloche.Source("class Echo:\n    def process(self, x):\n        return x\n")
VALUES: dict[str, Any] = {
    "int": 42,
    "5-key dict": {"a": 1, "b": 2.5, "c": "text", "d": True, "e": None},
    "4 KiB float32": np.ones(1 << 10, np.float32),
    "1 MiB float32": np.ones(1 << 18, np.float32),
}


def send_back(pipe: Any) -> None:
    """Main function of the native process: send back every value until None comes."""
    while (value := pipe.recv()) is not None:
        pipe.send(value)


@pytest.fixture(scope="module")
def isolated() -> Iterator[cloche.Runtime]:
    """A runtime with one worker process."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0), isolation="process", workers=1) as made:
        yield made


@pytest.fixture(scope="module")
def pipe() -> Iterator[Any]:
    """One end of a pipe to a native process that sends back every value."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=send_back, args=[theirs], daemon=True)
    process.start()
    yield ours
    ours.send(None)
    process.join()
    ours.close()
    theirs.close()


@pytest.mark.parametrize("contender", ["in process", "isolated", "pipe"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def bench_echo(benchmark: Any, request: pytest.FixtureRequest, value: Any, contender: str) -> None:
    """One value there and back."""
    benchmark.group = f"echo {request.node.callspec.id.removesuffix('-' + contender)}"
    if contender == "pipe":
        ours = request.getfixturevalue("pipe")

        def through() -> Any:
            ours.send(value)
            return ours.recv()

        result = benchmark(through)
    else:
        runtime = request.getfixturevalue("runtime" if contender == "in process" else "isolated")
        with runtime.load(SOURCE, "Echo") as node:
            result = benchmark(node.process, value)
    np.testing.assert_equal(result, value)


@pytest.mark.parametrize("contender", ["in process", "isolated"])
def bench_load(benchmark: Any, request: pytest.FixtureRequest, contender: str) -> None:
    """A new node up to its first result. The worker process runs already."""
    benchmark.group = "load and first call"
    runtime = request.getfixturevalue("runtime" if contender == "in process" else "isolated")

    def first() -> Any:
        with runtime.load(SOURCE, "Echo") as node:
            return node.process(1)

    assert benchmark(first) == 1


def bench_start(benchmark: Any) -> None:
    """A new runtime with a new worker process, up to its first result. The image was compiled before."""
    benchmark.group = "start of a worker"

    def start() -> Any:
        with cloche.Runtime(isolation="process", workers=1) as runtime:
            return runtime.load(SOURCE, "Echo").process(1)

    assert benchmark.pedantic(start, rounds=5) == 1
