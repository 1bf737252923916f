"""Plain values that errors, sandboxes and nodes share. A leaf: this module imports nothing else of Cloche."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["LogRecord", "StreamPosition"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record of a guest, cleaned: no control characters, cut to a fixed length.

    Attributes:
        level: "debug", "info", "warning", "error" or "critical".
        logger: name of the guest's logger; "stdout" or "stderr" for printed text.
        message: the formatted message, or the printed text.
        call: number of the call on the node during which the record was made, from 1.
        fields: the guest's ``extra=`` fields, as plain values.
        exception: text of the logged traceback; None without one.
        time_ns: nanoseconds since the Unix epoch by the guest's clock; 0 for printed text.
    """

    level: str
    logger: str
    message: str
    call: int
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    exception: str | None = None
    time_ns: int = 0


class StreamPosition(NamedTuple):
    """How far an open stream has come, between two steps.

    Attributes:
        items: number of items that the node has received.
        outputs: number of outputs that the node has given.
        wants: True if the node waits for the next item; False if it has more to compute before.
    """

    items: int
    outputs: int
    wants: bool
