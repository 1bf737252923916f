"""What the guest runtime asks of its surroundings: the image's ``_cloche`` module, or `cloche.testing` natively."""

from __future__ import annotations

from typing import Any, Protocol


class Host(Protocol):
    """The functions of ``_cloche`` that dispatch, logs and streams use."""

    def emit(self, record: list[Any], /) -> None:
        """Append one log record to the ring; the oldest makes room."""

    def count_output(self, size: int, /) -> None:
        """Charge `size` bytes to this call's ``output_bytes``; beyond it the instance ends and this does not return."""

    def configure(self, reply_bytes: int, output_bytes: int, value_depth: int, stack_depth: int, /) -> None:
        """Set the limits that are kept on the C side; the last one becomes the interpreter's recursion limit, too."""

    def call(self, request: list[Any], /) -> list[Any] | None:
        """Ask the host: ``[ask, *operands]`` is answered by ``[granted, value or failure]``; None: nothing is granted."""

    def scratch(self, size: int, /) -> None:
        """Make /tmp, of that many bytes, in this instance's own memory."""
