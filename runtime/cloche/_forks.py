"""One hook for `os.fork`: a child process has no threads of its parent, and locks that they held stay locked in it for ever."""

from __future__ import annotations

import os
import sys
import weakref
from typing import Protocol

__all__ = ["watch"]


class _Forkable(Protocol):
    def after_fork(self) -> None:
        """In the child: make new locks and threads. Only the thread that forked exists here."""


_watched: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def watch(item: _Forkable) -> None:
    """Call ``item.after_fork()`` in every child process from now on, for as long as `item` exists.

    Objects are watched here, and not by `os` directly, because a hook of `os` can never be removed.
    """
    _watched.add(item)


def _in_child() -> None:
    for item in list(_watched):
        item.after_fork()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_in_child)
