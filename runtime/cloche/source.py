"""Where a node's code comes from, and which files of a folder belong to a package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloche.errors import ClocheError

__all__ = ["Source", "walk"]


MAX_FILES: Final = 2000
MAX_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A node's code as text.

    Attributes:
        text: Python source of one module.
        filename: shown in tracebacks; the guest cannot open it.
    """

    text: str
    filename: str = "<node>"


def walk(folder: Path) -> Iterator[Path]:
    """The files below a resolved folder that belong to a package: none hidden, none in ``__pycache__``, in sorted order.

    Raises:
        ClocheError: a link leads out of the folder, or there are too many files or bytes.
    """
    count = total = 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part == "__pycache__" or part.startswith(".") for part in parts):
            continue
        if not path.resolve().is_relative_to(folder):
            raise ClocheError(f"{path.relative_to(folder)} is a link out of the package: copy the file in")
        count += 1
        total += path.stat().st_size
        if count > MAX_FILES or total > MAX_BYTES:
            raise ClocheError(f"package {folder.name} has more than {MAX_FILES} files or {MAX_BYTES} bytes")
        yield path
