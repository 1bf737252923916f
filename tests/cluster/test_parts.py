"""How a pipeline is cut into chains: pure, and every node is in exactly one chain."""

from __future__ import annotations

import random

import pytest

from cloche.cluster._parts import cut, graph_of
from cloche.pipeline import Connection, Graph, NodeSpec


def node(name: str, **options: object) -> NodeSpec:
    return NodeSpec("node.py", id=name, **options)  # type: ignore[arg-type]


def chains(nodes: list[NodeSpec], connections: list[tuple[str, str]] | None = None) -> list[list[str]]:
    return [list(part.nodes) for part in cut(Graph.of(nodes, connections))]


def test_a_line_is_one_chain():
    assert chains([node("a"), node("b"), node("c")]) == [["a", "b", "c"]]


def test_branches_are_chains():
    nodes = [node(name) for name in "abcdef"]
    edges = [("a", "b"), ("b", "c"), ("b", "d"), ("d", "e"), ("c", "f"), ("e", "f")]
    assert chains(nodes, edges) == [["a", "b"], ["c"], ["d", "e"], ["f"]]


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 2, "key": "user"}, {"host": "big"}, {"inputs": ["x"]}], ids=str
)
def test_what_cannot_stay_with_others_is_a_chain_of_its_own(options):
    into_b = ("a", "b.x") if "inputs" in options else ("a", "b")
    found = chains([node("a"), node("b", **options), node("c")], [into_b, ("b", "c")])
    assert [chain[0] for chain in found][:2] == ["a", "b"]


def test_nodes_for_the_same_host_stay_together():
    assert chains([node("a", host="x"), node("b", host="x"), node("c", host="y"), node("d")]) == [
        ["a", "b"],
        ["c", "d"],
    ]


@pytest.mark.parametrize("seed", range(50))
def test_any_graph(seed):
    """Each node is in one chain, each connection in one or between two, and the graph of the chains has no circle."""
    drawn = random.Random(seed)
    names = [f"n{number}" for number in range(drawn.randrange(1, 12))]
    nodes = [node(name, workers=drawn.choice([1, 1, 1, 2]), host=drawn.choice([None, None, "x"])) for name in names]
    edges = [
        (one, other) for at, one in enumerate(names) for other in names[at + 1 :] if drawn.random() < 1.5 / len(names)
    ]
    graph = Graph.of(nodes, [Connection(*edge) for edge in edges])
    parts = cut(graph)
    assert sorted(name for part in parts for name in part.nodes) == sorted(names)
    outer = graph_of(graph, parts, [part.first for part in parts])
    assert len(outer.edges) + sum(len(part.edges) for part in parts) == len(graph.edges)
    order = list(outer.nodes)
    assert all(order.index(edge.source) < order.index(edge.target) for edge in outer.edges)
    assert list(outer.exits) == list(graph.exits), "outputs come in that order"
    for part in parts:
        assert [(edge.source, edge.target) for edge in part.edges] == list(
            zip(part.nodes, list(part.nodes)[1:], strict=False)
        )
        assert len(part.nodes) == 1 or all(spec.workers == 1 for spec in part.nodes.values())
