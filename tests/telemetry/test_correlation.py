"""A node's log records name the span of the call that they were made in, through `logging` and through structlog."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import structlog

import cloche
from tests.limits import patient

NODE = cloche.Source("""
import logging
from cloche_guest import services

def f(x):
    logging.warning("hello %s", x, extra={"trace_id": "forged", "span_id": "forged"})
    services.ask()
    print("printed")
    return x
""")


@pytest.fixture
def logger(sdk: None) -> tuple[logging.Logger, list[logging.LogRecord]]:
    """A logger of the standard library, and the records that it has been given."""
    from cloche.telemetry import TraceFilter

    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    made = logging.Logger("nodes")  # noqa: LOG001  # one that nobody else has
    made.addHandler(Keeping())
    made.addFilter(TraceFilter())
    return made, records


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_records_of_logging_name_their_span(sdk: None, fresh: Callable[..., Any], logger: Any, isolation: Any) -> None:
    """So do those of a service that the node calls, and so does the first of several lines."""
    recorded = fresh()
    made, records = logger
    grants = cloche.Grants(services={"ask": lambda: made.warning("in a service")})
    with cloche.Runtime(telemetry=recorded.telemetry, logger=made, isolation=isolation, limits=patient()) as runtime:
        runtime.load(NODE, grants=grants).process(1)
    made.warning("outside")
    call = recorded.take()[-1]
    ids = f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}"
    found = {record.getMessage(): (record.trace_id, record.span_id) for record in records if record.levelno > 10}
    assert found == {"hello 1": ids, "in a service": ids, "printed": ids, "outside": ("", "")}


def test_records_of_structlog_name_their_span(fresh: Callable[..., Any]) -> None:
    from cloche.telemetry import add_trace_context

    recorded = fresh()
    entries = structlog.testing.LogCapture()
    made = structlog.wrap_logger(None, processors=[add_trace_context, entries], wrapper_class=structlog.BoundLogger)
    grants = cloche.Grants(services={"ask": lambda: None})
    with cloche.Runtime(telemetry=recorded.telemetry, logger=made, limits=patient()) as runtime:
        node = runtime.load(NODE, grants=grants)
        node.process(1)
    made.info("outside")
    call = recorded.take()[-1]
    hello = next(entry for entry in entries.entries if entry["event"] == "hello 1")
    assert hello["trace_id"] == f"{call.context.trace_id:032x}"
    assert hello["span_id"] == f"{call.context.span_id:016x}"
    assert int(hello["trace_flags"], 16) & 1  # sampled
    assert hello["guest"] == {"trace_id": "forged", "span_id": "forged"}
    assert "trace_id" not in entries.entries[-1]


def test_records_of_a_call_that_fails_name_its_span(fresh: Callable[..., Any], logger: Any) -> None:
    """Also those that were still in the sandbox when it broke."""
    recorded = fresh()
    made, records = logger
    source = cloche.Source("import logging, os\ndef f(x):\n    logging.warning('before')\n    os._exit(1)")
    with cloche.Runtime(telemetry=recorded.telemetry, logger=made, limits=patient()) as runtime:
        node = runtime.load(source)
        with pytest.raises(cloche.GuestExitError):
            node.process(1)
    call = recorded.take()[-1]
    assert [record.span_id for record in records if record.getMessage() == "before"] == [f"{call.context.span_id:016x}"]
