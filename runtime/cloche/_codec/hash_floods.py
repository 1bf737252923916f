"""What sets and dicts of a guest's keys will cost, found out before they are built.

Python hashes texts and byte strings with a secret; every other hash can be computed in advance, so that thousands of keys
meet in the same slots (258 KB of such integers took 2.25 s), and sets of sets multiply the comparisons at every level.
Ordinary data has equal hashes, too: hash(-1) is hash(-2), and 2.0 ** 61 hashes as 1.0. So keys are not refused for their
hashes: tables are filled here as CPython fills them, and what that costs is charged to the message's `Budget`.
"""

from __future__ import annotations

import fractions
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from math import frexp
from typing import Any, Final
from uuid import UUID

from cloche_wire.cost import Budget
from cloche_wire.record import Record
from cloche_wire.tagged import Opaque

__all__ = ["COMPACTED", "FractionHashes", "charge_dict", "charge_frozenset", "charge_set"]

FEW: Final = 512
"""So many keys of different hashes cannot cost much: half a millisecond, if each meets each."""
COMPACTED: Final = 1024
"""Sets of up to so many items are copied once they are complete: that halves the memory of a set that has just grown."""
LINEAR_PROBES: Final = 9
"""A set looks at that many neighbours of a slot (Objects/setobject.c); a dict at none."""

_JUMP: Final = 4
"""Units of a jump in a table: not the 5 ns that CPython takes, but what it takes to count it here."""
_WORTH: Final[dict[type, int]] = {
    type(None): 1, bool: 1, int: 1, float: 1, complex: 4, str: 1, bytes: 1, tuple: 1, frozenset: 1, date: 2, timedelta: 2,
    Decimal: 4, UUID: 20, datetime: 40, time: 40, Fraction: 40, Record: 40, Opaque: 40,
}  # fmt: skip
"""Units of a comparison with a value of the same kind, without what depends on the size. Written in Python, or asking a time zone,
it takes more."""
_AMONG_OTHERS: Final[dict[type, int]] = {Decimal: 60, Fraction: 80}
"""What they add when they may meet a value of another kind: they ask its abstract base classes."""
_AMONG_NUMBERS: Final[dict[type, int]] = {Fraction: 500}
"""What they add when that may be a number of another kind, and they convert it."""
_AMONG_SCALARS: Final[dict[type, int]] = {tuple: 100, frozenset: 100, Record: 1000}
"""The same when that may be a numpy scalar: numpy makes an array of whatever it is compared with."""
_SCALAR: Final = 40
_SCALAR_AMONG_CONTAINERS: Final = 160
_SCALAR_AMONG_NUMBERS: Final = 200
_SCALAR_AMONG_OTHERS: Final = 1000
"""Units of comparing a numpy scalar with one of its type, with a tuple, with another number, with anything else."""
_UNKNOWN: Final = 160
_NUMBERS: Final = frozenset({bool, int, float, complex})
_HASHED: Final = 80
"""Units of passing a fraction of equal hash in the cache that Python 3.12 and later keep: measured, 250 to 400 ns for two."""

_SEEDED: Final = frozenset({str, bytes})
_CONTAINERS: Final = frozenset({tuple, frozenset, Record})
_NO_COMPANY: Final = _CONTAINERS | {str, bytes, type(None)}
"""Kinds whose presence does not make a comparison dearer: seeded ones are met by their like alone, containers item by item."""
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
    company = _Company(keys[index] for index in visits)
    worths = {index: company.worth(keys[index], widest) for index in visits}
    heaviest: dict[str, int] = {}  # by hash as text: hashes could be a flood themselves
    for index, worth in worths.items():
        value = str(hashes[index])
        heaviest[value] = max(heaviest.get(value, 0), worth)
    return sum(times * (worths[index] + heaviest[str(hashes[index])]) for index, times in visits.items())


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


class _Company:
    """What the keys of one set or dict are made of, which decides what comparing each of them can cost.

    Comparing x and y costs the worth of both at most. Tuples and records are compared item by item. For frozensets, each item of
    one is looked up in the other, where it is compared `widest` times at most. Items that meet may be of different kinds, and have
    different hashes: so a value's worth is that of its dearest meeting with any of the company.

    Args:
        keys: those that will be compared.
    """

    __slots__ = ("_contained", "_decimals", "_fraction_words", "_mixed", "_scalars", "_unlike_numbers")

    def __init__(self, keys: Iterable[Any]) -> None:
        kinds: set[type] = set()
        self._fraction_words = 0
        for key in keys:
            for value, _ in _parts(key, 1):
                kind = type(value)
                kinds.add(kind)
                if kind is Fraction:
                    self._fraction_words = max(self._fraction_words, 1 + (value.denominator.bit_length() >> 6))
        self._decimals = Decimal in kinds
        scalars = {kind for kind in kinds if _is_scalar(kind)}
        others = kinds - _NO_COMPANY
        self._mixed = len(others) > 1
        self._contained = not _CONTAINERS.isdisjoint(kinds)
        self._scalars = bool(scalars)
        self._unlike_numbers = bool(others - scalars - _NUMBERS) or any(map(_is_time, scalars))

    def worth(self, key: Any, widest: int) -> int:
        """Units of comparing the key once."""
        return sum(times * self._units(value) for value, times in _parts(key, widest))

    def _units(self, value: Any) -> int:
        """Of one value, without the items that it has."""
        kind = type(value)
        if _is_scalar(kind):
            return self._scalar_units(value)
        units = _WORTH.get(kind, _UNKNOWN)
        if self._mixed or self._contained:
            units += _AMONG_OTHERS.get(kind, 0)
        if self._mixed:
            units += _AMONG_NUMBERS.get(kind, 0)
        if self._scalars:
            units += _AMONG_SCALARS.get(kind, 0)
        if kind is int:
            units += value.bit_length() >> 9
        elif kind is str or kind is bytes:
            units += _text_units(value)
        elif kind is tuple or kind is Record or kind is frozenset:
            units += len(value)
            if kind is Record:
                units += len(value) << 4 if self._scalars else 0  # numpy asks it for each item, in Python
                units += (len(value._name) + sum(map(len, value._fields))) >> 4
        elif kind is Decimal:
            words = _words(value)
            units += words * (1 + self._fraction_words)  # multiplied by a fraction's denominator, exactly
        elif kind is Opaque:
            units += (len(value.digest) + len(value.data)) >> 6
        elif kind is memoryview:  # compared byte by byte
            units += value.nbytes
        if self._decimals:
            units += _to_decimal(value)
        return units

    def _scalar_units(self, value: Any) -> int:
        if isinstance(value, (str, bytes)):
            return _SCALAR + _text_units(value)
        if self._unlike_numbers:
            return _SCALAR_AMONG_OTHERS
        if self._mixed:
            return _SCALAR_AMONG_NUMBERS
        return _SCALAR_AMONG_CONTAINERS if self._contained else _SCALAR


def _parts(key: Any, widest: int) -> Iterator[tuple[Any, int]]:
    """The key and all that it contains, each with how often one comparison of the key can come by."""
    left = [(key, 1)]
    while left:
        value, times = left.pop()
        yield value, times
        kind = type(value)
        if kind is tuple or kind is Record:
            left += [(item, times) for item in value]
        elif kind is frozenset:
            left += [(item, times * widest) for item in value]


def _is_scalar(kind: type) -> bool:
    return kind.__module__ == "numpy"


def _is_time(kind: type) -> bool:
    return kind.__name__ in ("datetime64", "timedelta64")


def _text_units(value: str | bytes) -> int:
    """Of comparing equal ones, which may lie in no cache."""
    return len(value) >> (6 if isinstance(value, bytes) or value.isascii() else 4)


def _words(value: Decimal) -> int:
    """Words of its digits beyond the few that lie in the object itself."""
    return 1 + ((value.__sizeof__() - _SMALL_DECIMAL) >> 3)


_SMALL_DECIMAL: Final = Decimal(1).__sizeof__()


def _to_decimal(value: Any) -> int:
    """Units of making a decimal of a number exactly: time quadratic in the length of the integers that it takes."""
    kind = type(value)
    if kind is int:
        return _square(value)
    if kind is Fraction:
        return _square(value.numerator) + _square(value.denominator)
    if kind is float or kind is complex:
        return 2 + (abs(frexp(value.real)[1]) >> 1)
    return 0


def _square(number: int) -> int:
    return (number.bit_length() >> 5) ** 2 // 2


class FractionHashes:
    """The fractions of one message, by what Python 3.12 and later hash to remember their hashes.

    `fractions` keeps 16,384 of them in a table of the whole process, by numerator and denominator, whose hashes are no secret:
    400 KB of fractions that met there took 48 s, before a single one was compared. Earlier versions keep none.
    """

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met: dict[str, list[Fraction]] = {}  # by hash as text: hashes could be a flood themselves

    def charge(self, value: Fraction, budget: Budget) -> None:
        """Pay for hashing a fraction of the message.

        Raises:
            TooCostly: the budget does not suffice.
        """
        if _kept is None:
            return
        if not self._met and _kept.cache_info().currsize > _FEW_KEPT:
            _kept.cache_clear()  # earlier messages may have filled it with what meets this one's
        same = self._met.setdefault(str(hash((value.numerator, value.denominator))), [])
        before = 0
        for other in same:
            if other.numerator == value.numerator and other.denominator == value.denominator:
                break
            before += 1
        else:
            same.append(value)
        if before:
            budget.charge(_HASHED * before, f"{len(same)} fractions have the same hash")


_kept: Final[Any] = getattr(fractions, "_hash_algorithm", None)
_FEW_KEPT: Final = 16
