"""Hosts and machines that die at random moments: the outputs are those of a local run, each once, in order, with its number."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest

import cloche
from cloche.pipeline import NodeSpec, Output, Pipeline

from .machines import Machines, eventually, pid_of

pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

TEXT = """
class Sum:
    def __init__(self): self.sum = 0
    def process(self, x):
        self.sum += x
        return self.sum
    def flush(self): return 1000 * self.sum

class Several:
    def __init__(self): self.count = 0
    def process(self, x):
        self.count += 1
        for number in range(x % 3): yield {"key": (x + number) % 5, "value": x * number}

class PerKey:
    def __init__(self): self.counts = {}
    def process(self, x):
        self.counts[x["key"]] = count = self.counts.get(x["key"], 0) + 1
        return (x["key"], x["value"], count)

class Fold:
    def __init__(self): self.hash = 0
    def process(self, x):
        self.hash = (31 * self.hash + hash(x)) % (1 << 61)
        return self.hash
"""
ITEMS = 400


def nodes(seed: int) -> list[NodeSpec]:
    """A chain of states, in as many parts as the seed says: every node's state depends on all items before."""
    source = cloche.Source(TEXT, "nodes.py")
    copies = 1 + seed % 3
    return [
        NodeSpec(source, "Sum", id="sum"),
        NodeSpec(source, "Several", id="several", batch=(1, 7, 64)[seed // 3 % 3]),
        NodeSpec(source, "PerKey", id="per-key", workers=copies, key="key" if copies > 1 else None),
        NodeSpec(source, "Fold", id="fold"),
    ]


def expected(seed: int) -> list[Output]:
    """The outputs of an undisturbed run in this process."""
    with Pipeline(nodes(seed)) as pipeline:
        return list(pipeline.run(range(ITEMS), numbered=True))


def disturbed(seed: int, cluster: Any, disturb: Any, moments: list[int]) -> list[Output]:
    """The outputs of a run on the cluster, with something done at moments."""
    outputs = []
    with Pipeline(nodes(seed)) as pipeline:
        for output in pipeline.run(range(ITEMS), on=cluster, numbered=True):
            outputs.append(output)
            if len(outputs) in moments:
                disturb()
    return outputs


@pytest.mark.few(36)
@pytest.mark.parametrize("seed", range(90))
def test_hosts_that_are_killed(shared: Any, machines: Machines, seed: int) -> None:
    """One to three, any of them, the one that has just come included."""
    machines.fill(3)
    chance = random.Random(seed)
    eventually(lambda: len(shared.hosts()) >= 2)

    def kill() -> None:
        hosts = shared.hosts()
        if hosts:
            os.kill(pid_of(chance.choice(hosts)), signal.SIGKILL)

    want = expected(seed)
    moments = [chance.randrange(1, len(want)) for _ in range(chance.randint(1, 3))]
    assert disturbed(seed, shared, kill, moments) == want


@pytest.mark.few(4)
@pytest.mark.parametrize("seed", range(100, 110))
def test_machines_that_are_killed(shared: Any, machines: Machines, seed: int) -> None:
    """With all that their object stores hold."""
    machines.fill(3)
    chance = random.Random(seed)
    eventually(lambda: len(shared.hosts()) >= 2)
    want = expected(seed)
    moments = [chance.randrange(1, len(want))]
    assert disturbed(seed, shared, lambda: machines.kill(chance.choice(list(machines.nodes))), moments) == want
