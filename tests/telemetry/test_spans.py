"""A span for each call: its name, its attributes, its status, and what is below it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloche
from tests.limits import patient

BOTH = pytest.mark.parametrize("isolation", ["none", "process"], indirect=True)
NODE = """
import os
from cloche_guest import services

class Worker:
    def process(self, x=None):
        match x:
            case "raise":
                raise ValueError("no \\x1b[31m red")
            case "exit":
                os._exit(3)
            case "long":
                while True:
                    pass
            case "stubborn":
                while True:
                    try:
                        while True:
                            pass
                    except BaseException:
                        pass
            case "service":
                return services.ask(x)
        return x
    def twice(self, x):
        return 2 * x
"""


def parent(span: Any) -> int | None:
    """The span id of a span's parent."""
    return None if span.parent is None else span.parent.span_id


@BOTH
def test_each_call_is_a_span_below_the_callers(
    recorded: Any, traced: Callable[..., cloche.Node], isolation: str
) -> None:
    node = traced(NODE, name="worker", session_id="tenant-1")
    load = recorded.only()
    assert load.name == "load worker" and load.parent is None
    with recorded.tracer.start_as_current_span("request"):
        node.process(1)
        node.process(x=2)
        node.call("twice", 3)
        node.clone(name="copy").close()
    *calls, request = recorded.take()
    assert [span.name for span in calls] == ["process worker", "process worker", "twice worker", "restore copy"]
    assert {parent(span) for span in calls} == {request.context.span_id}
    assert dict(calls[2].attributes) == {
        "cloche.isolation": isolation,
        "session.id": "tenant-1",
        "cloche.node.name": "worker",
        "cloche.node.entry": "Worker",
        "code.function.name": "Worker.twice",
        "cloche.call.op": "call",
        "cloche.call.number": 4,
        "cloche.call.sent_bytes": calls[2].attributes["cloche.call.sent_bytes"],
        "cloche.call.received_bytes": calls[2].attributes["cloche.call.received_bytes"],
    }
    assert calls[2].attributes["cloche.call.sent_bytes"] > 0
    assert all(span.status.status_code.name == "UNSET" for span in calls)
    assert calls[0].instrumentation_scope.name == "cloche"


@BOTH
def test_what_the_node_raises_is_an_event_of_its_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """With the node's own class, message and traceback; they are cleaned, as everywhere."""
    node = traced(NODE)
    recorded.take()
    with pytest.raises(cloche.NodeRaisedError):
        node.process("raise")
    span = recorded.only()
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "no \\x1b[31m red")
    assert span.attributes["error.type"] == "NodeRaisedError"
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.message"] == "no \\x1b[31m red"
    assert 'File "node.py", line 9, in process' in event.attributes["exception.stacktrace"]
    node.process(1)
    assert recorded.only().status.status_code.name == "UNSET"


@BOTH
@pytest.mark.parametrize(
    ("value", "grace_s", "error", "hardness"),
    [("long", 60.0, "DeadlineError", "soft"), ("stubborn", 0.05, "HardDeadlineError", "hard")],
)
def test_a_deadline_says_which_limit_it_was(
    recorded: Any,
    traced: Callable[..., cloche.Node],
    isolation: str,
    value: str,
    grace_s: float,
    error: str,
    hardness: str,
) -> None:
    node = traced(NODE, name=f"{value}-{isolation}", limits=patient(deadline_s=0.05, grace_s=grace_s))
    recorded.take()
    with pytest.raises(cloche.DeadlineError):
        node.process(value)
    span = recorded.only()
    assert span.attributes["error.type"] == error
    assert span.attributes["cloche.limit.name"] == "deadline_s"
    assert span.attributes["cloche.limit.value"] == 0.05
    assert span.attributes["cloche.limit.reached"] >= 0.05
    assert "process" in span.events[0].attributes["exception.stacktrace"]
    labels = {"cloche__node__name": node.name}
    assert recorded.total("cloche.call.deadlines", **labels, cloche__deadline__kind=hardness) == 1
    assert recorded.total("cloche.call.deadlines", **labels) == 1


@BOTH
def test_a_break_ends_its_span_and_the_new_sandbox_has_the_next(
    recorded: Any, traced: Callable[..., cloche.Node], isolation: str
) -> None:
    node = traced(NODE, name=f"breaks-{isolation}", on_break="restart")
    recorded.take()
    with pytest.raises(cloche.GuestExitError):
        node.process("exit")
    node.process(1)
    spans = recorded.take()
    assert [span.name.split()[0] for span in spans] == ["process", "restore", "process"]
    assert spans[0].attributes["error.type"] == "GuestExitError"
    labels = {"cloche__node__name": node.name}
    assert recorded.total("cloche.node.breaks", **labels, cloche__recovered="restart") == 1
    assert recorded.total("cloche.node.restores", **labels) == 1


@BOTH
def test_a_load_that_fails_is_a_failed_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    with pytest.raises(cloche.NodeLoadError):
        traced("1 / 0", name="broken")
    span = recorded.only()
    assert (span.name, span.attributes["error.type"]) == ("load broken", "NodeLoadError")
    assert span.events[0].attributes["exception.type"] == "ZeroDivisionError"


def test_a_value_that_cannot_be_sent_is_a_failed_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(NODE)
    recorded.take()
    with pytest.raises(cloche.EncodeError):
        node.process(object())
    span = recorded.only()
    assert span.attributes["error.type"] == "EncodeError"
    assert [event.name for event in span.events] == ["exception"]


def test_what_a_closed_node_refuses_is_no_call(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(NODE)
    node.close()
    recorded.take()
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    assert recorded.take() == []


def test_a_budget_that_is_used_up_is_a_failed_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    budget = cloche.Budget(calls_per_s=1.0, burst=2, clock=lambda: 0.0)
    node = traced(NODE, budget=budget)
    node.process(1)
    recorded.take()
    with pytest.raises(cloche.BudgetError):
        node.process(1)
    span = recorded.only()
    assert (span.attributes["error.type"], span.attributes["cloche.limit.name"]) == ("BudgetError", "calls_per_s")


@BOTH
@pytest.mark.parametrize("kind", ["plain", "with a deadline", "async"])
def test_spans_of_a_service_are_below_the_call(recorded: Any, traced: Callable[..., cloche.Node], kind: str) -> None:
    """Whichever thread or event loop it runs on."""

    def ask(x: object) -> object:
        with recorded.tracer.start_as_current_span("service"):
            return x

    async def aask(x: object) -> object:
        await asyncio.sleep(0)
        return ask(x)

    service = {"plain": ask, "with a deadline": cloche.Service(ask, deadline_s=60.0), "async": aask}[kind]
    node = traced(NODE, grants=cloche.Grants(services={"ask": service}))
    recorded.take()
    assert node.process("service") == "service"
    inner, call = recorded.take()
    assert (inner.name, parent(inner)) == ("service", call.context.span_id)
    assert asyncio.run(node.aprocess("service")) == "service"
    inner, call = recorded.take()
    assert (inner.name, parent(inner)) == ("service", call.context.span_id)


def test_a_node_that_a_service_calls_is_below_that_service(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    inner = traced("def f(x): return x", name="inner")
    outer = traced(NODE, name="outer", grants=cloche.Grants(services={"ask": inner.process}))
    recorded.take()
    outer.process("service")
    first, second = recorded.take()
    assert (first.name, second.name) == ("process inner", "process outer")
    assert parent(first) == second.context.span_id


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaited_calls_are_below_the_span_of_their_task(
    recorded: Any, traced: Callable[..., cloche.Node], backend: str
) -> None:
    """Each in that of its own task, though they run at the same time on threads that are used again."""
    import anyio
    from opentelemetry.trace import get_current_span

    nodes = [traced(NODE, name=f"n{number}") for number in range(3)]
    recorded.take()

    async def one(node: cloche.Node) -> None:
        for _ in range(3):
            with recorded.tracer.start_as_current_span(f"task {node.name}") as span:
                await node.aprocess(1)
                assert get_current_span() is span

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(one, node)

    anyio.run(main, backend=backend)
    spans = recorded.take()
    tasks = {span.context.span_id: span.name for span in spans if span.name.startswith("task")}
    calls = [span for span in spans if span.name.startswith("process")]
    assert len(calls) == 9
    assert all(tasks[span.parent.span_id] == f"task {span.attributes['cloche.node.name']}" for span in calls)


def test_items_of_a_pool_are_below_the_span_of_their_submitter(recorded: Any, recordings: Any) -> None:
    with recordings("none")[1].pool(cloche.Source("def f(x): return x"), size=2, name="pooled") as pool:
        recorded.take()
        with recorded.tracer.start_as_current_span("request") as request:
            assert list(pool.map(range(5))) == list(range(5))
            assert pool.call("process", 1) == 1
        spans = [span for span in recorded.take() if span.name == "process pooled"]
        assert {parent(span) for span in spans} == {request.get_span_context().span_id}
        assert len(spans) == 6
        labels = {"cloche__pool__name": "pooled"}
        assert recorded.total("cloche.pool.size", **labels) == 2
        assert recorded.total("cloche.pool.queue.length", **labels) == 0
    assert recorded.points("cloche.pool.size", cloche__pool__name="pooled") == []


def test_the_context_of_the_caller_is_as_it_was(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """After calls that return, that fail, that break, and that a signal's handler ends."""
    from opentelemetry.context import get_current

    node = traced(NODE, on_break="restart", grants=cloche.Grants(services={"ask": interrupt}))
    before = get_current()
    node.process(1)
    for value, error in (
        ("raise", cloche.NodeRaisedError), ("exit", cloche.GuestExitError), ("service", KeyboardInterrupt),
    ):  # fmt: skip
        with pytest.raises(error):
            node.process(value)
        assert get_current() == before
    assert node.process(2) == 2
    assert [span.attributes.get("error.type") for span in recorded.take() if span.name.startswith("process")] == [
        None, "NodeRaisedError", "GuestExitError", "KeyboardInterrupt", None,
    ]  # fmt: skip


def interrupt(_: object) -> None:
    """What a signal's handler may do while a service runs."""
    raise KeyboardInterrupt


def test_threads_do_not_see_each_others_spans(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """Two nodes that are called at the same time, each from a service of the other's."""
    ready = threading.Barrier(2, timeout=60)

    def ask(x: object) -> object:
        ready.wait()
        with recorded.tracer.start_as_current_span("service"):
            return x

    grants = cloche.Grants(services={"ask": ask})
    nodes = [traced(NODE, name=name, grants=grants) for name in ("one", "two")]
    recorded.take()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda node: node.process("service"), nodes)) == ["service", "service"]
    spans = recorded.take()
    calls = {span.context.span_id for span in spans if span.name.startswith("process")}
    assert {parent(span) for span in spans if span.name == "service"} == calls
    assert all(parent(span) is None for span in spans if span.context.span_id in calls)


def test_a_failing_span_names_its_recording(recorded: Any, traced: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """Of a call that raises, that breaks the node, and of a load."""
    node = traced(NODE, record=tmp_path, on_break="restart")
    recorded.take()
    errors = []
    for value in ("raise", "exit"):
        with pytest.raises(cloche.ClocheError) as caught:
            node.process(value)
        errors.append(caught.value)
    with pytest.raises(cloche.NodeLoadError) as failed:
        traced("1 / 0", record=tmp_path)
    errors.append(failed.value)
    named = [span.attributes["cloche.recording"] for span in recorded.take() if span.status.status_code.name == "ERROR"]
    assert named == [error.recording for error in errors]
    assert all(Path(name).is_file() for name in named)


def test_a_recordings_path_is_cleaned(sdk: None) -> None:
    from cloche.telemetry._names import limit_attributes

    error = cloche.ClocheError("no")
    assert limit_attributes(error) == {}
    error.recording = "/var/recordings/call\x1b.cloche"
    assert limit_attributes(error) == {"cloche.recording": "/var/recordings/call\\x1b.cloche"}
