"""`PipelineLogger`: the logger of a pipeline's own runtime: every record says pipeline, session, node and item.

Records are delivered on the thread of the call in which they were made. So the stage notes there which items it is about to send.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from cloche._sandbox.sinks import Sink

__all__ = ["PipelineLogger", "working_on"]

_current = threading.local()


def working_on(session: str | None, numbers: Sequence[int | None]) -> None:
    """Note on this thread what the next call works on.

    Args:
        session: id of the session; None: there is none.
        numbers: numbers of the items of the batch; None for what was made at the end of the input.
    """
    _current.session, _current.numbers = session, numbers


class PipelineLogger:
    """A logger with the five methods that `Runtime` needs.

    Args:
        pipeline: the pipeline's name.
        logger: where the records go, as `Runtime` describes.
    """

    def __init__(self, pipeline: str, logger: Any) -> None:
        self._pipeline = pipeline
        self._sink = Sink(logger)

    def log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Log at a level, with the pipeline's fields added."""
        at = fields.pop("item", 0)
        numbers: Sequence[int | None] = getattr(_current, "numbers", ())
        session = getattr(_current, "session", None)
        added: dict[str, Any] = {"pipeline": self._pipeline}
        if session is not None:
            added["session"] = session
        if 0 <= at < len(numbers) and numbers[at] is not None:
            added["item"] = numbers[at]
        self._sink.log(level, message, {**fields, **added})

    def debug(self, message: str, **fields: Any) -> None:
        """Log at level debug."""
        self.log("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Log at level info."""
        self.log("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Log at level warning."""
        self.log("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Log at level error."""
        self.log("error", message, fields)

    def critical(self, message: str, **fields: Any) -> None:
        """Log at level critical."""
        self.log("critical", message, fields)

    def tell(self, node: str, message: str, facts: dict[str, Any]) -> None:
        """Log a warning of the pipeline's own about a node; `facts` may have the item's number."""
        self._sink.log("warning", message, {"pipeline": self._pipeline, "node": node, **facts})
