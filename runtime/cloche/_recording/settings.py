"""`Record`: how the calls of a node are recorded (``record`` of `Runtime.load`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cloche._arguments import checked, checked_callback, checked_count
from cloche._recording.files import Files

__all__ = ["Record", "Redact", "record_of"]

Redact = Callable[[str, Any], Any]
"""Called with a kind ("request", "reply" or "log") and a value before it is stored; it returns what to store instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How the calls of a node are recorded.

    The node's last calls are kept in this process's memory, always: the state of the last checkpoint but one, and what went into
    and came out of the guest since then. `Node.recording` saves them to a file at any time.

    A recording holds all that the node has got: code, parameters, values, answers of services and files, random numbers. Treat its
    file as you treat these.

    Attributes:
        folder: a file is written there for each call that fails or breaks the node; the error's attribute ``recording`` has its
            path. The folder is made if it is missing. None: nothing is written by itself.
        calls: number of calls between two checkpoints. A recording has between so many and twice as many of the last calls.
        max_bytes: bytes of values after which a checkpoint is taken earlier. Twice as many are kept, about. A call that takes more
            than four times as many alone is kept in part only, and cannot be replayed.
        max_files: number of files that failures may leave in the folder; after that, each one replaces the oldest. All nodes
            that are given this object count together. Files that other processes have left, and earlier ones, are never removed.
        redact: called with each value before it is written to a file: ``redact(kind, value)``, with the kind "request" (the list of
            the call's operands), "reply" (the value) or "log" (the `LogRecord`). It returns what to store instead. A redacted
            recording has no state of the node and none of the answers that it got, because any of these may hold what you want to
            leave out: it can be read, and its calls can be made on a newly loaded node, but it cannot be replayed bit for bit.

    Raises:
        TypeError: a value has the wrong class; the message names it.
        ValueError: a number is too low.
    """

    folder: str | os.PathLike[str] | None = None
    calls: int = 2000
    max_bytes: int = 32 << 20
    max_files: int = 20
    redact: Redact | None = None
    _files: Files = field(default_factory=Files, init=False, repr=False, compare=False)

    @property
    def files(self) -> Files:
        """The files that failures have left so far. Cloche's own."""
        return self._files

    def __post_init__(self) -> None:
        if self.folder is not None:
            checked("folder", self.folder, (str, os.PathLike), "the path of a folder, or None")  # type: ignore[arg-type]
        for name in ("calls", "max_bytes", "max_files"):
            checked_count(name, getattr(self, name))
        if self.redact is not None:
            checked_callback("redact", self.redact, "a kind and a value")


def record_of(record: Any) -> Record | None:
    """The settings that a caller has given as ``record``.

    Raises:
        TypeError: it is none of those that `Runtime.load` describes.
    """
    if record is None or record is False:
        return None
    if record is True:
        return Record()
    if isinstance(record, (str, os.PathLike)):
        return Record(folder=record)
    return checked("record", record, Record, "True, the path of a folder, a cloche.replay.Record(...), or None")
