"""`Rejected`: an item that a node could not work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloche.errors import ClocheError
from cloche.pipeline._digest import digest
from cloche.pipeline.errors import BrokenError

__all__ = ["Rejected", "recorded"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that a node could not work on, for the ``dead_letters`` of `Pipeline.run`.

    Attributes:
        node: id of the node.
        item: number of the pipeline's item that it was, or was made of; None: it was made at the end of the input.
        value: the item, as the node got it.
        error: what the node raised.
    """

    node: str
    item: int | None
    value: Any = field(hash=False)
    error: Exception = field(hash=False, compare=False)

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the item's encoded form, as in `PipelineError.digest` and in logs."""
        return digest(self.value)

    @property
    def recording(self) -> str:
        """Path of the file with the node's last calls, if it is recorded (`NodeSpec.record`); otherwise ""."""
        return recorded(self.error)


def recorded(error: BaseException | None) -> str:
    """Path of the file with the recording of a failed call; "" if there is none."""
    while error is not None:
        if isinstance(error, ClocheError) and error.recording:
            return error.recording
        error = error.__cause__ if isinstance(error, BrokenError) else None
    return ""
