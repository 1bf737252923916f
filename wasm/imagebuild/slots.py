"""Shares the processors among the tools of all stages: as many run at a time as there are slots, and no more."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Hands out slots to the stages that wait for one.

    Attributes:
        precedence: the stages, the one that goes first at the beginning; those that are not named come last.
    """

    def __init__(self, count: int) -> None:
        self.precedence: list[str] = []
        self._free = count
        self._waiting: list[tuple[int, int]] = []
        self._arrivals = itertools.count()
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    @contextmanager
    def take(self, stage: str) -> Iterator[None]:
        """Wait for a slot, and hold it."""
        with self._changed:
            named = stage in self.precedence
            place = (self.precedence.index(stage) if named else len(self.precedence), next(self._arrivals))
            heapq.heappush(self._waiting, place)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == place)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
