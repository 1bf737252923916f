"""How a run that has little time shares it: a contender that is far slower than the others sits out cases, not the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["SITS_OUT", "Pace"]

SITS_OUT: Final = "left out of this case: what it took so far is over its share of a run that has little time"


PLANNED: Final = 0.8
"""Fraction of the time that is shared out; the rest is for cases that take longer than those before them."""


class Pace:
    """The time that each contender has taken, against its share of the whole.

    Args:
        total_s: what the whole run may take.
        cases: how many cases there are.
        contenders: ids; all but the first, which the others are compared with, may sit out cases.
    """

    def __init__(self, total_s: float, cases: int, contenders: Sequence[str]) -> None:
        self._total_s = total_s
        self._cases = cases
        self._spent_s = dict.fromkeys(contenders, 0.0)
        self._first = contenders[0] if contenders else ""

    def spend(self, contender: str, seconds: float) -> None:
        """Charge a contender with what it took for one case: its start, its checks and what was timed."""
        self._spent_s[contender] += seconds

    def sitting_out(self, elapsed_s: float, index: int) -> frozenset[str]:
        """Contenders that the next case is not run with: none, as long as the run as a whole is in time.

        Args:
            elapsed_s: seconds since the run began.
            index: of the next case.
        """
        due_s = PLANNED * self._total_s * index / self._cases if index else 0.0
        if elapsed_s <= due_s:
            return frozenset()
        share_s = due_s / len(self._spent_s)
        return frozenset(name for name, spent_s in self._spent_s.items() if spent_s > share_s and name != self._first)
