"""What a case and a contender agree on: an operation to time, one call of one node, or that the two do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloche.errors import ClocheError

__all__ = ["Call", "Operation", "Unsupported"]


class Unsupported(ClocheError):
    """This contender cannot run that case; the message says why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is timed.

    Attributes:
        run: does it once.
        after: done after each run, untimed.
        timed: does it so many times and returns the seconds, for what runs elsewhere and is timed there.
    """

    run: Callable[[], Any]
    after: Callable[[], None] | None = None
    timed: Callable[[int], float] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One node, called with one value: all that some sandboxes can be asked for."""

    module: str
    entry: str
    value: Any
    params: tuple[tuple[str, Any], ...] = ()
