"""What the eleven reference nodes must answer, natively and in the sandbox: one table for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NODES = Path(__file__).parents[1] / "examples" / "nodes" / "reference"
LIBRARY_NODE = Path(__file__).parent / "library_node.py"
SYSTEM_NODE = Path(__file__).parent / "system_node.py"


@dataclass(frozen=True)
class Case:
    """One node, its calls in order, and what else holds after them.

    Attributes:
        calls: (data, result of process).
        stream: (items, outputs), on the same node after the calls.
        attributes: name -> value, read after that.
        logs: (logger, message) of a whole life: initialize, calls, stream, cleanup.
    """

    entry: str
    calls: list[tuple[Any, Any]]
    params: dict[str, Any] = field(default_factory=dict)
    stream: tuple[list[Any], list[Any]] = ([], [])
    attributes: dict[str, Any] = field(default_factory=dict)
    logs: list[tuple[str, str]] = field(default_factory=list)


def _sums(*rows: tuple[int, int, float, int]) -> list[dict[str, Any]]:
    return [dict(zip(("current", "sum", "average", "count"), row, strict=True)) for row in rows]


CASES = [
    Case("PassThrough", [(x, x) for x in (None, True, 5, 2.5, "text", b"bytes", [1, [2]], (1, {"session_id": "s"}), {"k": {"n": 1}}, {1, 2})],
         stream=([1, "a"], [1, "a"])),
    Case("Transform", [(5, 15), (10, 30)], {"operation": "multiply", "factor": 3}, ([1], [3]), {"processed_count": 3},
         [("Transform", "initialized: operation=multiply factor=3"), ("Transform", "item 1"), ("Transform", "item 2"), ("Transform", "item 3"),
          ("Transform", "cleaned up after 3 items")]),
    Case("Counter", [("a", {"input": "a", "count": 1, "is_even": False}), ("b", {"input": "b", "count": 2, "is_even": True})],
         stream=(["c"], [{"input": "c", "count": 3, "is_even": False}]), attributes={"count": 3}),
    Case("Filter", [(25, {"value": 25, "passed": True}), (5, {"value": 5, "passed": False}), (100, {"value": 100, "passed": False}),
                    (10, {"value": 10, "passed": True}), (50, {"value": 50, "passed": True}), ("text", {"value": "text", "passed": True})],
         {"min_value": 10, "max_value": 50}),
    Case("Accumulator", list(zip((10, 20, 30, 40), _sums((10, 10, 10.0, 1), (20, 30, 15.0, 2), (30, 60, 20.0, 3), (40, 90, 30.0, 3)), strict=True)),
         {"window": 3}, ([50], _sums((50, 120, 40.0, 3)))),
    Case("Streaming", [(2, [{"index": i, "input": 2, "value": 2 * i} for i in range(3)])], {"count": 3},
         ([1, 5], [{"index": i, "input": x, "value": x * i} for x in (1, 5) for i in range(3)])),
    Case("Echo", [("hi", {"input": "hi", "counter": 1, "node": "TestEcho"}), (5, {"input": 5, "counter": 2, "node": "TestEcho"})], {"name": "TestEcho"},
         attributes={"counter": 2, "name": "TestEcho", "is_initialized": True},
         logs=[("Echo", "TestEcho is ready"), ("Echo", "TestEcho heard 'hi'"), ("Echo", "TestEcho heard 5")]),
    Case("Calculator", [(7, 35), ("seven", {"error": "expected a number, got str", "input": "seven"})], {"operation": "multiply", "operand": 5}),
    Case("Calculator", [(7, {"error": "division by zero", "input": 7})], {"operation": "divide", "operand": 0}),
    Case("ComplexData", [({"name": "Ada", "age": 36}, {"validated": True, "data": {"name": "Ada", "age": 36}, "has_name": True, "has_age": True,
                                                       "metadata": {"keys": ["name", "age"], "count": 2}}),
                         ([1], {"validated": False, "data": [1], "error": "expected a dict, got list"})]),
    Case("ListProcessing", [([10, 20, 30, 40, 50], {"operation": "average", "result": 30.0, "input_length": 5}),
                            ([], {"operation": "average", "result": None, "input_length": 0})], {"operation": "average"}),
    Case("Chain", [(5, {"result": 20, "formatted": "Result: 20"})], stream=([5, 0], [{"result": 20, "formatted": "Result: 20"}, {"result": 10, "formatted": "Result: 10"}])),
]  # fmt: skip


def live(node: Any, case: Case) -> None:
    """One node's whole life, but for closing it, against the table."""
    assert node.initialize() is None
    for data, result in case.calls:
        answer = node.process(data)
        assert (answer, type(answer)) == (result, type(result))
    items, outputs = case.stream
    assert list(node.stream(items)) == outputs
    assert {name: node.get(name) for name in case.attributes} == case.attributes
    assert node.cleanup() is None
