"""`ClocheInstrumentor`: telemetry for every runtime of a program, as OpenTelemetry's instrumentors switch it on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cloche._runtime.tracing import Tracing
from cloche.telemetry._telemetry import Telemetry

__all__ = ["ClocheInstrumentor"]


class ClocheInstrumentor:
    """Gives a `Telemetry` to every runtime that is made from now on without one of its own.

    ``opentelemetry-instrument`` finds it by the entry point of the package, and calls `instrument`.
    """

    def instrument(self, **options: Any) -> None:
        """Switch it on.

        Args:
            **options: ``tracer_provider`` and ``meter_provider``, as for `Telemetry`; others, which are for other instrumentors,
                are ignored.
        """
        Tracing.default = Telemetry(
            tracer_provider=options.get("tracer_provider"), meter_provider=options.get("meter_provider")
        )

    def uninstrument(self, **_options: Any) -> None:
        """Switch it off, for runtimes that are made from now on."""
        Tracing.default = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on."""
        return Tracing.default is not None

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed besides: nothing."""
        return ()
