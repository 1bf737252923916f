"""One hook after `os.fork`, for all objects whose locks and threads a child process cannot take over."""

from __future__ import annotations

import os
import sys
import weakref
from typing import Protocol

__all__ = ["watch"]


class _Forkable(Protocol):
    def after_fork(self) -> None:
        """Begin anew: only the thread that forked exists here."""


_watched: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def watch(item: _Forkable) -> None:
    """Have ``item.after_fork()`` called in each child, as long as `item` lives: hooks of `os` can't be taken back."""
    _watched.add(item)


def _in_child() -> None:
    for item in list(_watched):
        item.after_fork()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_in_child)
