"""A Ray cluster of several machines in this one: each is a raylet, with an object store of its own. ``scripts/test --ray`` runs these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported

from .machines import Machines


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """One cluster for all tests: to start one takes longer than most of them."""
    pytest.importorskip("ray", reason="needs Ray, which `scripts/test --ray` installs")
    made = Machines()
    made.fill(3)
    yield made
    import ray

    ray.shutdown()
    made.close()


@pytest.fixture(scope="session")
def connect(machines: Machines) -> Iterator[Callable[..., Any]]:
    """Make an opened `cloche.ray.Cluster`; closed at the end of the run."""
    import cloche.ray

    made: list[Any] = []

    def make(**options: Any) -> Any:
        cluster = cloche.ray.Cluster(machines.address, **{"runtime_env": machines.env, "wait_s": 120, **options})
        made.append(cluster)
        cluster.open()
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="session")
def shared(connect: Callable[..., Any]) -> Any:
    """The cluster of the tests that do not end it. Its states are saved often, so that little is done again after a loss."""
    return connect(save_s=0.05)
