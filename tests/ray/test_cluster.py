"""Pipelines on a Ray cluster of three machines: their outputs are those of a local run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche.pipeline import DeadLetter, NodeSpec, Pipeline

from .machines import TREE, Machines, eventually, is_alive, pid_of
from .nodes import how_it_is_kept, make_array, make_lock

pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

COUNT = cloche.Source(
    "class Count:\n def __init__(self): self.n = 0\n def process(self, x):\n  self.n += 1\n  return (x, self.n)\n",
    "count.py",
)
DOUBLE = cloche.Source("def double(x): return (2 * x[0], x[1])", "double.py")


def both(pipeline: Pipeline, items: list[Any], cluster: Any) -> tuple[list[Any], list[Any]]:
    """Outputs of a local run, and of one on the cluster."""
    return list(pipeline.run(items)), list(pipeline.run(items, on=cluster))


def test_chains_on_different_machines_give_what_they_give_here(shared: Any, machines: Machines) -> None:
    """Each node on a machine that it asks for by the name of a resource."""
    one, two, three = machines.fill(3)[:3]
    nodes = [NodeSpec(COUNT, id="a", host=one), NodeSpec(DOUBLE, id="b", host=two), NodeSpec(COUNT, id="c", host=three)]
    with Pipeline(nodes) as pipeline:
        here, there = both(pipeline, list(range(500)), shared)
        assert there == here
        assert {status.host for status in pipeline.status} <= {host.name for host in shared.hosts()}


def test_copies_spread_over_the_machines(shared: Any) -> None:
    """In order, and by key: the items of a key meet the same state."""
    same = cloche.Source("def same(x): return x", "same.py")
    nodes = [NodeSpec(same, id="in-order", workers=3), NodeSpec(COUNT, id="by-key", workers=3, key="key")]
    with Pipeline(nodes) as pipeline:
        here, there = both(pipeline, [{"key": number % 7, "number": number} for number in range(300)], shared)
        assert there == here


def test_each_machine_has_a_host(shared: Any, machines: Machines) -> None:
    """The head has no CPU, so it has none."""
    names = machines.fill(3)
    eventually(lambda: len(shared.hosts()) == len(names))
    found = {label for host in shared.hosts() for label in host.labels}
    assert {*names} <= found
    assert "node:__internal_head__" not in found


def test_errors_and_dead_letters_come_back(shared: Any) -> None:
    """As from a local run."""
    source = cloche.Source("def check(x):\n if x % 10 == 3: raise ValueError(f'no {x}')\n return x", "check.py")
    letters: list[Any] = []
    with Pipeline([NodeSpec(source, on_error=DeadLetter())]) as pipeline:
        outputs = list(pipeline.run(range(40), on=shared, dead_letters=letters.append))
    assert outputs == [x for x in range(40) if x % 10 != 3]
    assert [(letter.item, letter.value, str(letter.error).rpartition(": ")[2]) for letter in letters] == [
        (x, x, f"no {x}") for x in (3, 13, 23, 33)
    ]


def test_arrays_are_read_from_the_object_store(shared: Any, machines: Machines) -> None:
    """A host that gets an array of another machine, or of its own, has it without a copy of its own: read-only, and nobody's."""
    one, two = machines.fill(2)[:2]
    made = NodeSpec(make_array, id="made", placement="native", host=one)
    seen = NodeSpec(how_it_is_kept, id="seen", placement="native", host=two)
    with Pipeline([made, seen]) as pipeline:
        found = list(pipeline.run([1 << 17] * 3, on=shared))
    assert found == [(False, False, float(1 << 17))] * 3


def test_values_that_cannot_be_sent_end_the_run(shared: Any, machines: Machines) -> None:
    """With an error that names the node, not a hang."""
    one, two = machines.fill(2)[:2]
    made = NodeSpec(make_lock, id="made", placement="native", host=one)
    seen = NodeSpec(how_it_is_kept, id="seen", placement="native", host=two)
    with (
        Pipeline([made, seen]) as pipeline,
        pytest.raises(cloche.ClocheError, match=r"node 'made' failed: .*cannot be sent"),
    ):
        list(pipeline.run([1], on=shared))


def test_a_killed_host_is_replaced(shared: Any) -> None:
    """In the background, also when nobody uses it."""
    eventually(lambda: len(shared.hosts()) >= 3)
    host = shared.hosts()[0]
    os.kill(pid_of(host), signal.SIGKILL)
    eventually(lambda: host not in shared.hosts())
    eventually(lambda: host.machine in shared.machines)


def test_a_machine_that_joins_gets_a_host_and_work(shared: Any, machines: Machines) -> None:
    """A node can ask for it then."""
    name = machines.add()
    eventually(lambda: any(name in host.labels for host in shared.hosts()))
    with Pipeline([NodeSpec(COUNT, host=name)]) as pipeline:
        assert list(pipeline.run(range(3), on=shared)) == [(0, 1), (1, 2), (2, 3)]
    machines.kill(name)


def test_a_drained_machine_loses_nothing(connect: Callable[..., Any], machines: Machines) -> None:
    """Its chains go on elsewhere, with their states."""
    machines.fill(3)
    with connect() as cluster, Pipeline([NodeSpec(COUNT, id="a"), NodeSpec(COUNT, id="b", workers=2)]) as pipeline:
        here = list(pipeline.run(range(400)))
        drained = threading.Thread(target=cluster.drain, args=[cluster.machines[0]])
        there = []
        for output in pipeline.run(range(400), on=cluster):
            there.append(output)
            if len(there) == 100:
                drained.start()
        drained.join()
        assert there == here


def test_several_hosts_on_a_machine(connect: Callable[..., Any], machines: Machines) -> None:
    """Each a process of its own, with a name of its own."""
    names = machines.fill(3)
    with connect(hosts_per_machine=2) as cluster:
        eventually(lambda: len(cluster.hosts()) == 2 * len(names))
        assert len({pid_of(host) for host in cluster.hosts()}) == 2 * len(names)
        assert len({host.name for host in cluster.hosts()}) == 2 * len(names)
        assert len(cluster.machines) == len(names)


def test_closing_ends_its_hosts_and_no_others(shared: Any, connect: Callable[..., Any]) -> None:
    """Of two clusters over one connection, the other one goes on."""
    with connect() as cluster:
        pids = [pid_of(host) for host in cluster.hosts()]
        assert all(map(is_alive, pids))
    eventually(lambda: not any(map(is_alive, pids)))
    assert cluster.hosts() == []
    with pytest.raises(cloche.ClosedError):
        cluster.open()
    with Pipeline([NodeSpec(COUNT)]) as pipeline:
        assert list(pipeline.run(["x"], on=shared)) == [("x", 1)]


DRIVER = """
import sys, threading
import cloche.ray

cluster = cloche.ray.Cluster(sys.argv[1], runtime_env={"env_vars": {"PYTHONPATH": sys.argv[2]}})
cluster.open()
print(*(host.hello.result().value["pid"] for host in cluster.hosts()), flush=True)
threading.Event().wait()
"""


def test_a_driver_that_dies_leaves_no_hosts(machines: Machines) -> None:
    """However it dies."""
    path = machines.env["env_vars"]["PYTHONPATH"]
    command = [sys.executable, "-c", DRIVER, machines.address, path]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=TREE) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        assert pids and all(map(is_alive, pids))
        driver.kill()
    eventually(lambda: not any(map(is_alive, pids)))
