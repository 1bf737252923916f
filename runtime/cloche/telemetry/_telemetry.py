"""`Telemetry`: what a program passes to its runtimes. Makes the traces of sandboxes and of runs of pipelines."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final, ParamSpec, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, TracerProvider

from cloche._arguments import checked_count
from cloche._runtime.tracing import PoolLike, RunLike, RuntimeLike, Tracing
from cloche.telemetry._calls import CallTrace
from cloche.telemetry._instruments import Instruments
from cloche.telemetry._names import Labels
from cloche.telemetry._pools import PoolItemsTrace
from cloche.telemetry._runs import PipelineTrace

__all__ = ["Telemetry"]

P = ParamSpec("P")
T = TypeVar("T")
_NAME: Final = "cloche"
"""The instrumentation scope, which is called as the package is."""


class Telemetry(Tracing):
    """OpenTelemetry's spans and metrics of what runtimes do: ``cloche.Runtime(telemetry=Telemetry())``.

    One may serve any number of runtimes and pipelines. The names of spans, attributes and metrics are in docs/how-to/telemetry.md.

    Nothing here fails a call: an exception of a span processor, an exporter or an instrument is reported once, as a
    RuntimeWarning. What blocks does hold up the calls that wait for it, so export in the background
    (``BatchSpanProcessor``).

    Args:
        tracer_provider: makes the spans; None: the program's global one.
        meter_provider: makes the metrics; None: the program's global one.
        node_names: so many names of nodes have labels of their own in metrics and in names of spans; further ones are "_OTHER".
            Without ``name=``, a node is called what its author calls its class, and each name is a time series that stays.
        private_memory: whether ``cloche.memory.private`` is collected, which takes up to a millisecond for each living node.

    Raises:
        TypeError: `node_names` is not a whole number.
        ValueError: it is negative.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        node_names: int = 500,
        private_memory: bool = True,
    ) -> None:
        self.nodes = Labels(checked_count("node_names", node_names, 0))
        self.pipelines = Labels(node_names)
        self.tracer = trace.get_tracer(_NAME, version(_NAME), tracer_provider)
        meter = metrics.get_meter(_NAME, version(_NAME), meter_provider)
        self.instruments = Instruments(meter, self.nodes, self.pipelines, private_memory=private_memory)
        self._late: deque[Span] = deque()
        self._has_failed = False

    def guarded(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> T | None:
        """Call a function of OpenTelemetry's, behind which is the program's own code. An exception of it is reported once."""
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                with suppress(Exception):  # a warning that is an error
                    warnings.warn(
                        f"telemetry raised {type(error).__name__}: {error}; no call was affected. More are not reported",
                        RuntimeWarning,
                        stacklevel=2,
                        source=error,
                    )
            return None

    def end_later(self, span: Span) -> None:
        """End a span soon. The garbage collector comes in the midst of anything, and may have interrupted a span processor."""
        self._late.append(span)

    def end_late(self) -> None:
        """End the spans that `end_later` was given."""
        while self._late:
            try:
                span = self._late.popleft()
            except IndexError:  # another thread was first
                return
            self.guarded(span.end)

    def follow_runtime(self, runtime: RuntimeLike) -> None:
        """See `Tracing`."""
        self.instruments.add_runtime(runtime)

    def follow_pool(self, name: str, pool: PoolLike) -> PoolItemsTrace:
        """See `Tracing`."""
        return PoolItemsTrace(self, self.instruments.add_pool(name, pool))

    def follow_sandbox(self, *, session_id: str | None, isolation: str, info: Mapping[str, Any] | None) -> CallTrace:
        """See `Tracing`."""
        return CallTrace(self, session_id=session_id, isolation=isolation, info=info)

    def follow_run(self, pipeline: str, session_id: str | None) -> PipelineTrace:
        """See `Tracing`."""
        return PipelineTrace(self, pipeline, session_id)

    def follow_queues(self, pipeline: str, run: RunLike) -> None:
        """See `Tracing`."""
        self.instruments.add_run(pipeline, run)
