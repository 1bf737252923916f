"""Pipelines on a cluster of Dask: one with two worker processes, and others within this process where no worker has to die.

`test_dask` runs these tests, in a process of their own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask
import distributed
import pytest

import cloche
import cloche.dask
from cloche.cluster import Server
from cloche.cluster._messages import Done, Stopped
from cloche.pipeline import NodeSpec, Pipeline, PipelineError
from tests.limits import DEADLINE_S

pytestmark = pytest.mark.image

COUNT = cloche.Source(
    "class Count:\n"
    "    def __init__(self): self.n = 0\n"
    "    def process(self, x):\n"
    "        self.n += 1\n"
    "        return x + 1000 * self.n\n"
)
TWICE = cloche.Source("def twice(x):\n    yield x\n    yield -x\n")
NODES = [NodeSpec(COUNT, id="count"), NodeSpec(TWICE, id="twice"), NodeSpec(COUNT, id="again", workers=2)]


def eventually(true: Callable[[], object]) -> None:
    """Wait for what other threads do."""
    until = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def processes() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler of Dask's, and its two workers, which are processes that nobody starts anew."""
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", dashboard_address=":0", silence_logs=50
    ) as made:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", made.scheduler_address, "--no-nanny"]
        options: Any = {"stderr": subprocess.DEVNULL, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}}
        workers = [subprocess.Popen([*command, "--nthreads=1", "--no-dashboard"], **options) for _ in range(2)]
        try:
            eventually(lambda: len(made.scheduler.workers) == 2)
            yield made.scheduler_address, workers
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


@pytest.fixture
def inside() -> Iterator[Any]:
    """A cluster of Dask's with one worker, which is a thread of this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


def test_the_loss_of_a_worker_changes_no_output(processes: tuple[str, list[subprocess.Popen[bytes]]]) -> None:
    """Its chains go on at the other worker, from their last states; no item is worked on twice as far as anybody can see."""
    address, workers = processes
    with Pipeline(NODES) as pipeline:
        wanted = list(pipeline.run(range(3000)))
    with cloche.dask.Cluster(address, save_s=0.05) as cluster, Pipeline(NODES) as pipeline:
        outputs = pipeline.run(range(3000), on=cluster)
        got = [next(outputs) for _ in range(500)]
        workers[0].kill()  # there are four chains, and two hosts
        assert [*got, *outputs] == wanted
        eventually(lambda: len(cluster.hosts()) == 1)
        assert [event.text for event in cluster.events if "was lost" in event.text]


def test_a_worker_that_comes_later_is_a_host(inside: Any) -> None:
    """And one that leaves is none any more."""
    with cloche.dask.Cluster(inside) as cluster:
        cluster.open()
        (first,) = cluster.hosts()
        inside.scale(2)
        eventually(lambda: len(cluster.hosts()) == 2)
        assert first.name in {host.name for host in cluster.hosts()}
        inside.scale(1)
        eventually(lambda: len(cluster.hosts()) == 1)


def test_a_host_is_found_by_what_dask_calls_its_worker(inside: Any) -> None:
    """`NodeSpec.host` may be a worker's name, its address, or that of its machine."""
    with distributed.Client(inside) as client, cloche.dask.Cluster(client) as cluster:
        cluster.open()
        (host,) = cluster.hosts()
        assert host.labels >= {host.name, host.machine, "0"}
        with Pipeline([NodeSpec(TWICE, id="twice", host="0")]) as pipeline:
            assert list(pipeline.run([1], on=cluster)) == [1, -1]


def test_what_cannot_be_sent_back_ends_the_run_and_not_the_host(inside: Any) -> None:
    """A native node may give anything."""
    native = NodeSpec(unsendable, placement="native")
    with cloche.dask.Cluster(inside) as cluster, Pipeline([native], allow_native=True) as pipeline:
        with pytest.raises(PipelineError, match="node 'unsendable' failed: .*cannot be sent to a host or from it"):
            list(pipeline.run([1], on=cluster))
        assert cluster.hosts()


def unsendable(item: object) -> object:
    """A node whose outputs nobody can pickle."""
    return lambda: item


def test_a_client_of_the_callers_stays_open(inside: Any) -> None:
    """One that was made for the cluster is closed with it; without any the current client is taken."""
    with distributed.Client(inside) as client:
        for given in (client, None):
            with cloche.dask.Cluster(given) as cluster:
                cluster.open()
                assert len(cluster.hosts()) == 1
            assert cluster.hosts() == []
            assert client.submit(lambda: 5).result() == 5
        with pytest.raises(cloche.ClosedError):
            cluster.open()
        eventually(lambda: not next(iter(inside.workers.values())).state.actors)


def test_a_client_for_coroutines_is_refused(inside: Any) -> None:
    """A pipeline waits for answers on threads of its own."""

    async def refused() -> str:
        async with distributed.Client(inside.scheduler_address, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(cloche.ClocheError) as caught:
                cloche.dask.Cluster(client).open()
            return str(caught.value)

    assert asyncio.run(refused()) == "the client of Dask is asynchronous: give the scheduler's address instead"


def test_without_a_scheduler_the_error_says_what_to_give() -> None:
    """None is made silently: `cloche.cluster.LocalCluster` is for that."""
    given = r"give its address, as in cloche.dask.Cluster\('tcp://10.0.0.1:8786'\)"
    with pytest.raises(cloche.ClocheError, match=given):
        cloche.dask.Cluster().open()
    away = "Dask's scheduler at tcp://127.0.0.1:1 cannot be reached: .*Is it up"
    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}), pytest.raises(cloche.ClocheError, match=away):
        cloche.dask.Cluster("tcp://127.0.0.1:1").open()


def test_a_worker_with_another_version_is_refused(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent between them are pickles of this version."""
    monkeypatch.setattr(Server, "do", lambda server, verb: Done({"cloche": "9.8", "python": platform.python_version()}))
    with pytest.raises(cloche.ClocheError, match=r"has cloche '9\.8', and this process"):
        cloche.dask.Cluster(inside).open()


def test_calls_begin_in_the_order_of_their_numbers() -> None:
    """Each comes by a connection of its own, so that a later one may be there first."""

    async def served() -> list[Any]:
        serving = cloche.dask.Serving("host")
        order = pickle.dumps(("do", "stop", ("no such chain",)))
        later = asyncio.ensure_future(serving.serve(1, order))
        await asyncio.sleep(0)
        assert not later.done()
        first = await serving.serve(0, order)
        return [pickle.loads(first[0]), pickle.loads((await later)[0])]

    assert [answer.value for answer in asyncio.run(served())] == [Stopped(), Stopped()]


def test_without_the_extra_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else of Cloche imports it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "cloche.dask")
    with pytest.raises(ImportError, match=r"pip install 'cloche\[dask\]'"):
        importlib.import_module("cloche.dask")
