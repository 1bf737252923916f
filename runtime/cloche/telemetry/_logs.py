"""The trace of a log record: for structlog a processor, for `logging` a filter.

A node's records are delivered on the thread of its call, inside the call's span. So are those of the services that it calls.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

__all__ = ["TraceFilter", "add_trace_context"]


def add_trace_context(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: adds ``trace_id``, ``span_id`` and ``trace_flags`` of the current span, if there is one.

    What a node logs lies below the key ``guest``, so a node cannot forge them.
    """
    context = get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = format_trace_id(context.trace_id)
        event_dict["span_id"] = format_span_id(context.span_id)
        event_dict["trace_flags"] = f"{context.trace_flags:02x}"
    return event_dict


class TraceFilter(logging.Filter):
    """A filter of `logging` that drops nothing: it sets ``trace_id`` and ``span_id`` of each record, "" outside of a span."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the attributes."""
        context = get_current_span().get_span_context()
        record.trace_id = format_trace_id(context.trace_id) if context.is_valid else ""
        record.span_id = format_span_id(context.span_id) if context.is_valid else ""
        return True
