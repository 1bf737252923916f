"""What goes wrong on a cluster at a chosen moment: the outputs are those of a run here, it ends, and nothing is left at a host."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloche.errors import ClocheError, ClosedError
from cloche.pipeline import Checkpoint, DeadLetter, NodeSpec, Pipeline, PipelineError, Skip
from tests.cluster import nodes
from tests.cluster.rig import Rig, RigHost
from tests.cluster.runs import Log, facts, outputs

SUM = NodeSpec(nodes.Native, id="sum", placement="native", batch=4)
LAST = NodeSpec(nodes.Last, id="last", placement="native", workers=2, batch=2)
TAKE = NodeSpec(nodes.TAKE, id="take")
WAIT_S = 60.0


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(*arguments: Any, **options: Any) -> Rig:
        made.append(Rig(*arguments, **options))
        return made[-1]

    yield make
    for rig in made:
        assert rig.left() == []
        rig.close()


VERBS = [("prepare", 1), ("start", 1), ("start", 2), ("call", 1), ("call", 5), ("states", 1), ("stop", 1)]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return outputs([SUM, LAST], range(40))


@pytest.mark.parametrize("is_done", [False, True], ids=["not done", "done, and not answered"])
@pytest.mark.parametrize(("verb", "number"), VERBS)
def test_a_host_lost_at_any_step(make, expected, verb, number, is_done):
    rig, seen = make(save_s=0.0), itertools.count(1)

    def lose(host: RigHost, asked: str, _: Any) -> None:
        if asked == verb and next(seen) == number:
            host.lose()

    setattr(rig, "served" if is_done else "before", lose)
    options = {"checkpoint_every": 20, "on_checkpoint": lambda _: None} if verb == "states" else {}
    assert outputs([SUM, LAST], range(40), on=rig, **options) == expected
    assert next(seen) > number


def test_states_are_taken_behind_the_batches_that_are_sent_again(make):
    rig, asked = make(), threading.Event()

    def before(host: RigHost, verb: str, _: Any) -> None:
        if verb == "states":
            if host is rig.made[0] and not host.is_lost:
                host.lose()
            else:
                asked.set()

    def serving(host: RigHost, verb: str, _: Any) -> None:
        if verb == "call" and rig.made[0].is_lost:
            assert asked.wait(WAIT_S)

    rig.before, rig.serving = before, serving
    got: list[Checkpoint] = []
    whole = outputs([SUM], range(8))
    assert outputs([SUM], range(8), on=rig, checkpoint_every=3, on_checkpoint=got.append) == whole
    with Pipeline([SUM]) as pipeline:
        rest = list(pipeline.resume(got[0], range(3, 8)))
    assert rest == [value for *_, value in whole[3:]]


def test_a_start_that_ends_each_host_ends(make):
    rig = make()
    rig.before = lambda host, verb, _: verb == "start" and host.lose()
    with Pipeline([SUM]) as pipeline, pytest.raises(ClocheError, match="sum cannot be brought back: 4 hosts were lost"):
        list(pipeline.run(range(5), on=rig))


@pytest.mark.parametrize("verb", ["prepare", "start"])
def test_a_chain_that_is_stopped_before_it_is_there(make, verb):
    """The host begins with the order when it has done all that came behind it."""
    rig, begun, stopped = make(1), threading.Event(), threading.Event()

    def serving(_: RigHost, asked: str, __: Any) -> None:
        if asked == verb:
            begun.set()
            assert stopped.wait(WAIT_S)

    def served(_: RigHost, asked: str, __: Any) -> None:
        if asked == "stop":
            stopped.set()

    rig.serving, rig.served = serving, served
    pipeline = Pipeline([SUM])
    closing = threading.Thread(target=lambda: begun.wait(WAIT_S) and pipeline.close())
    closing.start()
    with pytest.raises(ClosedError):
        list(pipeline.run(range(5), on=rig))
    closing.join()
    for host in rig.made:
        host.settle()


def test_an_end_comes_without_further_items(make):
    over = threading.Event()

    def items() -> Iterator[int]:
        yield from range(4)
        over.wait(WAIT_S)

    with Pipeline([SUM, TAKE]) as pipeline:
        assert len(list(pipeline.run(items(), on=make()))) == 4
        assert not over.is_set()
    over.set()


def test_an_end_at_a_checkpoint(make):
    got: list[Checkpoint] = []
    assert len(outputs([TAKE], range(8), on=make(), checkpoint_every=4, on_checkpoint=got.append)) == 4


def test_a_node_behind_others_that_wants_no_items(make):
    specs = [SUM, NodeSpec(nodes.TAKE, id="take", params={"count": 0})]
    assert outputs(specs, range(8), on=make()) == outputs(specs, range(8))


def test_a_drained_machine_is_left_by_those_that_have_ended_and_by_those_behind_them(make):
    rig = make(1, stop_s=60.0)
    more = threading.Event()

    def items() -> Iterator[int]:
        yield from range(10)
        assert more.wait(WAIT_S)
        yield from range(10, 20)

    specs = [TAKE, SUM]
    with Pipeline(specs, []) as pipeline:
        run = pipeline.run(items(), numbered=True, on=rig)
        got = [next(run) for _ in range(10)]
        rig.add()
        rig.drain("rig-1", WAIT_S)
        more.set()
        got += run
    assert facts(got) == outputs(specs, range(20), [])


def test_a_cluster_that_is_closed_in_a_run(make):
    rig = make(wait_s=600.0)
    with Pipeline([SUM]) as pipeline, pytest.raises(ClocheError, match="the cluster was closed"):
        for number, _ in enumerate(pipeline.run(iter(int, 1), on=rig)):
            if number == 20:
                rig.is_closed = True
                for host in rig.made:
                    host.lose()


def test_what_is_logged_at_the_start_and_at_the_end_comes(make):
    found = []
    for options in ({}, {"on": make()}):
        log = Log()
        with Pipeline([NodeSpec(nodes.LOGS, id="logs")], logger=log) as pipeline:
            list(pipeline.run(range(3), **options))
        found.append(log.messages)
    assert found[0] == found[1]
    assert "cleanup" in found[0]


def test_errors_of_cleanup_are_those_of_a_run_here(make):
    found = []
    for options in ({}, {"on": make()}):
        spec = NodeSpec(nodes.Untidy, id="untidy", placement="native")
        with Pipeline([spec]) as pipeline, pytest.raises(ExceptionGroup) as caught:
            list(pipeline.run(range(3), **options))
        found.append(repr(caught.value))
    assert found[0] == found[1]


def test_an_item_that_cannot_be_sent(make):
    """It is an item that fails: the outputs before it come, and its node's `on_error` decides."""
    items, got = [*range(5), lambda: 5, 6, lambda: 7], []
    spec = NodeSpec(nodes.Last, id="last", placement="native")
    with (
        Pipeline([spec]) as pipeline,
        pytest.raises(PipelineError, match="node 'last' failed on item 5.*sent") as caught,
    ):
        for output in pipeline.run(items, on=make()):
            got.append(output)
    assert got == [0, 1, 2, 3]
    assert (caught.value.node, caught.value.item) == ("last", 5)
    letters: list[Any] = []
    for rule in (Skip(), DeadLetter()):
        with Pipeline([NodeSpec(nodes.Last, id="last", placement="native", on_error=rule)]) as pipeline:
            assert list(pipeline.run(items, on=make(), dead_letters=letters.append)) == [0, 1, 2, 3, 4]
    assert [(letter.node, letter.item, letter.value) for letter in letters] == [
        ("last", 5, items[5]),
        ("last", 7, items[7]),
    ]


def test_nobody_is_interrupted_at_an_end(make):
    """Each of a thousand nodes would be a thousand times."""
    rig, asked = make(), []
    rig.before = lambda _, verb, __: asked.append(verb)
    outputs([NodeSpec(nodes.Native, id=f"n{number}", placement="native") for number in range(8)], range(3), [], on=rig)
    assert asked.count("interrupt") <= 16


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_short_and_a_long_way_meet_behind_small_queues(make, elsewhere):
    """A batch that has no room on the one way must not keep the other way's from passing."""
    one, way, meet = (
        NodeSpec(nodes.Last, id=name, placement="native", queue=queue, batch=batch)
        for name, queue, batch in (("one", 64, 64), ("way", 64, 64), ("meet", 2, 1))
    )
    edges = [("one", "meet"), ("one", "way"), ("way", "meet")]
    options = {"on": make()} if elsewhere else {}
    assert len(outputs([one, way, meet], range(300), edges, **options)) > 500
