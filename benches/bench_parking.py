"""Parking: a small node put aside and brought back, alone and as one of many sessions.

Timed: `Runtime.park` and `Runtime.unpark` of a small node; waking a parked session (`Sessions.node`) and parking it. `Node.clone` of
the same node stands beside waking. Not timed: calls, closing. `extra_info` has the sizes. `python -m benches.parking` measures the
memory of a hundred thousand. Level: waking <= 1 ms.
"""

from __future__ import annotations

from typing import Any

import cloche
from cloche.parking import MemoryStore, Sessions

JOB = cloche.Source(
    "class N:\n    def __init__(self):\n        self.seen = []\n    def process(self, x):\n        self.seen.append(x)\n"
)
ROUNDS = 300


def bench_park(benchmark: Any, runtime: cloche.Runtime) -> None:
    """The whole of a node to bytes, and its sandbox made pristine."""
    benchmark.group = "park"
    nodes: list[cloche.Node] = []
    parked: list[Any] = []

    def made() -> None:
        nodes.append(runtime.load(JOB))

    benchmark.pedantic(lambda: parked.append(runtime.park(nodes.pop())), setup=made, rounds=ROUNDS, warmup_rounds=5)
    benchmark.extra_info["bytes"] = parked[-1].size_bytes


def bench_unpark(benchmark: Any, runtime: cloche.Runtime) -> None:
    """And back."""
    benchmark.group = "bring back"
    parked: list[Any] = []
    nodes: list[cloche.Node] = []

    benchmark.pedantic(
        lambda: nodes.append(runtime.unpark(parked.pop())),
        setup=lambda: parked.append(runtime.park(runtime.load(JOB))),
        teardown=lambda: nodes.pop().close(),
        rounds=ROUNDS,
        warmup_rounds=5,
    )


def bench_wake(benchmark: Any, runtime: cloche.Runtime) -> None:
    """A parked session, from the request for it to having its node."""
    benchmark.group = "bring back"
    store = MemoryStore()
    with runtime.load(JOB) as template, Sessions(runtime, template, store=store) as sessions:
        blocks: list[Any] = []

        def leave() -> None:
            while blocks:
                blocks.pop().__exit__(None, None, None)

        def parked() -> None:
            with sessions.node("a") as node:
                node.process(1)
            sessions.park("a")
            blocks.append(sessions.node("a"))

        benchmark.pedantic(
            lambda: blocks[-1].__enter__(),
            setup=parked,
            teardown=leave,
            rounds=ROUNDS,
            warmup_rounds=5,
        )
        leave()  # pytest-benchmark tears nothing down where it is disabled
        sessions.park("a")
        benchmark.extra_info["bytes"] = store.size_bytes


def bench_clone_beside_waking(benchmark: Any, runtime: cloche.Runtime) -> None:
    """What a program would do that forgets its users."""
    benchmark.group = "bring back"
    with runtime.load(JOB) as template:
        nodes: list[cloche.Node] = []
        benchmark.pedantic(
            lambda: nodes.append(template.clone()),
            teardown=lambda: nodes.pop().close(),
            rounds=ROUNDS,
            warmup_rounds=5,
        )
