"""What to raise when the system gives this process no more memory, address space or open files."""

from __future__ import annotations

import errno
from typing import Final

from cloche.errors import ClocheError

__all__ = ["NUMBERS", "nothing_left"]

NUMBERS: Final = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Of the `OSError`s that say so."""


def nothing_left(what: str, error: Exception) -> ClocheError:
    """The error to raise.

    Args:
        what: could not be done for it, as in "to take a snapshot".
        error: what the system said.
    """
    return ClocheError(
        f"this process has no memory, address space or open files left {what} ({error}): close nodes, or raise its limits "
        "(ulimit -v, ulimit -n)"
    )
