"""What is timed: an operation, or a single call of a node; and the error of a contender that cannot do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloche.errors import ClocheError

__all__ = ["Call", "Operation", "Unsupported"]


class Unsupported(ClocheError):
    """A contender cannot run a case. The message says why, and stands in the place of its figures."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is timed.

    Attributes:
        run: does the operation once, and returns its result.
        after: cleans up after each run; not timed.
        timed: does the operation a number of times and returns the seconds that took: for operations of another process, which is
            the one to read the clock. None: `run` is timed here.
    """

    run: Callable[[], Any]
    after: Callable[[], None] | None = None
    timed: Callable[[int], float] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One node, called with one value. Some contenders can do nothing else."""

    module: str
    entry: str
    value: Any
    params: tuple[tuple[str, Any], ...] = ()
