"""`DeadLetters`: the file of ``--dead-letters``: a line of JSON for each item that a node could not work on."""

from __future__ import annotations

import json
import os
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloche._atomic_file import AtomicFile
from cloche.cli._output import plain
from cloche.errors import NodeError
from cloche.texts import clean, short

if TYPE_CHECKING:
    from cloche.pipeline import Rejected

__all__ = ["DeadLetters", "trace"]


class DeadLetters:
    """Writes each letter as it comes, in place: what has failed is to be seen also if the run fails.

    Args:
        path: the file.
        before: keep the letters that are there, of items before this one; None: begin anew.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str, before: int | None = None) -> None:
        self.count = 0
        self._lock = threading.Lock()
        if before is not None and Path(path).exists():
            lines = Path(path).read_bytes().splitlines(keepends=True)
            with AtomicFile(path) as file:
                file.writelines(line for line in lines if _is_before(line, before))
        self._file = Path(path).open("wb" if before is None else "ab")  # noqa: SIM115  # closed at the end of the block

    def add(self, rejected: Rejected) -> None:
        """Write one letter. Called on the nodes' threads."""
        line = json.dumps(_letter(rejected)).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            self.count += 1

    def sync(self) -> None:
        """Write all to disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def trace(error: BaseException | None) -> str:
    """The traceback of what a node has raised; "" if it has none of its own."""
    if isinstance(error, NodeError):
        return error.guest_traceback
    if error is None or error.__traceback__ is None:
        return ""
    return clean("".join(traceback.format_exception(error)))


def _letter(rejected: Rejected) -> dict[str, Any]:
    letter: dict[str, Any] = {
        "node": rejected.node,
        "item": rejected.item,
        "digest": rejected.digest,
        "error": clean(str(rejected.error)),
        "traceback": trace(rejected.error),
        **({"recording": rejected.recording} if rejected.recording else {}),
    }
    try:
        return {**letter, "value": json.loads(json.dumps(rejected.value, default=plain))}
    except (TypeError, ValueError, RecursionError):  # JSON cannot say it
        return {**letter, "value": None, "shown": short(rejected.value)}


def _is_before(line: bytes, item: int) -> bool:
    """Whether a line is a whole letter about an item before that one."""
    try:
        found = json.loads(line)
    except ValueError:  # the run was killed while it wrote
        return False
    number = found.get("item") if isinstance(found, dict) else None
    return line.endswith(b"\n") and isinstance(number, int) and number < item
