"""`PipelineLogger`: the logger of a pipeline's own runtime: every record says pipeline, session, node and item.

Records are delivered on the thread of the call in which they were made. So the stage notes there which items it is about to send.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
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


class PipelineLogger(Sink):
    """A sink that adds to each record what it belongs to.

    Args:
        pipeline: the pipeline's name.
        logger: where the records go, as `Runtime` describes.
    """

    def __init__(self, pipeline: str, logger: Any) -> None:
        super().__init__(logger)
        self._pipeline = pipeline

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Log at a level, with the pipeline's fields added."""
        at = fields.get("item", 0)
        numbers: Sequence[int | None] = getattr(_current, "numbers", ())
        session = getattr(_current, "session", None)
        told = {name: value for name, value in fields.items() if name != "item"} | {"pipeline": self._pipeline}
        if session is not None:
            told["session"] = session
        if 0 <= at < len(numbers) and numbers[at] is not None:
            told["item"] = numbers[at]
        super().log(level, message, told)

    def forward(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Log what another process has logged for this pipeline, as it is."""
        super().log(level, message, {"pipeline": self._pipeline, **fields})

    def tell(self, node: str, message: str, facts: dict[str, Any]) -> None:
        """Log a warning of the pipeline's own about a node; `facts` may have the item's number."""
        super().log("warning", message, {"pipeline": self._pipeline, "node": node, **facts})
