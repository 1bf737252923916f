"""Nodes that give out what they go on changing: a window, a buffer, a dict of results. Each output is sent as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cloche
from cloche.pipeline import NodeSpec, Pipeline

WINDOWS = cloche.Source(
    """
class Window:
    def __init__(self): self.last, self.told = [], {"count": 0, "last": []}

    def change(self, x):
        self.last.append(x)
        del self.last[:-2]
        self.told["count"] += 1
        self.told["last"] = self.last

class Returns(Window):
    def process(self, x):
        self.change(x)
        return self.last if x % 2 else self.told

class Yields(Window):
    def process(self, x):
        for _ in range(2):
            self.change(x)
            yield self.told

class Streams(Window):
    is_streaming = True
    async def process(self, items):
        async for x in items:
            self.change(x)
            yield (self.last, "and", self.told)

class Awaits(Window):
    async def process(self, x):
        self.change(x)
        return self.told
"""
)
ARRAYS = cloche.Source(
    """
import numpy as np

class Sum:
    def __init__(self, size): self.sum = np.zeros(size)
    def process(self, x):
        self.sum += x
        return self.sum

class View(Sum):
    def process(self, x):
        super().process(x)
        return self.sum[1:]

class Inside(Sum):
    def process(self, x):
        return {"sum": super().process(x), "at": x}

class Fresh(Sum):
    def process(self, x):
        return super().process(x) * 1
"""
)


def outputs(spec: NodeSpec, count: int, runtime: cloche.Runtime) -> list[Any]:
    with Pipeline([spec], runtime=runtime) as pipeline:
        return list(pipeline.run(range(count)))


@pytest.mark.parametrize("entry", ["Returns", "Yields", "Streams", "Awaits"])
def test_outputs_of_a_batch_are_those_of_single_calls(entry: str, runtime: cloche.Runtime) -> None:
    alone = outputs(NodeSpec(WINDOWS, entry, batch=1), 40, runtime)
    assert alone[-1] != alone[-2]
    for place in ("wasm", "process"):
        assert outputs(NodeSpec(WINDOWS, entry, placement=place), 40, runtime) == alone  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("entry", ["Sum", "View", "Inside", "Fresh"])
def test_so_are_arrays(entry: str, size: int, runtime: cloche.Runtime) -> None:
    """Small ones are in the reply, large ones beside it."""
    alone = outputs(NodeSpec(ARRAYS, entry, {"size": size}, batch=1), 20, runtime)
    np.testing.assert_equal(outputs(NodeSpec(ARRAYS, entry, {"size": size}), 20, runtime), alone)
    last = alone[-1]["sum"] if entry == "Inside" else alone[-1]
    assert (last == sum(range(20))).all()


def test_an_output_that_cannot_be_sent_costs_itself_alone(runtime: cloche.Runtime) -> None:
    source = cloche.Source(
        "class Node:\n"
        "    def __init__(self): self.seen = []\n"
        "    def process(self, x):\n"
        "        self.seen.append(x)\n"
        "        return [object()] if x == 5 else self.seen\n"
    )
    found = outputs(NodeSpec(source, on_error="skip"), 10, runtime)
    assert found == [list(range(count + 1)) for count in range(10) if count != 5]
