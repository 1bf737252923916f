"""Deadlines: how late they are, and what they cost a node that keeps them. By epochs, by page guard, and natively by a timer
signal.

Timed in the groups "stop": `Node.process` of an endless loop from entry to the error; subtract the deadline of 5 ms to get the
lateness. With the host "busy" another Python thread computes all the time, so that the bench's thread has to wait for the GIL.
Levels: a page guard is at most 2 ms late, an epoch at most 20 ms. Timed in the groups "cost": a loop of pure Python, and the round
trip of a 5-key dict. Not timed: loading, and restoring the node before each round.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cloche

DEADLINE_S = 0.005
SPIN = cloche.Source("def f(x):\n    while True: pass\n", "spin.py")
COUNT = "def f(n):\n    total = 0\n    for i in range(n):\n        total += i & 3\n    return total\n"


@pytest.fixture(params=["epoch", "guard"])
def metered(request: pytest.FixtureRequest, runtime: cloche.Runtime, epoch: cloche.Runtime) -> cloche.Runtime:
    """A runtime of each of the two meterings."""
    return runtime if request.param == runtime.metering else epoch


@contextlib.contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Run another Python thread, which computes all the time, during the ``with`` block.

    Args:
        wanted: False: run no thread.
    """
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            sum(range(100))

    thread = threading.Thread(target=run)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if wanted:
            thread.join()


@pytest.mark.parametrize("host", ["idle", "busy"])
def bench_stop(benchmark: Any, metered: cloche.Runtime, host: str) -> None:
    """A guest in an endless loop is stopped at its deadline."""
    benchmark.group = f"stop after a deadline of {DEADLINE_S * 1e3:g} ms, host {host}"

    def run(node: cloche.Node) -> None:
        with contextlib.suppress(cloche.DeadlineError):
            node.process(0)
            raise AssertionError("it was not stopped")

    with metered.load(SPIN) as node:
        saved = node.snapshot()

    def restored() -> tuple[tuple[cloche.Node], dict[str, Any]]:
        return (metered.restore(saved, limits=cloche.Limits(deadline_s=DEADLINE_S, grace_s=0), reseed=False),), {}

    with busy(host == "busy"):
        benchmark.pedantic(run, setup=restored, rounds=60, warmup_rounds=3)


@pytest.mark.parametrize("host", ["idle", "busy"])
def bench_stop_native(benchmark: Any, host: str) -> None:
    """A native loop is ended by a timer's signal, whose handler raises.

    It works only in the main thread, and only between two bytecodes.
    """
    benchmark.group = f"stop after a deadline of {DEADLINE_S * 1e3:g} ms, host {host}"

    def late(*_: Any) -> None:
        raise TimeoutError

    def run() -> None:
        with contextlib.suppress(TimeoutError):
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
            while True:
                pass

    before = signal.signal(signal.SIGALRM, late)
    try:
        with busy(host == "busy"):
            benchmark.pedantic(run, rounds=60, warmup_rounds=3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def bench_loop(benchmark: Any, metered: cloche.Runtime) -> None:
    """200,000 turns of a Python loop in the guest."""
    benchmark.group = "cost of deadlines: a Python loop"
    with metered.load(cloche.Source(COUNT)) as node:
        assert benchmark(node.process, 200_000) == 300_000


def bench_loop_native(benchmark: Any) -> None:
    """The same loop in this interpreter."""
    benchmark.group = "cost of deadlines: a Python loop"
    env: dict[str, Any] = {}
    exec(compile(COUNT, "node.py", "exec"), env)  # the bench's own text
    assert benchmark(env["f"], 200_000) == 300_000


def bench_call(benchmark: Any, metered: cloche.Runtime) -> None:
    """A 5-key dict into the guest and back."""
    benchmark.group = "cost of deadlines: a call"
    value = {"a": 1, "b": 2.5, "c": "text", "d": True, "e": None}
    with metered.load(cloche.Source("def f(x): return x")) as node:
        assert benchmark(node.process, value) == value


def bench_call_native(benchmark: Any) -> None:
    """The same function in this interpreter."""
    benchmark.group = "cost of deadlines: a call"
    value = {"a": 1, "b": 2.5, "c": "text", "d": True, "e": None}
    assert benchmark(lambda x: x, value) == value
