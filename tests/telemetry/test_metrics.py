"""The metrics: their names, units and labels, and that no node can make any number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche.pipeline import NodeSpec, Pipeline
from tests.limits import patient
from tests.telemetry.recorded import Ignored

UNITS = {
    "cloche.call.duration": "s",
    "cloche.call.errors": "{error}",
    "cloche.call.deadlines": "{deadline}",
    "cloche.node.breaks": "{break}",
    "cloche.node.restores": "{restore}",
    "cloche.node.starts": "{start}",
    "cloche.node.count": "{node}",
    "cloche.memory.linear": "By",
    "cloche.memory.private": "By",
    "cloche.pool.size": "{node}",
    "cloche.pool.busy": "{item}",
    "cloche.pool.queue.length": "{item}",
    "cloche.pool.items": "{item}",
    "cloche.pool.wait.duration": "s",
    "cloche.pipeline.batch.duration": "s",
    "cloche.pipeline.items": "{item}",
    "cloche.pipeline.queue.length": "{item}",
}
NODE = """
import os

class Own(Exception):
    pass

def f(x):
    match x:
        case "raise":
            raise ValueError("no")
        case "own":
            raise type(f"Kind{os.urandom(4).hex()}", (Exception,), {})("no")
        case "exit":
            os._exit(1)
        case "stubborn":
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
    return x
"""


def make_everything(recorded: Any, look: Callable[[], object]) -> None:
    """Let everything happen that there is a metric for, and look at the metrics while it does."""
    with cloche.Runtime(telemetry=recorded.telemetry, logger=Ignored(), limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE), name="f", on_break="restart")
        for value, error in (("raise", cloche.NodeRaisedError), ("exit", cloche.GuestExitError)):
            with pytest.raises(error):
                node.process(value)
        short = runtime.load(cloche.Source(NODE), limits=patient(deadline_s=0.05, grace_s=0.01))
        with pytest.raises(cloche.HardDeadlineError):
            short.process("stubborn")
        with runtime.pool(cloche.Source("def f(x): return x"), size=1, name="pooled") as pool:
            pool.submit(1).result()
            line = Pipeline([NodeSpec(lambda x: x, id="same", placement="native")], runtime=runtime, name="line")
            with line:
                outputs = line.run(iter([1, 2]))
                next(outputs)
                look()


def test_every_metric_is_made_with_its_unit(fresh: Callable[..., Any]) -> None:
    """These names are in dashboards and alarms: one that changes is a change of the API."""
    recorded = fresh()
    names: set[str] = set()
    make_everything(recorded, lambda: names.update(recorded.names()))
    assert names == set(UNITS)
    data = recorded._reader.get_metrics_data()
    (scope,) = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    assert scope.scope.name == "cloche"
    assert {metric.name: metric.unit for metric in scope.metrics}.items() <= UNITS.items()
    assert all(metric.description for metric in scope.metrics)


def test_calls_and_errors_are_counted_by_kind(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(NODE, name="counted")
    for value in (1, 2, 3, "raise", "own"):
        try:
            node.process(value)
        except cloche.NodeRaisedError:
            pass
    labels = {"cloche__node__name": "counted"}
    calls = {**labels, "cloche__call__op": "process"}
    assert recorded.total("cloche.call.duration", **calls) == 5
    assert recorded.total("cloche.call.duration", **calls, error__type="NodeRaisedError") == 2
    assert recorded.total("cloche.call.errors", **labels) == 2
    assert recorded.total("cloche.call.errors", **labels, exception__type="ValueError") == 1
    assert recorded.total("cloche.call.errors", **labels, exception__type="_OTHER") == 1
    (point,) = recorded.points("cloche.call.duration", **calls, error__type="NodeRaisedError")
    assert 0 < point.sum < 240
    assert point.explicit_bounds[0] < 0.0001


def test_starts_are_cold_or_warm(fresh: Callable[..., Any]) -> None:
    """Code that is loaded, and a snapshot that is restored: also by a pool, and after a break."""
    recorded = fresh()
    with cloche.Runtime(telemetry=recorded.telemetry, logger=Ignored(), limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE), on_break="restart")
        assert recorded.total("cloche.node.starts", cloche__start__kind="cold") == 1
        node.clone().close()
        runtime.restore(node.snapshot(), reseed=False).close()
        with pytest.raises(cloche.GuestExitError):
            node.process("exit")
        assert recorded.total("cloche.node.starts", cloche__start__kind="warm") == 3
        with runtime.pool(cloche.Source(NODE), size=2):
            assert recorded.total("cloche.node.starts", cloche__start__kind="cold") == 2
            assert recorded.total("cloche.node.starts", cloche__start__kind="warm") == 5


def test_living_nodes_and_their_memory_are_read_when_they_are_collected(fresh: Callable[..., Any]) -> None:
    recorded = fresh()
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        nodes = [runtime.load(cloche.Source(NODE), name=name) for name in ("a", "a", "b")]
        assert recorded.total("cloche.node.count", cloche__node__name="a") == 2
        linear = recorded.total("cloche.memory.linear", cloche__node__name="a")
        assert linear == nodes[0].stats.memory_bytes + nodes[1].stats.memory_bytes
        assert 0 < recorded.total("cloche.memory.private", cloche__node__name="b") < linear
        nodes[2].close()
        assert recorded.points("cloche.node.count", cloche__node__name="b") == []
    assert recorded.points("cloche.node.count") == []


def test_items_of_pools_are_counted_by_outcome(fresh: Callable[..., Any]) -> None:
    """Also those that no node is called for."""
    recorded = fresh()
    is_there, goes_on = threading.Event(), threading.Event()

    def ask() -> bool:
        is_there.set()
        return goes_on.wait(60)

    text = "from cloche_guest import services\ndef f(x):\n    if x == 'wait':\n        services.ask()\n    return 1 / x"
    options: Any = {"size": 1, "name": "p", "grants": cloche.Grants(services={"ask": ask})}
    with (
        cloche.Runtime(telemetry=recorded.telemetry, logger=Ignored(), limits=patient()) as runtime,
        runtime.pool(cloche.Source(text), **options) as pool,
    ):
        assert pool.submit(1).result() == 1
        failing = pool.submit("wait")
        assert is_there.wait(60)
        with pytest.raises(cloche.PoolTimeoutError):
            pool.with_options(acquire_timeout_s=0.01).submit(1).result()
        assert pool.submit(1).cancel()
        goes_on.set()
        with pytest.raises(cloche.NodeRaisedError):
            failing.result()
    points = recorded.points("cloche.pool.items", cloche__pool__name="p")
    found = {point.attributes["cloche.pool.item.outcome"]: point.value for point in points}
    assert found == {"done": 1, "failed": 1, "timed_out": 1, "cancelled": 1}
    assert recorded.total("cloche.pool.wait.duration", cloche__pool__name="p") == 2


def test_private_memory_can_be_left_out(fresh: Callable[..., Any]) -> None:
    """With thousands of nodes it takes seconds for each collection."""
    recorded = fresh(private_memory=False)
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE))
        assert node.process(1) == 1
        assert "cloche.memory.linear" in recorded.names()
        assert "cloche.memory.private" not in recorded.names()


def test_the_names_of_nodes_are_bounded(fresh: Callable[..., Any]) -> None:
    """Without ``name=`` a node is called what a stranger called its class. The rest have one label together."""
    recorded = fresh(node_names=3)
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        for number in range(6):
            with runtime.load(cloche.Source(f"def f{number}(x): return x")) as node:
                node.process(number)
    points = recorded.points("cloche.call.duration", cloche__call__op="process")
    assert {point.attributes["cloche.node.name"]: point.count for point in points} == {"f0": 1, "f1": 1, "_OTHER": 4}
    spans = [span for span in recorded.take() if span.name.startswith("process")]
    assert [span.name for span in spans] == ["process f0", "process f1", *["process _OTHER"] * 4]
    assert [span.attributes["cloche.node.name"] for span in spans] == [f"f{number}" for number in range(6)]


def test_a_node_cannot_make_series_by_its_errors(fresh: Callable[..., Any]) -> None:
    """Each error is of a class of its own."""
    recorded = fresh()
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE), name="f")
        for _ in range(30):
            with pytest.raises(cloche.NodeRaisedError):
                node.process("own")
    assert len(recorded.points("cloche.call.errors")) == 1
    assert len(recorded.points("cloche.call.duration")) == 2
    kinds = {span.events[0].attributes["exception.type"] for span in recorded.take() if span.events}
    assert len(kinds) == 30  # what it was is on the span


@pytest.mark.parametrize("number", [-1, 1.5, "3"])
def test_a_bound_is_a_whole_number(sdk: None, number: Any) -> None:
    from cloche.telemetry import Telemetry

    with pytest.raises((TypeError, ValueError), match="node_names"):
        Telemetry(node_names=number)
