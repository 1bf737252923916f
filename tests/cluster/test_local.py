"""Pipelines on a cluster of processes give what they give without one, whatever happens to the processes."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import cloche
from cloche.cluster import LocalCluster
from cloche.errors import ClocheError
from cloche.pipeline import Checkpoint, DeadLetter, NodeSpec, Pipeline, PipelineError, PlacementError, Retry, Skip
from tests.cluster import nodes
from tests.cluster.runs import Log, facts, outputs

COUNTER, SPLITS = NodeSpec(nodes.COUNTER, id="counter"), NodeSpec(nodes.SPLITS, id="splits")
PER_USER = NodeSpec(nodes.PER_USER, id="per_user", workers=2, key="user")
LAST = NodeSpec(nodes.COUNTER, params={"times": 2}, id="last")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2, save_s=0.02, balance_s=None) as made:
        yield made


def ready(cluster: LocalCluster, count: int) -> list[Any]:
    """The hosts, once so many are ready: those that tests before have killed may be starting anew."""
    until = time.monotonic() + 120
    while len(there := cluster.hosts()) < count:
        assert time.monotonic() < until, "hosts do not come back"
        time.sleep(0.01)
    return list(there)


GRAPHS = {
    "line": ([COUNTER, SPLITS, PER_USER], None),
    "branches": (
        [
            COUNTER,
            SPLITS,
            NodeSpec(nodes.PER_USER, id="whole"),
            NodeSpec(nodes.SPLITS, id="parts"),
            NodeSpec(nodes.FAILS, id="number", on_error=Skip()),
        ],
        [("counter", "splits"), ("splits", "whole"), ("splits.part", "parts"), ("splits.part", "number")],
    ),
    "copies": ([NodeSpec(nodes.SPLITS, id="splits", workers=3), PER_USER], None),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_outputs_are_those_of_a_run_here(cluster, graph):
    specs, edges = GRAPHS[graph]
    assert outputs(specs, range(300), edges, on=cluster) == outputs(specs, range(300), edges)


def test_inputs_that_meet(cluster):
    specs = [
        NodeSpec(nodes.Source("def one(x): return x + 1"), id="one"),
        NodeSpec(nodes.Source("def two(x): return x * 2"), id="two"),
        NodeSpec(nodes.Source("def add(left, right): return left, right"), id="add", inputs=["left", "right"]),
    ]
    edges = [("one", "add.left"), ("two", "add.right")]
    assert outputs(specs, range(100), edges, on=cluster) == outputs(specs, range(100), edges)


def test_a_source(cluster):
    specs = [NodeSpec(nodes.NUMBERS, params={"count": 150}, id="numbers"), COUNTER]
    assert outputs(specs, None, on=cluster) == outputs(specs, None)


def test_native_nodes(cluster):
    specs = [
        NodeSpec(nodes.Native, id="native", placement="native"),
        NodeSpec(nodes.Last, id="process", placement="process"),
    ]
    assert outputs(specs, range(50), on=cluster) == outputs(specs, range(50))


def test_arrays(cluster):
    import numpy as np

    specs = [
        NodeSpec(nodes.ARRAYS, id="arrays"),
        NodeSpec(nodes.Source("def get(x): return x['twice']"), id="get", host="localhost"),
    ]
    with Pipeline(specs) as pipeline:
        made = list(pipeline.run([np.arange(100_000) + number for number in range(4)], on=cluster))
    assert all((one == 2 * (np.arange(100_000) + number)).all() for number, one in enumerate(made))


def test_an_error_is_that_of_a_run_here(cluster):
    specs = [COUNTER, NodeSpec(nodes.Source("def bad(x): return 1 // (x[0] - 40)"), id="bad")]
    found = []
    for options in ({}, {"on": cluster}):
        got: list[Any] = []
        with Pipeline(specs) as pipeline, pytest.raises(PipelineError) as caught:
            got += pipeline.run(range(100), **options)
        error = caught.value
        found.append((str(error), error.node, error.item, error.digest, type(error.__cause__)))
    assert found[0] == found[1]


def test_outputs_before_an_error_are_given(cluster):
    specs = [NodeSpec(nodes.Source("def bad(x): return 1 // (x - 40)"), id="bad")]
    got = []
    with Pipeline(specs) as pipeline, pytest.raises(PipelineError):
        for output in pipeline.run(range(100), on=cluster):
            got.append(output)
    assert len(got) == 40


def test_dead_letters_and_logs_come_once(cluster):
    specs = [
        NodeSpec(nodes.Source("def number(x): return x"), id="number"),
        NodeSpec(nodes.FAILS, id="fails", on_error=DeadLetter()),
    ]
    found = []
    for options in ({}, {"on": cluster}):
        log, letters = Log(), []
        with Pipeline(specs, logger=log) as pipeline:
            list(pipeline.run(range(100), dead_letters=letters.append, **options))
        found.append(
            ([(letter.node, letter.item, letter.value, str(letter.error)) for letter in letters], sorted(log.messages))
        )
    assert found[0] == found[1]
    assert len(found[0][0]) == len([x for x in range(100) if x % 7 == 3])


def test_retries_are_made_at_the_host(cluster):
    specs = [NodeSpec(nodes.FAILS, id="fails", on_error=Retry(2, 0.0, then=Skip()))]
    assert outputs(specs, range(50), on=cluster) == outputs(specs, range(50))


def test_a_checkpoint_goes_on_anywhere(cluster):
    specs = [COUNTER, SPLITS, PER_USER]
    whole = outputs(specs, range(300))
    for first, then in itertools.product(({}, {"on": cluster}), repeat=2):
        checkpoints: list[Checkpoint] = []
        with Pipeline(specs) as pipeline:
            list(pipeline.run(range(200), checkpoint_every=120, on_checkpoint=checkpoints.append, **first))
        kept = Checkpoint.from_bytes(checkpoints[0].to_bytes())
        with Pipeline(specs) as pipeline:
            rest = facts(pipeline.resume(kept, range(kept.items, 300), numbered=True, **then))
        assert rest == whole[kept.outputs :]


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_grants_hold_at_a_host(cluster, tmp_path, isolation):
    """Services, mounts of its machine, variables, the seed; and the session."""
    (tmp_path / "out").mkdir()
    (tmp_path / "told").write_text("told")
    mounts = {"/data": tmp_path, "/out": cloche.Mount(tmp_path / "out", writable=True)}
    grants = cloche.Grants(services={"double": nodes.double}, mounts=mounts, env={"A": "b"}, seed=5)
    specs = [NodeSpec(nodes.GRANTED, id="granted", grants=grants)]
    here = outputs(specs, range(5), session_id="s1")
    with Pipeline(specs, isolation=isolation) as pipeline:
        assert list(pipeline.run(range(5), session_id="s1", on=cluster)) == [value for *_, value in here]
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_the_runtime_s_limits_hold_at_a_host(cluster):
    spin = NodeSpec(nodes.Source("def spin(x):\n    while True:\n        pass"), id="spin")
    limits = cloche.Limits(deadline_s=0.1, grace_s=60, load_s=120)
    with (
        cloche.Runtime(limits=limits) as runtime,
        Pipeline([spin], runtime=runtime) as pipeline,
        pytest.raises(PipelineError, match=r"Limits.deadline_s=0.1") as caught,
    ):
        list(pipeline.run([1], on=cluster))
    assert isinstance(caught.value.__cause__, cloche.DeadlineError)


def test_a_resumed_run_loses_nothing_either(cluster):
    specs = [COUNTER, NodeSpec(nodes.COUNTER, id="copies", workers=2)]
    whole, checkpoints = outputs(specs, range(1200)), []
    with killer(cluster, 3), Pipeline(specs) as pipeline:
        list(pipeline.run(range(800), checkpoint_every=150, on_checkpoint=checkpoints.append, on=cluster))
        kept = checkpoints[1]
        again = facts(pipeline.resume(kept, range(kept.items, 1200), numbered=True, on=cluster))
    assert again == whole[kept.outputs :]


def test_an_early_end_cleans_up(cluster, tmp_path):
    path = tmp_path / "told"
    specs = [NodeSpec(nodes.Told, params={"path": str(path)}, id="told", placement="native")]
    with Pipeline(specs) as pipeline:
        for output in pipeline.run(itertools.count(), on=cluster):
            if output == 30:
                break
    assert path.read_text() == "cleaned up\n"
    assert len(outputs([COUNTER], range(5), on=cluster)) == 6, "the hosts serve on"


def test_async(cluster):
    async def main() -> list[Any]:
        with Pipeline([COUNTER]) as pipeline:
            return [output async for output in pipeline.arun(range(30), on=cluster)]

    assert anyio.run(main) == [value for *_, value in outputs([COUNTER], range(30))]


def test_who_is_faster_waits(cluster):
    """No more items are taken than may wait: an endless input does not fill the memory."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken = number
            yield number

    with Pipeline([NodeSpec(nodes.COUNTER, id="counter", queue=8, batch=4)]) as pipeline:
        run = pipeline.run(items(), on=cluster)
        next(run)
        most = taken
        for _ in range(50):
            next(run)
            most = max(most, taken)
        run.close()
    assert most < 1000


@pytest.mark.parametrize(
    ("specs", "items", "message"),
    [
        ([COUNTER], [1, 2, lambda: 3], "item 2: cannot be sent to a host"),
        ([NodeSpec(lambda x: x, id="local", placement="native")], [1], "node 'local' cannot be sent to a host"),
        (
            [NodeSpec(nodes.COUNTER, id="far", host="mars")],
            [1],
            r"node 'far' wants the host mars, and there are: .*local-",
        ),
        (
            [NodeSpec(nodes.with_handle, id="handle", placement="native")],
            range(9),
            "node 'handle' failed: .*cannot be sent from the host",
        ),
        ([NodeSpec(nodes.Source("import nothing_of_that_name"), id="bad")], [1], "nothing_of_that_name"),
    ],
)
def test_what_cannot_be_done_is_said(cluster, monkeypatch, specs, items, message):
    monkeypatch.setattr(cluster, "wait_s", 0.1)
    with Pipeline(specs) as pipeline, pytest.raises(ClocheError, match=message):
        list(pipeline.run(items, on=cluster))
    assert len(outputs([COUNTER], range(5), on=cluster)) == 6, "the hosts serve on"


def test_a_recorded_node_is_refused(cluster, tmp_path):
    with Pipeline([COUNTER], record=tmp_path) as pipeline, pytest.raises(PlacementError, match="leave record out"):
        list(pipeline.run([1], on=cluster))


@contextmanager
def killer(cluster: LocalCluster, seed: int) -> Iterator[list[str]]:
    """Kills hosts at random moments, one at least of those that are there."""
    drawn, stop, killed = random.Random(seed), threading.Event(), []

    def work() -> None:
        while not stop.wait(drawn.uniform(0.005, 0.2)):
            there = cluster.hosts()
            if len(there) > 1:
                host: Any = drawn.choice(there)
                killed.append(host.name)
                os.kill(host.pid, signal.SIGKILL)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


SEEDS = [COUNTER, SPLITS, PER_USER, LAST]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return outputs(SEEDS, range(1500))


@pytest.mark.few(3)
@pytest.mark.parametrize("seed", range(100))
def test_killed_hosts_lose_nothing(cluster, expected, seed):
    with killer(cluster, seed):
        assert outputs(SEEDS, range(1500), on=cluster) == expected


def test_killed_hosts_tell_letters_and_logs_once(cluster):
    specs = [NodeSpec(nodes.FAILS, id="fails", on_error=DeadLetter())]
    log, letters = Log(), []
    with killer(cluster, 1), Pipeline(specs, logger=log) as pipeline:
        list(pipeline.run(range(1500), dead_letters=letters.append, on=cluster))
    wanted = [x for x in range(1500) if x % 7 == 3]
    assert [letter.value for letter in letters] == wanted
    assert sorted(message for message in log.messages if message.startswith("seven")) == sorted(
        f"seven {x}" for x in wanted
    )


def test_an_item_that_kills_each_host_ends_the_pipeline(cluster):
    got = []
    spec = NodeSpec(nodes.kills, id="kills", placement="native", batch=1)
    with Pipeline([spec]) as pipeline, pytest.raises(PipelineError, match="4 hosts were lost in a row"):
        for output in pipeline.run(range(20), on=cluster):
            got.append(output)  # those before the error
    assert got == list(range(5))


def test_a_drained_machine_is_left(cluster):
    """Its chains go on elsewhere, in the middle of the stream, and the outputs are the same."""
    drained = threading.Event()
    machine = ready(cluster, 2)[0].machine

    def drain() -> None:
        cluster.drain(machine)
        drained.set()

    def items() -> Iterator[int]:
        yield from range(700)
        threading.Thread(target=drain).start()
        yield from range(700, 900)
        assert drained.wait(120)
        yield from range(900, 1500)

    with Pipeline(SEEDS) as pipeline:
        try:
            got = facts(pipeline.run(items(), numbered=True, on=cluster))
        finally:
            cluster.undrain(machine)
        assert all(machine not in status.host for status in pipeline.status)
    assert got == outputs(SEEDS, range(1500))


def test_a_new_machine_relieves_a_busy_one():
    """A hot spot: two chains that are always busy share a host until another one comes."""
    busy = [
        NodeSpec(nodes.COUNTER, params={"times": 2000}, id=name, host="localhost", workers=1) for name in ("one", "two")
    ]
    with LocalCluster(1, balance_s=0.2) as cluster, Pipeline(busy, []) as pipeline:
        run = pipeline.run(itertools.count(), on=cluster)
        next(run)
        cluster.add()
        for _ in run:
            hosts = {status.host for status in pipeline.status}
            if len(hosts) == 2:
                break
        run.close()


def test_two_pipelines_at_a_time(cluster):
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        found[number] = outputs(SEEDS, range(300), on=cluster)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2] == outputs(SEEDS, range(300))


def test_a_closed_cluster_says_so():
    made = LocalCluster(1)
    made.close()
    with Pipeline([COUNTER]) as pipeline, pytest.raises(ClocheError, match="closed"):
        list(pipeline.run([1], on=made))


def test_no_process_is_left_behind():
    with LocalCluster(1) as made:
        outputs([COUNTER], range(5), on=made)
        pids = [host.pid for host in made.hosts()]  # type: ignore[attr-defined]  # a LocalHost
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
