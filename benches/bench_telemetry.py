"""One call of a dict of five keys, with telemetry in its stages: what OpenTelemetry adds to a call.

Timed: `Node.process` in a runtime without telemetry ("off"); with OpenTelemetry's API alone, behind which is no SDK ("api"); with
spans of the SDK that a sampler drops ("unsampled") or a processor takes ("spans"); with the SDK's metrics ("metrics"); with both.
Not timed: loading, and exporting, which is done in the background. Natively: the function itself.
Levels: "off" costs what it cost without this (a ratio of 1.0); "api" <= 3 times that, both together <= 9 times, most of it in the SDK.
"""

from __future__ import annotations

from typing import Any

import pytest

import cloche

SOURCE = "def f(x):\n    return x\n"
VALUE = {"a": 1, "b": 2, "c": 3.0, "d": "x", "e": None}


def providers(stage: str) -> tuple[Any, Any]:
    """The providers of spans and of metrics of a stage."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
    from opentelemetry.trace import NoOpTracerProvider

    spans: Any = NoOpTracerProvider()
    if stage in ("spans", "both"):
        spans = TracerProvider()
        spans.add_span_processor(SpanProcessor())
    elif stage == "unsampled":
        spans = TracerProvider(sampler=ALWAYS_OFF)
    measures = stage in ("metrics", "both")
    return spans, MeterProvider([InMemoryMetricReader()]) if measures else NoOpMeterProvider()


@pytest.mark.parametrize("stage", ["native", "off", "api", "unsampled", "spans", "metrics", "both"])
def bench_call(benchmark: Any, stage: str) -> None:
    """One call of a node that returns its argument."""
    if stage == "native":
        assert benchmark(lambda x: x, VALUE) == VALUE
        return
    options: dict[str, Any] = {}
    if stage != "off":
        pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
        from cloche.telemetry import Telemetry

        spans, metrics = providers(stage)
        options["telemetry"] = Telemetry(tracer_provider=spans, meter_provider=metrics)
    with cloche.Runtime(**options) as runtime, runtime.load(cloche.Source(SOURCE)) as node:
        assert benchmark(node.process, VALUE) == VALUE
