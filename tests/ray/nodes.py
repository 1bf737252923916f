"""Native nodes, which hosts import."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["how_it_is_kept", "make_array", "make_lock", "same"]


def make_array(length: int) -> Any:
    """An array that is too large to be sent with a call."""
    return np.ones(length)


def how_it_is_kept(array: Any) -> tuple[bool, bool, float]:
    """Whether an array is a copy of its own, and can be changed; its sum."""
    return bool(array.flags.owndata), bool(array.flags.writeable), float(array.sum())


def make_lock(_: int) -> Any:
    """An output that is no value."""
    return threading.Lock()


def same(value: Any) -> Any:
    """What it gets."""
    return value
