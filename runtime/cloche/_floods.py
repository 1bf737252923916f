"""What sets and dicts of a guest's keys will cost, found out before they are built.

Python hashes texts and byte strings with a secret; every other hash can be computed in advance, so that thousands of keys
meet in the same slots (258 KB of such integers took 2.25 s), and sets of sets multiply the comparisons at every level.
Ordinary data has equal hashes, too: hash(-1) is hash(-2), and 2.0 ** 61 hashes as 1.0. So keys are not refused for their
hashes: tables are filled here as CPython fills them, and what that costs is charged to the message's `Budget`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from cloche_wire.cost import Budget
from cloche_wire.record import Record

__all__ = ["COMPACTED", "charge_dict", "charge_frozenset", "charge_set"]

FEW: Final = 512
"""So many keys of different hashes cannot cost much: half a millisecond, if each meets each."""
COMPACTED: Final = 1024
"""Sets of up to so many items are copied once they are complete: that halves the memory of a set that has just grown."""
LINEAR_PROBES: Final = 9
"""A set looks at that many neighbours of a slot (Objects/setobject.c); a dict at none."""

_JUMP: Final = 4
"""Units of a jump in a table: not the 5 ns that CPython takes, but what it takes to count it here."""
_WORTH: Final[dict[type, int]] = {
    type(None): 1, bool: 1, int: 1, float: 1, complex: 1, str: 1, bytes: 1, tuple: 1, frozenset: 1, date: 2, timedelta: 2,
    Decimal: 4, UUID: 20, datetime: 40, time: 40, Fraction: 40, Record: 40,
}  # fmt: skip
"""Units of a comparison, without what depends on the size. Written in Python, or asking a time zone, it takes more."""
_UNKNOWN: Final = 160

_SEEDED: Final = frozenset({str, bytes})
_MASK: Final = (1 << 64) - 1


def charge_dict(keys: Sequence[Any], budget: Budget) -> None:
    """Pay for a dict of these keys.

    Raises:
        TypeError: a key is not hashable.
        TooCostly: the budget does not suffice.
    """
    _charge(keys, 0, budget)


def charge_set(items: Sequence[Any], budget: Budget) -> None:
    """Pay for a set of these items. Raises as `charge_dict` does."""
    _charge(items, LINEAR_PROBES, budget)


def charge_frozenset(items: Sequence[Any], budget: Budget) -> None:
    """Pay for a frozenset, and note what looking a key up in it costs: it may be compared. Raises as `charge_dict` does."""
    hashes = _charge(items, LINEAR_PROBES, budget)
    if hashes is not None:
        _widen(hashes, budget)


def _charge(keys: Sequence[Any], linear: int, budget: Budget) -> list[int] | None:
    """The hashes, if some are equal."""
    count = len(keys)
    if count < 2 or _SEEDED.issuperset(map(type, keys)):
        return None
    hashes = list(map(hash, keys))
    if count <= FEW:
        if len(set(hashes)) == count:
            return None
    elif hashes == list(range(hashes[0], hashes[0] + count)):  # consecutive numbers never want the same slot
        return None
    visits: dict[int, int] = {}
    done = 0
    for size, fill in _set_tables(count) if linear else _dict_tables(count):
        _fill(hashes[:fill], size, linear, visits, budget, done)
        done = fill
    if not visits:
        return None
    budget.charge(_comparisons(keys, hashes, visits, budget.widest), f"many of {count} keys have the same hash")
    return hashes


def _comparisons(keys: Sequence[Any], hashes: list[int], visits: dict[int, int], widest: int) -> int:
    """Units of comparing keys of equal hash: each one meets others of its own worth and that of the heaviest, at most."""
    worths = {index: _Worth(keys[index], widest) for index in visits}
    if any(worth.has_decimals for worth in worths.values()):
        for worth in worths.values():
            worth.units += worth.conversions
    heaviest: dict[str, int] = {}  # by hash as text: hashes could be a flood themselves
    for index, worth in worths.items():
        value = str(hashes[index])
        heaviest[value] = max(heaviest.get(value, 0), worth.units)
    return sum(times * (worths[index].units + heaviest[str(hashes[index])]) for index, times in visits.items())


def _dict_tables(count: int) -> Iterator[tuple[int, int]]:
    """The tables that a growing dict has, and how many keys go into each before it is full (Objects/dictobject.c)."""
    size = 8
    while (fill := 2 * size // 3) < count:
        yield size, fill
        size *= 2
    yield size, count


def _set_tables(count: int) -> Iterator[tuple[int, int]]:
    """The same for a set (Objects/setobject.c, set_add_entry and set_table_resize)."""
    size = 8
    while (fill := -(-3 * (size - 1) // 5)) < count:
        yield size, fill
        wanted = fill * (2 if fill > 50_000 else 4)
        while size <= wanted:
            size *= 2
    yield size, count


def _copied(count: int) -> int:
    """Size of the table of a set's copy (set_merge)."""
    return 8 if 5 * count < 21 else 1 << (2 * count).bit_length()


def _fill(
    hashes: list[int], size: int, linear: int, visits: dict[int, int], budget: Budget, done: int = 0
) -> tuple[bytearray, list[int]]:
    """Fill a table as CPython does, charging slots tried in vain.

    The whole hash decides in which order slots are tried, and some are tried more than once.

    Args:
        hashes: of the keys, in order.
        size: of the table.
        linear: neighbours of a slot that are tried before the next one.
        visits: filled in: index of a key -> keys of its hash that it meets on its way. The first of them is in it, too, with 0.
        budget: pays for each jump.
        done: so many keys come from a smaller table: moving them compares nothing.

    Returns:
        which slots are taken, and by which hash.
    """
    mask = size - 1
    taken = bytearray(size)
    table = [0] * size
    owners = [0] * size
    jumps = 0
    for index, value in enumerate(hashes):
        slot = value & mask
        if taken[slot]:
            perturb = value & _MASK
            met = 0
            while not linear:
                jumps += 1
                if table[slot] == value:
                    if not met and index >= done:
                        visits.setdefault(owners[slot], 0)
                    met += 1
                perturb >>= 5
                slot = (5 * slot + 1 + perturb) & mask
                if not taken[slot]:
                    break
            while linear and taken[slot]:
                jumps += 1
                end = slot + 1
                free = -1
                if slot + linear <= mask:
                    end += linear
                    free = taken.find(0, slot, end)
                    if free >= 0:
                        end = free
                if equal := table[slot:end].count(value):
                    if not met and index >= done:
                        visits.setdefault(owners[table.index(value, slot, end)], 0)
                    met += equal
                if free >= 0:
                    slot = free
                    break
                perturb >>= 5
                slot = (5 * slot + 1 + perturb) & mask
            if met and index >= done:
                visits[index] = visits.get(index, 0) + met
            if jumps > 1024:
                budget.charge(_JUMP * jumps, f"{len(hashes)} keys want the same places")
                jumps = 0
        taken[slot] = 1
        table[slot] = value
        owners[slot] = index
    budget.charge(_JUMP * jumps, f"{len(hashes)} keys want the same places")
    return taken, table


def _widen(hashes: list[int], budget: Budget) -> None:
    """Note how many comparisons looking up one key can take: keys of its hash, times how often a walk comes by each."""
    count = len(hashes)
    size = _copied(count) if count <= COMPACTED else [size for size, _ in _set_tables(count)][-1]
    visits: dict[int, int] = {}
    taken, table = _fill(hashes, size, LINEAR_PROBES, visits, budget)
    mask = size - 1
    for value in map(int, {str(hashes[index]) for index in visits}):
        times: dict[int, int] = {}
        slot = value & mask
        perturb = value & _MASK
        while taken[slot]:
            reach = LINEAR_PROBES if slot + LINEAR_PROBES <= mask else 0
            free = taken.find(0, slot, slot + reach + 1)
            for near in range(slot, free if free >= 0 else slot + reach + 1):
                if table[near] == value:
                    times[near] = times.get(near, 0) + 1
            if free >= 0:
                break
            perturb >>= 5
            slot = (5 * slot + 1 + perturb) & mask
        if times:
            budget.widest = max(budget.widest, len(times) * max(times.values()))


class _Worth:
    """What comparing a key with others of its hash can cost.

    Comparing x and y costs the units of both at most. Tuples and records are compared item by item. For frozensets, each item of
    one is looked up in the other, where it is compared `widest` times at most.

    Attributes:
        units: of a comparison.
        conversions: units of converting its integers to Decimal, which takes time quadratic in their length.
        has_decimals: whether others may have to be converted for it.
    """

    __slots__ = ("conversions", "has_decimals", "units")

    def __init__(self, key: Any, widest: int) -> None:
        self.units = self.conversions = 0
        self.has_decimals = False
        left = [(key, 1)]
        while left:
            value, times = left.pop()
            kind = type(value)
            units = _WORTH.get(kind, _UNKNOWN)
            if kind is int:
                bits = value.bit_length()
                units += bits >> 9
                self.conversions += times * (bits >> 6) ** 2
            elif kind is str or kind is bytes:
                units += len(value) >> 9
            elif kind is tuple or kind is Record:
                units += len(value)
                left += [(item, times) for item in value]
            elif kind is frozenset:
                left += [(item, times * widest) for item in value]
            elif kind is Decimal:
                units += value.__sizeof__() >> 6
                self.has_decimals = True
            self.units += times * units
