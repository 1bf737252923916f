"""Runtimes with telemetry, whose spans and metrics end in the SDK's in-memory exporters. Without the SDK these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

import cloche
from cloche.isolation import Isolation
from tests.limits import patient


class Recorded:
    """A real SDK, and what it has been given.

    Attributes:
        telemetry: writes to it.
        tracer: makes spans of the tests' own.
        spans: a `TracerProvider`.
        metrics: a `MeterProvider`.
    """

    def __init__(self, **options: Any) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from cloche.telemetry import Telemetry

        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.spans = TracerProvider()
        self.spans.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.metrics = MeterProvider([self._reader])
        self.tracer = self.spans.get_tracer("tests")
        self.telemetry = Telemetry(tracer_provider=self.spans, meter_provider=self.metrics, **options)

    def take(self) -> list[Any]:
        """The spans that have ended so far, in the order of their ends; forgets them."""
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        assert len({span.context.span_id for span in spans}) == len(spans)  # none has ended twice
        return list(spans)

    def only(self) -> Any:
        """The one span that has ended."""
        (span,) = self.take()
        return span

    def points(self, name: str, **labels: str) -> list[Any]:
        """The points of a metric that have these labels, which are written with ``__`` for a dot."""
        wanted = {key.replace("__", "."): value for key, value in labels.items()}
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if wanted.items() <= dict(point.attributes).items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter's points that have these labels; of a histogram, how many values it has."""
        return sum(point.value if hasattr(point, "value") else point.count for point in self.points(name, **labels))

    def names(self) -> set[str]:
        """The metrics that have a point."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name for scope in scopes for metric in scope.metrics}


@pytest.fixture(scope="session")
def sdk() -> None:
    """Skips the test where OpenTelemetry's SDK is not installed; scripts/setup installs it."""
    pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")


@pytest.fixture(scope="session")
def recordings(sdk: None) -> Iterator[Callable[[Isolation], tuple[Recorded, cloche.Runtime]]]:
    """A runtime for each isolation, made when the first test asks for it."""
    with ExitStack() as stack:

        @cache
        def made(isolation: Isolation) -> tuple[Recorded, cloche.Runtime]:
            recorded = Recorded()
            runtime = cloche.Runtime(
                isolation=isolation,
                workers=1 if isolation == "process" else None,
                limits=patient(),
                telemetry=recorded.telemetry,
                logger=Ignored(),
            )
            return recorded, stack.enter_context(runtime)

        yield made


class Ignored:
    """A logger that keeps nothing."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, **fields: None


@pytest.fixture
def recorded(recordings: Callable[[Isolation], tuple[Recorded, cloche.Runtime]], isolation: Isolation) -> Recorded:
    """What the nodes of `traced` record, from now on."""
    found = recordings(isolation)[0]
    found.take()
    return found


@pytest.fixture
def traced(
    recordings: Callable[[Isolation], tuple[Recorded, cloche.Runtime]], isolation: Isolation
) -> Iterator[Callable[..., cloche.Node]]:
    """Load a node into a runtime with telemetry; closed at the end of the test."""
    runtime = recordings(isolation)[1]
    nodes: list[cloche.Node] = []

    def load(text: str, **options: Any) -> cloche.Node:
        nodes.append(runtime.load(cloche.Source(text, "node.py"), **options))
        return nodes[-1]

    yield load
    for node in nodes:
        node.close()


@pytest.fixture
def fresh(sdk: None) -> Callable[..., Recorded]:
    """Make a `Recorded` of the test's own; its arguments are those of `Telemetry`."""
    return Recorded
