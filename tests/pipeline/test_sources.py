"""Pipelines that begin with sources: nodes that make outputs without items, endless ones too, one output at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import anyio
import pytest

import cloche
from cloche.pipeline import Checkpoint, NodeSpec, Pipeline, PipelineError, Retry, Skip

TEXT = """
import itertools


class Count:
    def __init__(self, most=None, fails=False):
        self.most, self.fails = most, fails

    def process(self):
        for number in itertools.count():
            if number == self.most:
                if self.fails:
                    raise ValueError("no more")
                return
            yield number

    def flush(self):
        return "flushed"
"""
COUNT = cloche.Source(TEXT)
PLACES = ["wasm", "native", "process"]


def double(x: Any) -> Any:
    return x * 2


def source(placement: Any, **params: Any) -> NodeSpec:
    return NodeSpec(COUNT, "Count", params, placement=placement, id="count")


def behind(placement: Any = "native", **options: Any) -> NodeSpec:
    return NodeSpec(double, placement=placement, id="double", **options)


@pytest.mark.parametrize("placement", PLACES)
def test_a_source_needs_no_items(placement: Any, runtimes: Any) -> None:
    with Pipeline([source(placement, most=3), behind()], runtime=runtimes("none")) as pipeline:
        expected = [(0, 0), (1, 2), (2, 4), (3, "flushedflushed")]
        for given in (None, []):
            assert [(output.item, output.value) for output in pipeline.run(given, numbered=True)] == expected
        if placement == "process":
            return  # the same code; a process takes long
        endless = Pipeline([source(placement), behind(queue=2)], runtime=runtimes("none"))
        outputs = endless.run()
        assert list(islice(outputs, 200)) == list(range(0, 400, 2))
        outputs.close()  # type: ignore[attr-defined]  # a generator
        endless.close()


async def agen() -> AsyncIterator[int]:
    for number in range(3):
        yield number


async def later() -> int:
    return 7


def nothing() -> Iterator[Any]:
    yield from (None, 1, None)


@pytest.mark.parametrize(("node", "outputs"), [(agen, [0, 1, 2]), (later, [7]), (nothing, [1]), (lambda: None, [])])
def test_the_shapes_of_native_sources(node: Any, outputs: list[int]) -> None:
    with Pipeline([NodeSpec(node, placement="native")]) as pipeline:
        assert list(pipeline.run()) == outputs


@pytest.mark.parametrize("placement", PLACES)
def test_only_what_a_source_gives_is_counted(placement: Any, runtimes: Any) -> None:
    """The pull that finds the end is no item. `flush` gives one more."""
    with Pipeline([source(placement, most=3), behind()], runtime=runtimes("none")) as pipeline:
        outputs = pipeline.run()
        given = [next(outputs) for _ in range(4)]
        assert given[-1] == "flushedflushed"
        assert next(outputs, None) is None
        counts = [(status.counts.items, status.counts.outputs) for status in pipeline.status]
    assert counts == [(4, 4), (4, 4)]


@pytest.mark.parametrize("placement", PLACES)
def test_a_source_that_fails_gives_what_came_before(placement: Any, runtimes: Any) -> None:
    got: list[Any] = []
    with Pipeline([source(placement, most=2, fails=True), behind()], runtime=runtimes("none")) as pipeline:
        with pytest.raises(PipelineError, match="no more") as caught:
            got.extend(pipeline.run())
        assert (got, caught.value.node, caught.value.item) == ([0, 2], "count", 2)
    if placement != "process":
        skipping = NodeSpec(COUNT, "Count", {"most": 2, "fails": True}, placement=placement, on_error="skip")
        with Pipeline([skipping], runtime=runtimes("none")) as pipeline:
            assert list(pipeline.run()) == [0, 1]


def test_a_run_of_a_source_goes_on_from_a_checkpoint(runtimes: Any) -> None:
    saved: list[Checkpoint] = []
    with Pipeline([source("wasm", most=9), behind()], runtime=runtimes("none")) as pipeline:
        whole = list(pipeline.run(numbered=True, checkpoint_every=4, on_checkpoint=saved.append))
        assert [one.items for one in saved] == [4, 8]
        for point in saved:
            assert list(pipeline.resume(point, numbered=True)) == whole[point.items :]


@pytest.mark.parametrize(
    ("on_break", "rule"), [("restore", "skip"), ("restore", Retry(2, 0, then=Skip())), ("restart", "skip")]
)
def test_a_source_whose_sandbox_breaks_each_time_ends(on_break: Any, rule: Any, runtimes: Any) -> None:
    breaks = cloche.Source(
        "import os\ndef node():\n    for x in range(5):\n        if x == 3: os._exit(1)\n        yield x\n"
    )
    with Pipeline([NodeSpec(breaks, on_break=on_break, on_error=rule)], runtime=runtimes("none")) as pipeline:
        assert list(pipeline.run()) == [0, 1, 2]


def test_arun_needs_no_items() -> None:
    async def main() -> list[Any]:
        with Pipeline([source("native", most=2)]) as pipeline:
            return [output async for output in pipeline.arun()]

    assert anyio.run(main) == [0, 1, "flushed"]


@pytest.mark.parametrize(
    ("nodes", "connections", "items", "why"),
    [
        ([behind()], None, None, "'double' takes items: give them to run"),
        ([behind(), source("native")], None, [1], "'count' is a source, which takes no items, and connections"),
        ([source("native"), behind()], [], [1], "'count' is a source and 'double' takes items"),
        ([source("native")], None, [1], "sources, which take no items"),
        ([NodeSpec(COUNT, "Count", placement="native", id="count", workers=2)], None, None, "leave workers out"),
    ],
)
def test_sources_are_where_no_items_come(nodes: list[NodeSpec], connections: Any, items: Any, why: str) -> None:
    with Pipeline(nodes, connections) as pipeline, pytest.raises(cloche.ClocheError, match=why):
        next(pipeline.run(items))
