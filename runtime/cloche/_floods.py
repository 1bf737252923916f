"""What sets and dicts of a guest's keys will cost, found out before they are built.

Python hashes texts and byte strings with a secret; every other hash can be computed in advance, so that thousands of keys meet in
the same slots (258 KB of such integers took 2.25 s), and sets of sets multiply the comparisons at every level. Ordinary data
has equal hashes, too: hash(-1) is hash(-2), and 2.0 ** 61 hashes as 1.0. So keys are not refused for their hashes: what they will cost is
computed, never more than a few times too high, and charged to the message's `Budget`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from cloche_wire.cost import Budget
from cloche_wire.record import Record

__all__ = ["charge_dict", "charge_set"]

FEW: Final = 64
"""So many keys of different hashes cannot meet often enough to cost much."""
COMPACTED: Final = 1024
"""Sets of up to so many items are copied once they are complete: that halves the memory of a set that has just grown."""
LINEAR_PROBES: Final = 9
"""A set looks at that many neighbours of a slot (Objects/setobject.c); a dict at none."""

_STEP: Final = 4
"""Units of a step in a table: not the 5 ns that CPython takes, but what it takes to count it here."""
_WORTH: Final[dict[type, int]] = {
    type(None): 1, bool: 1, float: 1, complex: 1, date: 2, timedelta: 2, datetime: 40, time: 40, UUID: 20, Fraction: 160,
}  # fmt: skip
"""Units of a comparison, for kinds whose size is bounded. Written in Python, or asking a time zone, it takes more."""
_UNKNOWN: Final = 160

_SEEDED: Final = frozenset({str, bytes})
_MASK: Final = (1 << 64) - 1


def charge_set(items: Sequence[Any], budget: Budget) -> None:
    """Pay for a set of these items.

    Raises:
        TypeError: an item is not hashable.
        TooCostly: the budget does not suffice.
    """
    _charge(items, LINEAR_PROBES, budget)


def charge_dict(keys: Sequence[Any], budget: Budget) -> None:
    """Pay for a dict of these keys. Raises as `charge_set` does."""
    _charge(keys, 0, budget)


def _charge(keys: Sequence[Any], linear: int, budget: Budget) -> None:
    count = len(keys)
    if count < 2 or _SEEDED.issuperset(map(type, keys)):
        return
    hashes = list(map(hash, keys))
    if count <= FEW:
        equal = len(set(hashes)) < count
    elif hashes == list(range(hashes[0], hashes[0] + count)):  # consecutive numbers never want the same slot
        equal = False
    else:
        equal = False
        for size, fill in _set_tables(count) if linear else _dict_tables(count):
            equal |= _fill(hashes[:fill], size, linear, budget)
    if equal:
        _charge_equal(keys, hashes, budget)


def _dict_tables(count: int) -> Iterator[tuple[int, int]]:
    """The tables that a growing dict has, and how many keys go into each before it is full (Objects/dictobject.c)."""
    size = 2 * FEW
    while (fill := 2 * size // 3) < count:
        yield size, fill
        size *= 2
    yield size, count


def _set_tables(count: int) -> Iterator[tuple[int, int]]:
    """The same for a set (Objects/setobject.c, set_add_entry and set_table_resize)."""
    size = 128
    while (fill := -(-3 * (size - 1) // 5)) < count:
        yield size, fill
        wanted = fill * (2 if fill > 50_000 else 4)
        while size <= wanted:
            size *= 2
    yield size, count
    if count <= COMPACTED:  # it is copied
        yield 1 << (2 * count).bit_length(), count


def _fill(hashes: list[int], size: int, linear: int, budget: Budget) -> bool:
    """Fill a table as CPython does, charging the slots that are tried in vain; whether two hashes are equal.

    The order in which slots are tried is decided by the whole hash.
    """
    mask = size - 1
    table: list[int | None] = [None] * size
    equal = False
    steps = 0
    for value in hashes:
        slot = value & mask
        if table[slot] is None:
            table[slot] = value
            continue
        perturb = value & _MASK
        while True:
            near = slot
            last = slot + linear if slot + linear <= mask else slot
            while (found := table[near]) is not None:
                steps += 1
                if found == value:
                    equal = True
                if near == last:
                    break
                near += 1
            else:
                break
            if steps > 4096:
                budget.charge(_STEP * steps, f"{len(hashes)} keys want the same places")
                steps = 0
            perturb >>= 5
            slot = (5 * slot + 1 + perturb) & mask
        slot = near
        table[slot] = value
    budget.charge(_STEP * steps, f"{len(hashes)} keys want the same places")
    return equal


def _charge_equal(keys: Sequence[Any], hashes: list[int], budget: Budget) -> None:
    """Pay for the comparisons of keys with equal hashes.

    Let w be what `_worth` says of a key. Comparing x and y costs w(x) + w(y) at most: for sets, because no hash in either
    comes more than `widest` times. So g keys of one hash cost (g - 1) times the sum of their worths at most.
    """
    order = sorted(range(len(keys)), key=hashes.__getitem__)
    widest = budget.widest
    for _, group in groupby(order, key=hashes.__getitem__):
        members = [keys[index] for index in group]
        if len(members) > 1:
            widest = max(widest, len(members))
            units = (len(members) - 1) * _worth(members, budget.widest)
            budget.charge(units, f"{len(members)} of {len(keys)} keys have the same hash")
    budget.widest = widest


def _worth(keys: list[Any], widest: int) -> int:
    """What comparing the keys can cost, in units, each with one other of the same worth, and half as much for each side."""
    worth = 0
    decimals = False
    conversions = 0  # of integers to Decimal, which takes time quadratic in their length
    left = [(key, 1) for key in keys]
    while left:
        value, times = left.pop()
        kind = type(value)
        if kind is int:
            bits = value.bit_length()
            worth += times * (1 + (bits >> 9))
            conversions += times * (bits >> 6) ** 2
        elif kind is tuple:
            worth += times
            left += [(item, times) for item in value]
        elif kind is frozenset:
            worth += times
            left += [(item, times * widest) for item in value]
        elif kind is str or kind is bytes:
            worth += times * (1 + (len(value) >> 9))
        elif kind is Decimal:
            decimals = True
            worth += times * (4 + (value.__sizeof__() >> 6))
        elif kind is Record:
            worth += times * (40 + len(value))
            left += [(item, times) for item in value]
        else:
            worth += times * _WORTH.get(kind, _UNKNOWN)
    return worth + conversions if decimals else worth
