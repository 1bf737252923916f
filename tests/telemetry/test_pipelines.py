"""A run of a pipeline is a span, and so is each batch of each node, wherever the node runs."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloche
from cloche.pipeline import DeadLetter, NodeSpec, Pipeline, PipelineError
from tests.limits import patient
from tests.telemetry.recorded import Ignored

ADD = cloche.Source("""
from cloche_guest import services

def add(x):
    if x == 13:
        raise ValueError("unlucky")
    if x == 100:
        services.ask(x)
    return x + 1
""")


def add(x: int) -> int:
    if x == 13:
        raise ValueError("unlucky")
    return x + 1


def made(recorded: Any, nodes: list[NodeSpec], **options: Any) -> Pipeline:
    return Pipeline(nodes, telemetry=recorded.telemetry, logger=Ignored(), **options)


def spec(name: str, placement: Any = "native", **options: Any) -> NodeSpec:
    """A node that adds one, in that place."""
    source: Any = ADD if placement in ("wasm", "process") else add
    return NodeSpec(source, id=name, placement=placement, limits=patient() if placement == "wasm" else None, **options)


@pytest.fixture
def runs(fresh: Callable[..., Any]) -> Any:
    return fresh()


def batches(spans: list[Any], node: str) -> list[Any]:
    return [span for span in spans if span.name == f"batch {node}"]


@pytest.mark.parametrize("placement", ["native", "inline", "process", "wasm"])
def test_a_run_and_its_batches_are_spans(runs: Any, placement: Any) -> None:
    with (
        made(runs, [spec("first"), spec("second", placement, batch=4)], name="line") as pipeline,
        runs.tracer.start_as_current_span("request") as request,
    ):
        assert list(pipeline.run(range(10), session_id="s")) == list(range(2, 12))
    spans = runs.take()
    (run,) = [span for span in spans if span.name == "pipeline line"]
    assert run.parent.span_id == request.get_span_context().span_id
    assert run.status.status_code.name == "UNSET"
    assert dict(run.attributes) == {"cloche.pipeline.name": "line", "session.id": "s"}
    of_second = batches(spans, "second")
    assert {span.parent.span_id for span in of_second} == {run.context.span_id}
    assert sum(span.attributes["cloche.pipeline.batch.items"] for span in of_second) == 10
    assert of_second[0].attributes["cloche.pipeline.place"] == placement
    assert of_second[0].attributes["cloche.pipeline.item.first"] == 0
    assert of_second[-1].attributes["cloche.pipeline.end_of_input"] is True
    labels = {"cloche__pipeline__name": "line", "cloche__node__name": "second"}
    assert runs.total("cloche.pipeline.items", **labels, cloche__pipeline__item__outcome="done") == 10
    assert runs.total("cloche.pipeline.batch.duration", **labels) == len(of_second)


def test_the_services_of_a_node_are_below_its_batch(runs: Any) -> None:
    def ask(_: object) -> None:
        with runs.tracer.start_as_current_span("service"):
            pass

    node = spec("node", "wasm", grants=cloche.Grants(services={"ask": ask}))
    with made(runs, [node]) as pipeline:
        assert list(pipeline.run([1, 100])) == [2, 101]
    spans = runs.take()
    (service,) = [span for span in spans if span.name == "service"]
    assert service.parent.span_id in {span.context.span_id for span in batches(spans, "node")}


@pytest.mark.parametrize("placement", ["native", "wasm"])
def test_an_item_that_fails_is_an_event_of_its_batch(runs: Any, placement: Any) -> None:
    letters: list[Any] = []
    with made(runs, [spec("node", placement, on_error=DeadLetter(), batch=8)], name="line") as pipeline:
        assert list(pipeline.run([12, 13, 14], dead_letters=letters.append)) == [13, 15]
    failed = [span for span in batches(runs.take(), "node") if span.status.status_code.name == "ERROR"]
    events = [event for span in failed for event in span.events if event.name == "exception"]
    assert [event.attributes["cloche.pipeline.item.number"] for event in events] == [1]
    assert events[0].attributes["exception.type"] == "ValueError"
    labels = {"cloche__pipeline__name": "line", "cloche__node__name": "node"}
    assert runs.total("cloche.pipeline.items", **labels, cloche__pipeline__item__outcome="failed") == 1
    assert runs.total("cloche.pipeline.items", **labels, cloche__pipeline__item__outcome="done") == 2


def test_a_run_that_goes_on_from_a_checkpoint_measures_its_nodes_by_name(runs: Any) -> None:
    """Their sandboxes get batches at once, and no call before."""
    checkpoints: list[Any] = []
    with made(runs, [spec("node", "wasm")]) as pipeline:
        outputs = pipeline.run(range(4), checkpoint_every=2, on_checkpoint=checkpoints.append)
        assert list(outputs) == [1, 2, 3, 4]
        assert list(pipeline.resume(checkpoints[0], [2, 3])) == [3, 4]
    points = runs.points("cloche.call.duration", cloche__call__op="stream_batch")
    assert {point.attributes["cloche.node.name"] for point in points} == {"node"}


def test_a_run_that_fails_is_a_failed_span(runs: Any) -> None:
    with made(runs, [spec("node")], name="line") as pipeline, pytest.raises(PipelineError):
        list(pipeline.run([13]))
    (run,) = [span for span in runs.take() if span.name == "pipeline line"]
    assert run.attributes["error.type"] == "PipelineError"


def test_a_run_that_is_left_early_ends_its_span(runs: Any) -> None:
    with made(runs, [spec("node")], name="line") as pipeline:
        outputs = pipeline.run(iter(range(1000)))
        assert next(outputs) == 1
        outputs.close()  # type: ignore[attr-defined]  # a generator
        spans = runs.take()
        (run,) = [span for span in spans if span.name == "pipeline line"]
        assert run.status.status_code.name == "UNSET"
    assert [span for span in runs.take() if span.name.startswith("pipeline")] == []


def test_a_run_that_never_began_ends_its_span(runs: Any) -> None:
    """An interrupt has come before the run was there; the span is ended by whatever is traced next."""
    trace = runs.telemetry.follow_run("line", None)
    del trace
    gc.collect()
    assert runs.take() == []
    with made(runs, [spec("node")], name="other") as pipeline:
        assert list(pipeline.run([1])) == [2]
    assert [span.name for span in runs.take() if span.name.startswith("pipeline")] == [
        "pipeline line",
        "pipeline other",
    ]


def test_a_batch_is_linked_to_the_spans_of_its_items(runs: Any) -> None:
    """Items that a consumer has received in spans of their own, such as those of a queue of messages."""
    origins = []

    def items() -> Iterator[int]:
        for number in range(5):
            with runs.tracer.start_as_current_span(f"receive {number}") as span:
                origins.append(span.get_span_context().span_id)
                yield number

    with made(runs, [spec("node")], name="line") as pipeline:
        assert list(pipeline.run(items())) == [1, 2, 3, 4, 5]
    linked = [link.context.span_id for span in batches(runs.take(), "node") for link in span.links]
    assert linked == origins


def test_the_items_that_wait_are_a_metric(runs: Any) -> None:
    """The node waits in its first item, while four more are taken ahead."""
    waits, goes_on = threading.Event(), threading.Event()

    def slow(x: int) -> int:
        waits.set()
        assert goes_on.wait(60)
        return x

    taken = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(5):
            yield number
            taken.release()

    with made(runs, [NodeSpec(slow, id="slow", placement="native", queue=8)], name="line") as pipeline:
        outputs = pipeline.run(items())
        first = threading.Thread(target=lambda: next(outputs))
        first.start()
        assert waits.wait(60)
        for _ in range(5):
            assert taken.acquire(timeout=60)
        waiting = runs.total("cloche.pipeline.queue.length", cloche__pipeline__name="line", cloche__node__name="slow")
        goes_on.set()
        first.join()
        list(outputs)
    assert waiting in (4, 5)  # the item under way may or may not have left the queue


def test_an_awaited_run_is_below_the_span_of_its_task(runs: Any) -> None:
    async def main(pipeline: Pipeline) -> int:
        with runs.tracer.start_as_current_span("task") as task:
            assert [output async for output in pipeline.arun(range(3))] == [1, 2, 3]
            return task.get_span_context().span_id

    with made(runs, [spec("node")], name="line") as pipeline:
        task = asyncio.run(main(pipeline))
    (run,) = [span for span in runs.take() if span.name == "pipeline line"]
    assert run.parent.span_id == task


def test_a_pipeline_has_the_telemetry_of_its_runtime(runs: Any) -> None:
    with cloche.Runtime(telemetry=runs.telemetry, limits=patient()) as runtime:
        with pytest.raises(ValueError, match="give them to the runtime"):
            Pipeline([spec("node")], runtime=runtime, telemetry=runs.telemetry)
        with Pipeline([spec("node")], runtime=runtime, name="line") as pipeline:
            assert list(pipeline.run([1])) == [2]
    assert "pipeline line" in {span.name for span in runs.take()}


def test_what_is_no_telemetry_is_refused() -> None:
    with pytest.raises(TypeError, match=r"telemetry is 'x': give a cloche\.telemetry\.Telemetry, or None"):
        Pipeline([spec("node")], telemetry="x")  # type: ignore[arg-type]  # a mistake
