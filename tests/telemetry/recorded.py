"""`Recorded`: a real SDK with in-memory exporters; `Ignored`: a logger that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Ignored", "Recorded"]


class Ignored:
    """A logger that keeps nothing."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, **fields: None


class Recorded:
    """A real SDK, and what it has been given.

    Args:
        readers: other readers of its metrics.
        options: of its `Telemetry`.

    Attributes:
        telemetry: writes to it.
        tracer: makes spans of the tests' own.
        spans: a `TracerProvider`.
        metrics: a `MeterProvider`.
    """

    def __init__(self, *readers: Any, **options: Any) -> None:
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
        self.metrics = MeterProvider([self._reader, *readers])
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
