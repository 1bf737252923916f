"""`Carried`: what a node has used so far and goes on with in another sandbox, beside the state of its guest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

from cloche.errors import ClocheError

__all__ = ["Carried"]

_COUNTS: Final = ("dropped_records", "fuel", "last_fuel", "breaks", "restarts", "in_a_row")
_MOST: Final = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a node has used so far.

    Attributes:
        seconds: see `Stats`.
        dropped_records: see there.
        fuel: see there.
        last_fuel: see there.
        breaks: see there.
        restarts: see there.
        in_a_row: how often the node has broken since it last answered a call.
        quotas: what it has added to its mounts, from `FileHandler.quotas`.
        seed: see `CallState`.
    """

    seconds: float = 0.0
    dropped_records: int = 0
    fuel: int = 0
    last_fuel: int = 0
    breaks: int = 0
    restarts: int = 0
    in_a_row: int = 0
    quotas: bytes = b""
    seed: bytes = b""

    def as_list(self) -> list[Any]:
        """The numbers, for JSON."""
        return [self.seconds, *(getattr(self, name) for name in _COUNTS)]

    @classmethod
    def of(cls, value: Any, quotas: bytes, seed: bytes) -> Self:
        """Read what `as_list` made, from a stranger.

        Raises:
            ClocheError: it is anything else.
        """
        if type(value) is not list or len(value) != 1 + len(_COUNTS):
            raise ClocheError("the counts of a parked node are malformed")
        seconds, *counts = value
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise ClocheError("the counts of a parked node are malformed")
        if any(type(count) is not int or not 0 <= count < _MOST for count in counts):
            raise ClocheError("the counts of a parked node are malformed")
        return cls(seconds=float(seconds), quotas=quotas, seed=seed, **dict(zip(_COUNTS, counts, strict=True)))
