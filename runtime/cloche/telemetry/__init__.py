"""OpenTelemetry for Cloche: spans and metrics of what nodes do, and log records that name their trace.

It needs ``pip install cloche[otel]``, which is OpenTelemetry's API alone. Your program chooses an SDK, and where the data go.

>>> import cloche
>>> from cloche.telemetry import Telemetry
>>> with cloche.Runtime(telemetry=Telemetry()) as runtime:
...     runtime.load(cloche.Source("def double(x): return 2 * x")).process(21)
42
"""

try:
    from cloche.telemetry._instrumentor import ClocheInstrumentor
    from cloche.telemetry._logs import TraceFilter, add_trace_context
    from cloche.telemetry._telemetry import Telemetry
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError("cloche.telemetry needs OpenTelemetry's API: pip install 'cloche[otel]'") from error

__all__ = ["ClocheInstrumentor", "Telemetry", "TraceFilter", "add_trace_context"]
