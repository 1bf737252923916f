"""What a pipeline costs on a Ray cluster of three machines in this one, beside the same pipeline in this process.

Timed: small items through one connection between two machines; a chain that stays together, beside a local run of it; arrays of 8 MB
through a connection; one call of a host at its least; a node's state restored at a warm host; how soon a killed host, and a killed
machine, are found to be lost, and when the first output comes after that. Not timed: starting the machines and hosts, loading.
Levels: 20,000 small items a second; a chain that stays together takes 1.1 times its local run at most; 50 ms for a restore.

    scripts/bench has no Ray: build/ray/bin/python -m benches.cluster [--quick], after scripts/test --ray
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import cloche
import cloche.ray
from cloche.pipeline import NodeSpec, Pipeline
from cloche.ray._host import RayHost
from tests.ray.machines import Machines, eventually, pid_of
from tests.ray.nodes import same

QUICK = "--quick" in sys.argv
ITEMS = 5_000 if QUICK else 100_000
WORK = 300 if QUICK else 600
ARRAYS = 4 if QUICK else 24
ROUNDS = 3 if QUICK else 20
COUNT = cloche.Source(
    "class Count:\n def __init__(self): self.n = 0\n def process(self, x):\n  self.n += 1\n  return self.n\n",
    "count.py",
)
BUSY = cloche.Source("def busy(x):\n for _ in range(20_000): pass\n return x", "busy.py")


def per_item(nodes: list[NodeSpec], items: Any, on: Any = None) -> float:
    """Seconds for each item of a run: from the first item, which is taken when the nodes have started, to the last output."""
    items = list(items)
    began = ended = 0.0

    def fed() -> Iterator[Any]:
        nonlocal began
        began = time.perf_counter()
        yield from items

    with Pipeline(nodes) as pipeline:
        for _ in pipeline.run(fed()) if on is None else pipeline.run(fed(), on=on):
            ended = time.perf_counter()
    return (ended - began) / len(items)


def middle(function: Callable[[], float]) -> float:
    """The median of several times."""
    return sorted(function() for _ in range(ROUNDS))[ROUNDS // 2]


def elapsed(function: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def loss(cluster: Any, machines: Machines, *, machine: bool) -> tuple[float, float]:
    """Seconds from the end of a host, or of its machine, until it is found, and until the next output comes."""
    eventually(lambda: len(cluster.hosts()) >= 2)
    with Pipeline([NodeSpec(COUNT)], logger=(found := _Found())) as pipeline:
        outputs = pipeline.run(iter(int, 1), on=cluster)
        next(outputs)
        (name,) = {status.host for status in pipeline.status}
        host = next(host for host in cluster.hosts() if host.name == name)
        began = time.perf_counter()
        if machine:
            machines.kill(next(iter(host.labels & machines.nodes.keys())))
        else:
            os.kill(pid_of(host), signal.SIGKILL)
        while not found.at:
            next(outputs)
        after = time.perf_counter()
        outputs.close()
    return found.at - began, after - began


class _Restores:
    """While it is entered, keeps how long each restore took, from the driver's question to the host's answer."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._ask = RayHost.ask

    def __enter__(self) -> _Restores:
        ask, seconds = self._ask, self.seconds

        def timed(host: RayHost, verb: str, *arguments: Any) -> Any:
            began = time.perf_counter()
            answer = ask(host, verb, *arguments)
            if verb == "restore":
                answer.add_done_callback(lambda _: seconds.append(time.perf_counter() - began))
            return answer

        RayHost.ask = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        RayHost.ask = self._ask  # type: ignore[method-assign]


class _Found:
    """A logger that keeps when a host was found to be lost."""

    at = 0.0

    def __getattr__(self, level: str) -> Callable[..., None]:
        return self._log

    def _log(self, message: str, **fields: Any) -> None:
        if "was lost" in message and not self.at:
            self.at = time.perf_counter()


def main() -> None:
    """Print a line for each figure."""
    machines = Machines(store_bytes=1 << 30)
    one, two, _ = machines.fill(3)
    with cloche.ray.Cluster(machines.address, runtime_env=machines.env, save_s=0.2, balance_s=None) as cluster:
        took = elapsed(cluster.open)
        print(f"open, with three hosts                        {took:8.2f} s")
        host = cluster.hosts()[0]
        took = middle(lambda: elapsed(lambda: host.ask("hello").result()))
        print(f"a question to a host, and its answer          {1e3 * took:8.2f} ms")
        edge = [
            NodeSpec(same, id=name, placement="native", host=at, batch=512, queue=4096)
            for name, at in (("a", one), ("b", two))
        ]
        print(
            f"small items over an edge, native              {1 / per_item(edge, range(ITEMS), cluster):8.0f} a second"
        )
        light = cloche.Source("def same(x): return x", "same.py")
        edge = [NodeSpec(light, id=name, host=at, batch=512, queue=4096) for name, at in (("a", one), ("b", two))]
        print(
            f"small items over an edge, sandboxed           {1 / per_item(edge, range(ITEMS), cluster):8.0f} a second"
        )
        chain = [NodeSpec(BUSY, id=name) for name in ("a", "b", "c")]
        pairs = [(per_item(chain, range(WORK)), per_item(chain, range(WORK), cluster)) for _ in range(5)]
        here, there = map(min, zip(*pairs, strict=True))  # in turns, so that other work on the machine disturbs both
        print(
            f"a chain on one machine, busy nodes            {there / here:8.2f} times the local run ({1e3 * here:.2f} ms an item)"
        )
        edge = [NodeSpec(same, id=name, placement="native", host=at, batch=2) for name, at in (("a", one), ("b", two))]
        took = per_item(edge, [np.full(1 << 20, float(number)) for number in range(ARRAYS)], cluster)
        print(f"arrays of 8 MB over an edge                   {8.4 / took:8.0f} MB a second")
        with _Restores() as restores:
            losses = [loss(cluster, machines, machine=False) for _ in range(ROUNDS)]
        found, after = (sorted(column)[ROUNDS // 2] for column in zip(*losses, strict=True))
        restore = sorted(restores.seconds)[len(restores.seconds) // 2]
        print(f"a state restored at a warm host               {1e3 * restore:8.1f} ms")
        print(
            f"a killed host is found                        {1e3 * found:8.0f} ms later, an output comes after {1e3 * after:.0f} ms"
        )
        found, after = loss(cluster, machines, machine=True)
        print(
            f"a killed machine is found                     {1e3 * found:8.0f} ms later, an output comes after {1e3 * after:.0f} ms"
        )
    machines.close()


if __name__ == "__main__":
    main()
