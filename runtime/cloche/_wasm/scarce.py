"""The error of a process to which the system gives no more memory, address space or open files."""

from __future__ import annotations

import errno
from typing import Final

from cloche.errors import ClocheError

__all__ = ["EXHAUSTED_ERRNOS", "out_of_resources"]

EXHAUSTED_ERRNOS: Final = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Values of `OSError.errno` that mean that memory, address space or open files have run out."""


def out_of_resources(what: str, error: Exception) -> ClocheError:
    """The error to raise when memory, address space or open files have run out.

    Args:
        what: the purpose that failed, as an infinitive: "to take a snapshot".
        error: the system's own error.
    """
    return ClocheError(
        f"this process has no memory, address space or open files left {what} ({error}): close nodes, or raise its limits "
        "(ulimit -v, ulimit -n)"
    )
