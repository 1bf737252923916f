"""`Journal`: an output that is written in place, so that a run that goes on from a checkpoint can go on with it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import IO, Final

from cloche.cli._console import InputError

__all__ = ["Journal", "Kept"]

_BLOCK: Final = 1 << 20

Kept = tuple[int, str]
"""The beginning of a file: its bytes, and their SHA-256."""


class Journal:
    """A file whose beginning is known by its length and digest. It has the methods of a binary file that an `Output` needs.

    Args:
        path: the file.
        kept: the beginning that stays; what is behind it is cut off. None: the file begins anew.

    Raises:
        InputError: the file does not begin so, or is no regular file.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, kept: Kept | None = None) -> None:
        self._file: IO[bytes]
        self._hash = hashlib.sha256()
        self._bytes = 0
        if Path(path).exists() and not stat.S_ISREG(Path(path).stat().st_mode):
            raise InputError(
                f"{path} is a pipe or a device, and a run with checkpoints goes on with its output: give a file"
            )
        if kept is None:
            self._file = Path(path).open("wb")  # noqa: SIM115  # closed by `close`
            return
        if not Path(path).exists():
            raise InputError(f"{path} is missing: the run goes on with the output that it has begun")
        self._file = Path(path).open("r+b")  # noqa: SIM115  # closed by `close`
        try:
            self._check(path, kept)
        except BaseException:
            self._file.close()
            raise

    def _check(self, path: str, kept: Kept) -> None:
        length = kept[0]
        while self._bytes < length and (block := self._file.read(min(_BLOCK, length - self._bytes))):
            self._hash.update(block)
            self._bytes += len(block)
        if kept != (self._bytes, self._hash.hexdigest()):
            raise InputError(
                f"{path} does not begin with the {length} bytes that the interrupted run had written: give its --output"
            )
        self._file.seek(length)
        self._file.truncate()

    def write(self, data: bytes) -> int:
        """Add bytes."""
        self._hash.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand to the system what is buffered."""
        self._file.flush()

    def seekable(self) -> bool:
        """No: what has been written stays."""
        return False

    def sync(self) -> Kept:
        """Write all to disk. Returns what the file has now."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._bytes, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; a second time it does nothing."""
        self._file.close()
