"""`ItemTimes`: how long the last calls of a node, or items of a stage, took, as a bounded sample, for whoever watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

__all__ = ["ItemTimes", "percentile"]

_MOST: Final = 512
"""Calls that are kept of each copy of a node. Older ones are dropped, so that the figures show how the node is doing now."""


class ItemTimes:
    """The last calls of a node, or crossings of a stage. One thread at a time adds them, any thread may read them."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, int]] = deque(maxlen=_MOST)

    def add(self, items: int, took_s: float) -> None:
        """Note a crossing with so many items."""
        self._last.append((took_s / items, items))

    def read(self) -> list[tuple[float, int]]:
        """Seconds of an item in each of the last crossings, and the items in it."""
        return list(self._last)


def percentile(times: Iterable[tuple[float, int]], part: float) -> float | None:
    """The time that this part of the items did not exceed; None without items.

    Args:
        times: seconds of an item, and the number of items that took so long.
        part: from 0 to 1.
    """
    ordered = sorted(times)
    if not ordered:
        return None
    left = part * sum(count for _, count in ordered)
    for seconds, count in ordered:
        left -= count
        if left <= 0:
            return seconds
    return ordered[-1][0]
