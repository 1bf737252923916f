"""`Files`: the files that failures have left. A node that fails each time must not fill the disk."""

from __future__ import annotations

import itertools
import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["NUMBERS", "Files"]

NUMBERS: Final = itertools.count(1)
"""For the names of files: those of one process are in the order of their numbers, also in the same second."""


class Files:
    """The files of all nodes that were given the same `Record`. Each process counts its own: pickled, or forked, it is empty."""

    def __init__(self) -> None:
        self._paths: deque[Path] = deque()
        self._process = os.getpid()

    def add(self, path: Path, most: int) -> None:
        """Count a new file, and remove the oldest ones if there are more than `most`. Any thread may call this.

        A file that cannot be removed any more (its folder is gone, or was made read-only) is no longer counted.
        """
        if self._process != os.getpid():  # the files so far are the parent's
            self._paths, self._process = deque(), os.getpid()
        self._paths.append(Path(os.path.abspath(path)))  # noqa: PTH100  # for a later current folder; a link is not followed
        while len(self._paths) > most:
            with suppress(IndexError, OSError):  # IndexError: another thread was faster
                self._paths.popleft().unlink(missing_ok=True)

    def __reduce__(self) -> tuple[type[Files], tuple[()]]:
        return Files, ()
