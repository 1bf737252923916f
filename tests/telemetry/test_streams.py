"""A stream is one span, however it ends, and whichever thread makes its steps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloche
from tests.limits import patient

DOUBLE = """
import os
from cloche_guest import services

def double(item):
    if item == "raise":
        raise ValueError("no")
    if item == "exit":
        os._exit(1)
    if item == "service":
        item = services.ask(1)
    yield 2 * item
"""


def counts(span: Any) -> tuple[int, int]:
    """Inputs and outputs of a stream, from its span."""
    return span.attributes["cloche.stream.inputs"], span.attributes["cloche.stream.outputs"]


def test_a_stream_is_one_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(DOUBLE, name="d")
    recorded.take()
    with recorded.tracer.start_as_current_span("request"):
        assert list(node.stream([1, 2, 3])) == [2, 4, 6]
    stream, request = recorded.take()
    assert stream.name == "stream d"
    assert stream.parent.span_id == request.context.span_id
    assert counts(stream) == (3, 3)
    assert stream.attributes["cloche.stream.steps"] == len(stream.events) == 8
    assert [event.name for event in stream.events][:3] == ["stream_open", "stream_feed", "stream_next"]
    assert stream.attributes["code.function.name"] == "double"


def test_a_long_stream_has_a_bounded_number_of_events(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(DOUBLE)
    recorded.take()
    assert len(list(node.stream(range(200)))) == 200
    stream = recorded.only()
    assert len(stream.events) == 100
    assert stream.dropped_events == 0
    assert counts(stream) == (200, 200)


def test_the_callers_span_is_current_between_the_steps(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """And in the items, if they come from a generator: a stream's span is current in the guest's time alone."""
    from opentelemetry.trace import get_current_span

    seen = set()

    def items() -> Iterator[int]:
        for number in range(3):
            seen.add(get_current_span())
            yield number

    with recorded.tracer.start_as_current_span("request") as request:
        for _ in traced(DOUBLE).stream(items()):
            seen.add(get_current_span())
    assert seen == {request}


def test_two_streams_that_take_turns_keep_apart(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """One generator goes on inside the span of another caller: each span has the parent that it was opened in."""

    def ask(_: object) -> int:
        with recorded.tracer.start_as_current_span("service"):
            return 1

    grants = cloche.Grants(services={"ask": ask})
    nodes = [traced(DOUBLE, name=name, grants=grants) for name in ("a", "b")]
    recorded.take()
    streams = []
    for node in nodes:
        with recorded.tracer.start_as_current_span(f"opens {node.name}"):
            streams.append(node.stream(["service", "service"]))
            next(streams[-1])
    with recorded.tracer.start_as_current_span("other"):
        for stream in streams:
            assert list(stream) == [2]
    every = recorded.take()
    spans = {span.name: span for span in every}
    for name in ("a", "b"):
        own = spans[f"stream {name}"]
        assert own.parent.span_id == spans[f"opens {name}"].context.span_id
        assert sum(span.parent == own.context for span in every if span.name == "service") == 2


def test_a_stream_that_is_left_early_ends(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(DOUBLE)
    recorded.take()
    stream = node.stream(range(10))
    assert next(stream) == 0
    assert recorded.take() == []
    stream.close()
    assert counts(recorded.only()) == (1, 1)


def test_a_stream_that_nobody_ends_does_so_with_its_node(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(DOUBLE)
    recorded.take()
    stream = node.stream(range(10))
    next(stream)
    node.close()
    assert counts(recorded.only()) == (1, 1)
    stream.close()
    assert recorded.take() == []


@pytest.mark.parametrize(
    ("item", "kind"), [("raise", "NodeRaisedError"), ("exit", "GuestExitError"), (object(), "EncodeError")]
)
@pytest.mark.parametrize("isolation", ["none", "process"], indirect=True)
def test_a_stream_that_fails_says_why(
    recorded: Any, traced: Callable[..., cloche.Node], item: object, kind: str
) -> None:
    node = traced(DOUBLE, on_break="restart")
    recorded.take()
    with pytest.raises(cloche.ClocheError):
        list(node.stream([1, item, 2]))
    streams = [span for span in recorded.take() if span.name.startswith("stream")]
    assert len(streams) == 1
    assert streams[0].attributes["error.type"] == kind
    assert streams[0].status.status_code.name == "ERROR"
    assert counts(streams[0]) == (2, 1)
    assert list(node.stream([1])) == [2]
    assert recorded.only().status.status_code.name == "UNSET"


def test_a_limit_of_a_stream_is_on_its_span(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """It is found between two steps, where no call fails."""
    node = traced(DOUBLE, limits=patient(stream_items=2), on_break="restart")
    recorded.take()
    with pytest.raises(cloche.StreamLimitError):
        list(node.stream(range(10)))
    stream = recorded.only()
    assert stream.attributes["error.type"] == "StreamLimitError"
    assert stream.attributes["cloche.limit.name"] == "stream_items"


def test_an_error_of_the_callers_items_ends_the_span_of_the_stream(
    recorded: Any, traced: Callable[..., cloche.Node]
) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("mine")

    node = traced(DOUBLE)
    recorded.take()
    with pytest.raises(LookupError):
        list(node.stream(items()))
    assert counts(recorded.only()) == (1, 1)


def test_an_output_that_is_refused_ends_the_stream_once(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """The host closes the stream then, inside of the very step."""
    node = traced("def f(item):\n    yield [0] * 1000", limits=patient(value_nodes=500))
    recorded.take()
    with pytest.raises(cloche.NodeRaisedError):
        list(node.stream([1, 2]))
    assert recorded.only().attributes["error.type"] == "NodeRaisedError"


def test_a_restored_stream_goes_on_in_a_span_of_its_own(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    node = traced(DOUBLE, name="d")
    stream = node.stream(range(10))
    next(stream)
    clone = node.clone(name="c")
    stream.close()
    recorded.take()
    with clone:
        assert list(clone.resume([5])) == [10]
    spans = recorded.take()
    assert [span.name for span in spans] == ["stream c"]
    assert counts(spans[0]) == (1, 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaited_stream_is_one_span(recorded: Any, traced: Callable[..., cloche.Node], backend: str) -> None:
    """Its steps run on threads of the event loop's, in turn with those of another one."""
    import anyio

    nodes = [traced(DOUBLE, name=name) for name in ("a", "b")]
    recorded.take()

    async def one(node: cloche.Node) -> None:
        with recorded.tracer.start_as_current_span(f"task {node.name}"):
            assert [output async for output in node.astream(range(4))] == [0, 2, 4, 6]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(one, node)

    anyio.run(main, backend=backend)
    spans = {span.name: span for span in recorded.take()}
    for name in ("a", "b"):
        assert spans[f"stream {name}"].parent.span_id == spans[f"task {name}"].context.span_id
        assert counts(spans[f"stream {name}"]) == (4, 4)


def test_a_cancelled_task_ends_the_span_of_its_stream(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    began = threading.Event()

    def ask(_: object) -> int:
        began.set()
        return 1

    text = "from cloche_guest import services\ndef f(item):\n    services.ask(1)\n    while True:\n        pass\n    yield 1"
    node = traced(text, grants=cloche.Grants(services={"ask": ask}))
    recorded.take()

    async def take() -> None:
        async with contextlib.aclosing(node.astream([1])) as stream:  # type: ignore[type-var]  # a generator
            async for _ in stream:
                pass

    async def main() -> None:
        task = asyncio.create_task(take())
        await asyncio.to_thread(began.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert recorded.only().attributes["error.type"] == "CallInterruptedError"


def test_a_stream_of_a_node_that_is_collected_ends_later(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """The collector may come while a span processor holds its lock: the span is ended by the next call."""
    node = traced(DOUBLE)
    lonely = node.clone(name="lonely")
    recorded.take()
    stream = lonely.stream(range(10))
    next(stream)
    circle = [lonely, stream]
    circle.append(circle)  # only the collector finds it
    del lonely, stream, circle
    gc.collect()
    node.process(1)
    assert "stream lonely" in [span.name for span in recorded.take()]
