"""Objects of a node's own classes, between nodes of a pipeline: they pass where both sides may have them, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

import cloche
from cloche.pipeline import NodeSpec, Pipeline, PipelineError

OPAQUE = cloche.Grants(opaque=True)
POINTS = cloche.Source(
    """
class Point:
    def __init__(self, x):
        self.x = x


class Make:
    def process(self, x):
        return Point(x)


class Read:
    def process(self, point):
        return type(point).__name__, point.x
"""
)


def nodes(make: dict[str, Any], read: dict[str, Any]) -> list[NodeSpec]:
    return [NodeSpec(POINTS, "Make", id="make", **make), NodeSpec(POINTS, "Read", id="read", **read)]


@pytest.mark.parametrize("options", [{"grants": OPAQUE}, {"placement": "native"}], ids=["wasm", "native"])
def test_an_object_passes_between_two_nodes_of_one_kind(options: dict[str, Any], runtimes: Any) -> None:
    with Pipeline(nodes(options, options), runtime=runtimes("none")) as pipeline:
        assert list(pipeline.run([1, 2, 3])) == [("Point", 1), ("Point", 2), ("Point", 3)]


@pytest.mark.parametrize(
    ("make", "read", "node"),
    [
        ({}, {"grants": OPAQUE}, "make"),
        ({"grants": OPAQUE}, {}, "read"),
        ({"grants": OPAQUE}, {"placement": "native"}, "read"),
        ({"placement": "native"}, {"grants": OPAQUE}, "read"),
    ],
    ids=["only the reader", "only the maker", "out of the sandboxes", "into a sandbox"],
)
def test_an_object_passes_nowhere_else(make: dict[str, Any], read: dict[str, Any], node: str, runtimes: Any) -> None:
    with Pipeline(nodes(make, read), runtime=runtimes("none")) as pipeline:
        with pytest.raises(PipelineError) as caught:
            list(pipeline.run([1]))
        assert (caught.value.node, caught.value.item) == (node, 0)
