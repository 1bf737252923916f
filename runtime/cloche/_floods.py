"""Refuses keys that a guest has chosen so that a dict or set of them would take quadratic time to build.

Python hashes texts and byte strings with a secret; every other hash can be computed in advance, so that thousands of
keys meet in the same slots: 258 KB of such integers took 2.25 s. Only the codec asks, for the keys of untrusted values.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq
from typing import Any, Final

FEW: Final = 64
"""So many keys cannot cost much, whatever they are."""
MAX_EQUAL: Final = 8
"""Keys of one and the same hash: each comparison may cost as much as the keys are long."""
MAX_STEPS: Final = 16
"""Slots tried for a key, on average. A hash has at most 13 groups of five bits to tell keys apart by; two are usual."""

_SEEDED: Final = frozenset({str, bytes})
_MASK: Final = (1 << 64) - 1


def check_keys(keys: Sequence[Any], *, linear: int = 0) -> None:
    """See that a dict (a set: ``linear=SET_LINEAR``) of these keys is built in linear time.

    Raises:
        TypeError: a key is not hashable.
        ValueError: the keys collide far more often than keys do by chance.
    """
    count = len(keys)
    if count <= FEW or _SEEDED.issuperset(map(type, keys)):
        return
    hashes = list(map(hash, keys))
    ordered = sorted(hashes)
    if any(map(eq, ordered, ordered[MAX_EQUAL:])):
        raise ValueError(f"more than {MAX_EQUAL} of {count} keys have the same hash")
    if hashes != list(range(hashes[0], hashes[0] + count)):  # consecutive numbers never want the same slot
        _try_slots(hashes, linear)


SET_LINEAR: Final = 9
"""A set looks at that many neighbours of a slot (Objects/setobject.c, LINEAR_PROBES); a dict at none."""


def _try_slots(hashes: list[int], linear: int) -> None:
    """What CPython does (Objects/dictobject.c, setobject.c): tables double, filled to 2/3 at most, and slots are tried
    in an order that the whole hash decides.
    """
    size = 2 * FEW
    while True:
        mask, fill = size - 1, min(len(hashes), 2 * size // 3)
        taken = bytearray(size)
        steps = MAX_STEPS * fill
        for value in hashes[:fill]:
            perturb = value & _MASK
            slot = value & mask
            while taken[slot]:
                steps -= 1
                if linear and slot + linear <= mask:
                    free = taken.find(0, slot, slot + linear + 1)
                    if free >= 0:
                        slot = free
                        break
                perturb >>= 5
                slot = (5 * slot + 1 + perturb) & mask
            taken[slot] = 1
            if steps < 0:
                raise ValueError(f"{len(hashes)} keys collide far more often than by chance")
        if fill == len(hashes):
            return
        size *= 2
