"""The errors of pipelines. All are `cloche.ClocheError`s, can be pickled, and say what to do."""

from __future__ import annotations

from cloche.errors import ClocheError

__all__ = ["BrokenError", "CircuitOpenError", "PipelineError", "PlacementError"]


class PlacementError(ClocheError):
    """A node cannot run where it was asked to. Nothing was started. The message says why, and what would do.

    Attributes:
        node: the node's id.
        asked: where it asked to run; "" if that is not the reason.
    """

    def __init__(self, message: str, *, node: str = "", asked: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.asked = asked


class BrokenError(ClocheError):
    """The sandbox or process of a node broke while it worked on a batch. Its ``__cause__`` is the error that says how.

    Attributes:
        recovered: whether the node has been brought back.
    """

    def __init__(self, message: str, *, recovered: bool = False) -> None:
        super().__init__(message)
        self.recovered = recovered


class CircuitOpenError(ClocheError):
    """The node was not called, because it has failed too often in a row (`CircuitBreaker`)."""


class PipelineError(ClocheError):
    """A node failed, and its `NodeSpec.on_error` or `NodeSpec.on_break` ends the pipeline. Its ``__cause__`` is the node's error.

    The outputs of all items before have been given. `ClocheError.item` is the number of the item, from 0; it is None for what the
    node did at its start or its end. If the node is recorded (`NodeSpec.record`), `ClocheError.recording` is the path of the file
    with its last calls, and a note says so.

    Attributes:
        node: the node's id.
        digest: first 16 hexadecimal digits of the SHA-256 of the item's encoded form, to find it again in logs; "" for no item.
    """

    def __init__(self, message: str, *, node: str, item: int | None = None, digest: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.item = item
        self.digest = digest
