"""What a pipeline does not do: copy what native nodes hand on, and keep what has passed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from cloche.pipeline import NodeSpec, Pipeline


def same(x: Any) -> Any:
    return x


@pytest.mark.parametrize("placement", ["native", "inline"])
def test_native_nodes_hand_on_the_object_itself(placement: Any) -> None:
    items = [np.zeros(100_000), [1, 2], object()]
    nodes = [NodeSpec(same, placement="native", id="a"), NodeSpec(same, placement=placement, id="b")]
    with Pipeline(nodes) as pipeline:
        assert all(output is item for output, item in zip(pipeline.run(items), items, strict=True))


@pytest.mark.parametrize("copies", [1, 3])
def test_nothing_is_kept_of_items_that_have_passed(copies: int, thorough: bool) -> None:
    """A million items take no more memory than some thousand."""
    count = 1_000_000 if thorough else 6000
    nodes = [NodeSpec(same, placement="native", id="a", workers=copies), NodeSpec(same, placement="native", id="b")]
    with Pipeline(nodes) as pipeline:
        outputs = pipeline.run(bytes(1000) for _ in range(count))
        for _ in range(2000):
            next(outputs)
        tracemalloc.start()
        try:
            for _ in range(count // 2 - 2000):
                next(outputs)
            halfway = tracemalloc.get_traced_memory()[0]
            for _ in range(count // 2 - 10):
                next(outputs)
            grown = tracemalloc.get_traced_memory()[0] - halfway
        finally:
            tracemalloc.stop()
        assert len(list(outputs)) == 10
    assert grown < 1000 * (128 * (3 + 2 * copies) + 256 + 64)  # what all queues hold
