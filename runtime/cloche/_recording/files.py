"""`Files`: the files that failures have left. A node that fails each time must not fill the disk."""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NUMBERS", "Files"]

NUMBERS: Final = itertools.count(1)
"""For the names of files: no two of a process have the same, also if two nodes of one name fail in the same second."""


class Files:
    """The files of all nodes that were given the same `Record`. Each process counts its own: pickled, it is empty."""

    def __init__(self) -> None:
        self._paths: deque[Path] = deque()

    def add(self, path: Path, most: int) -> None:
        """Count a new file, and remove the oldest ones if there are more than `most`. Any thread may call this."""
        self._paths.append(path)
        while len(self._paths) > most:
            with suppress(IndexError):  # another thread was faster
                self._paths.popleft().unlink(missing_ok=True)

    def __reduce__(self) -> tuple[type[Files], tuple[()]]:
        return Files, ()
