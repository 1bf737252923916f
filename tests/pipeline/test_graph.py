"""A pipeline's nodes and connections are checked before anything starts, and each error says what to do."""

from __future__ import annotations

from typing import Any

import pytest

import cloche
from cloche.pipeline import CircuitBreaker, Connection, Fail, Graph, NodeSpec, Restore, Retry, Skip


def node(name: str | None = None, **options: Any) -> NodeSpec:
    return NodeSpec(cloche.Source("def f(x): return x"), "f", id=name, **options)


def test_without_connections_each_node_leads_to_the_next() -> None:
    graph = Graph.of([node(), node(), node("last")], None)
    assert list(graph.nodes) == ["f", "f2", "last"]
    assert [(edge.source, edge.target) for edge in graph.edges] == [("f", "f2"), ("f2", "last")]
    assert (graph.entries, graph.exits) == (["f"], ["last"])


def test_nodes_come_after_those_before_them() -> None:
    graph = Graph.of([node("c"), node("a"), node("b"), node("d")], [("a", "b"), ("b", "c"), Connection("a", "c")])
    assert list(graph.nodes) == ["a", "d", "b", "c"]
    assert (graph.entries, graph.exits) == (["a", "d"], ["d", "c"])


@pytest.mark.parametrize(
    ("nodes", "connections", "text"),
    [
        ([], None, "at least one node"),
        ([node("a"), node("a")], None, "two nodes have the id 'a'"),
        ([node("a")], [("a", "b")], "names the node 'b', and there are 'a'"),
        ([node("a"), node("b")], [("a", "b"), ("b", "a")], "form a circle"),
        ([node("a")], [("a", "a")], "form a circle: a -> a"),
        ([node("a"), node("b")], [("a", "b.x")], "leads to 'b.x', and the input ports of 'b' are none"),
        ([node("a"), node("b", inputs=("x",))], [("a", "b")], "the input ports of 'b' are x"),
        ([node("a"), node("b", inputs=("x", "y"))], [("a", "b.x")], "no connection leads to b.y"),
    ],
)
def test_what_does_not_fit_is_refused(nodes: list[NodeSpec], connections: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Graph.of(nodes, connections)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"placement": "wsam"}, ValueError, "give one of wasm, process, native, inline"),
        ({"on_error": "ignore"}, ValueError, "give one of fail, skip"),
        ({"on_error": 3}, TypeError, "give Fail"),
        ({"on_break": "raise"}, ValueError, "give one of fail, restart, restore"),
        ({"limits": {"deadline_s": 1}}, TypeError, "give cloche.Limits"),
        ({"workers": 0}, ValueError, "workers"),
        ({"key": "user"}, ValueError, "give workers=2 or more"),
        ({"key": 3, "workers": 2}, TypeError, "give a name, a function"),
        ({"inputs": "left"}, TypeError, "give names"),
        ({"inputs": ("x", "x")}, ValueError, "same name"),
        ({"breaker": 3}, TypeError, "give a CircuitBreaker"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        node("a", **options)
    with pytest.raises(ValueError, match="letters, digits"):
        node("a b")


@pytest.mark.parametrize("value", [-1, 10**9, float("nan")])
def test_seconds_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="give seconds"):
        Retry(1, value)
    with pytest.raises(ValueError, match="give seconds"):
        CircuitBreaker(reset_s=value)


def test_waiting_doubles_up_to_a_limit() -> None:
    rule = Retry(5, 1.0, 3.0, then=Restore(Fail()))
    assert [rule.wait_s(attempt) for attempt in (1, 2, 3, 4000)] == [1.0, 2.0, 3.0, 3.0]
    assert node(on_error="skip").on_error == Skip()
