"""One item of a stream: taken from the host's iterator, fed to the node, processed, and its output yielded. The items are small.

Timed: a thousand items through `Node.stream`, so that a thousandth of the figure is one item; natively, a generator over the same
items. Not timed: loading. Level: <= 10 us an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import cloche

ITEMS = 1000
SHAPES = {
    "value": "class N:\n    def process(self, x):\n        return x + 1\n",
    "generator": "class N:\n    def process(self, x):\n        yield x + 1\n",
    "streaming": "class N:\n    is_streaming = True\n    async def process(self, items):\n        async for x in items:\n            yield x + 1\n",
}


def drain(stream: Iterator[Any]) -> int:
    """Take every output of a stream; their sum."""
    total = 0
    for output in stream:
        total += output
    return total


@pytest.mark.parametrize("shape", SHAPES)
def bench_thousand_items(benchmark: Any, runtime: cloche.Runtime, shape: str) -> None:
    """A thousand items through a node in the sandbox."""
    benchmark.group = "1000 streamed items"
    with runtime.load(cloche.Source(SHAPES[shape]), "N") as node:
        assert benchmark(lambda: drain(node.stream(range(ITEMS)))) == sum(range(1, ITEMS + 1))


def bench_thousand_items_native(benchmark: Any) -> None:
    """A native generator over the same items."""
    benchmark.group = "1000 streamed items"

    def process(items: Iterator[int]) -> Iterator[int]:
        for x in items:
            yield x + 1

    assert benchmark(lambda: drain(process(iter(range(ITEMS))))) == sum(range(1, ITEMS + 1))
