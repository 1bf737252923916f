"""Plain values that errors, sandboxes and nodes all speak of. It imports nothing of Cloche."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["LogRecord", "StreamPosition"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a guest, made harmless.

    Attributes:
        level: a name that the host knows: "debug", "info", "warning", "error" or "critical".
        logger: the guest's logger, or "stdout" or "stderr" for what it printed.
        message: the formatted message.
        call: number of the call on the node during which it was made.
        fields: what the guest passed as ``extra=``.
        exception: the traceback's text, if one was logged.
        time_ns: nanoseconds since the epoch, by the guest's clock.
    """

    level: str
    logger: str
    message: str
    call: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    exception: str | None = None
    time_ns: int = 0


class StreamPosition(NamedTuple):
    """Where an open stream is, between two steps.

    Attributes:
        items: items that the node was given.
        outputs: outputs that it has given.
        wants: whether it waits for the next item; if not, it goes on by itself when it is let.
    """

    items: int
    outputs: int
    wants: bool
