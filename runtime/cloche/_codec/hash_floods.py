"""Defence against hash floods: before a set or dict of guest keys is built, the time that this takes is charged to a `Budget`.

Python hashes texts and byte strings with a secret seed. Every other hash is public, so a guest can send thousands of keys that
collide in the same slots of a table (258 KB of such integers took 2.25 s), and nesting sets in sets multiplies the comparisons at
every level. Ordinary data has equal hashes, too: hash(-1) is hash(-2), and 2.0 ** 61 hashes like 1.0. So keys are not refused for
their hashes. Instead, `_fill` simulates how CPython fills its tables, and charges an upper bound of the time to the message's
`Budget`: `_STEP` units for each step of probing, and `_ComparisonCost` units for each comparison of keys with equal hashes.
All costs here are in units of `Budget`, some 10 ns each.
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
"""Up to this many keys of different hashes are not simulated: if each collided with each, that would take half a millisecond."""
COMPACTED: Final = 1024
"""Sets of up to this many items are copied when complete, which halves the memory of a set that has just grown."""
LINEAR_PROBES: Final = 9
"""Neighbours of a slot that a set probes before it jumps to another slot (Objects/setobject.c). A dict probes none."""

_STEP: Final = 4
"""Units of one step of probing: a slot of a dict, or a slot of a set with its neighbours. The simulation's own time counts here,
which is more than the 5 ns that CPython takes."""
_COST: Final[dict[type, int]] = {
    type(None): 1, bool: 1, int: 1, float: 1, complex: 4, str: 1, bytes: 1, tuple: 1, frozenset: 1, date: 2, timedelta: 2,
    Decimal: 4, UUID: 20, datetime: 40, time: 40, Fraction: 40, Record: 40, Opaque: 40,
}  # fmt: skip
"""By type: units of comparing with a value of the same type, without the part that depends on the size. Comparisons that are
written in Python, or that ask a time zone, cost most."""
_AMONG_OTHERS: Final[dict[type, int]] = {Decimal: 60, Fraction: 80}
"""By type: extra units if the other value may be of another type, whose abstract base classes are then asked."""
_AMONG_NUMBERS: Final[dict[type, int]] = {Fraction: 500}
"""By type: extra units if the other value may be a number of another type, which is then converted."""
_AMONG_SCALARS: Final[dict[type, int]] = {tuple: 100, frozenset: 100, Record: 1000}
"""By type: extra units if the other value may be a numpy scalar, since numpy converts both sides of a comparison to arrays."""
_SCALAR: Final = 40
_SCALAR_AMONG_CONTAINERS: Final = 160
_SCALAR_AMONG_NUMBERS: Final = 200
_SCALAR_AMONG_OTHERS: Final = 1000
"""Units of comparing a numpy scalar with one of its type, with a tuple, with another number, with anything else."""
_UNKNOWN: Final = 160
"""Units of comparing a value of any type that is not listed."""
_NUMBERS: Final = frozenset({bool, int, float, complex})
_CACHE_STEP: Final = 80
"""Units of passing one fraction of equal hash in the cache of Python 3.12 and later (measured: 250 to 400 ns for two)."""

_SEEDED: Final = frozenset({str, bytes})
_CONTAINERS: Final = frozenset({tuple, frozenset, Record})
_NEUTRAL: Final = _CONTAINERS | {str, bytes, type(None)}
"""Types whose presence makes no comparison of other keys dearer: texts and byte strings have seeded hashes, which no other type
collides with on purpose, and containers are compared item by item."""
_MASK: Final = (1 << 64) - 1


def charge_dict(keys: Sequence[Any], budget: Budget) -> None:
    """Charge for building a dict.

    Args:
        keys: the keys in order, before they are known to be distinct.
        budget: the message's.

    Raises:
        TypeError: a key is not hashable.
        TooCostly: the budget does not suffice.
    """
    _charge(keys, 0, budget)


def charge_set(items: Sequence[Any], budget: Budget) -> None:
    """Charge for building a set; arguments and errors are those of `charge_dict`."""
    _charge(items, LINEAR_PROBES, budget)


def charge_frozenset(items: Sequence[Any], budget: Budget) -> None:
    """Charge for building a frozenset; arguments and errors are those of `charge_dict`.

    A frozenset may be a key itself, and is then compared with others by looking up items. `Budget.widest` is raised to the
    comparisons that one such lookup can take.
    """
    hashes = _charge(items, LINEAR_PROBES, budget)
    if hashes is not None:
        _note_lookup_cost(hashes, budget)


def _charge(keys: Sequence[Any], linear: int, budget: Budget) -> list[int] | None:
    """Charge for a table of these keys, with `linear` neighbours probed (0: a dict); the hashes if some are equal, else None."""
    count = len(keys)
    if count < 2 or _SEEDED.issuperset(map(type, keys)):
        return None
    hashes = list(map(hash, keys))
    if count <= FEW:
        if len(set(hashes)) == count:
            return None
    elif hashes == list(range(hashes[0], hashes[0] + count)):  # consecutive hashes never collide
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
    """Units of comparing keys of equal hash: for each comparison the key's own cost, and the highest of any key of that hash."""
    cost = _ComparisonCost(keys[index] for index in visits)
    costs = {index: cost.of(keys[index], widest) for index in visits}
    heaviest: dict[str, int] = {}  # the hash as text, which is seeded: a dict of hashes could be flooded as well
    for index, units in costs.items():
        value = str(hashes[index])
        heaviest[value] = max(heaviest.get(value, 0), units)
    return sum(times * (costs[index] + heaviest[str(hashes[index])]) for index, times in visits.items())


def _dict_tables(count: int) -> Iterator[tuple[int, int]]:
    """Sizes of a growing dict's tables in turn, each with the number of keys at which it is full (Objects/dictobject.c)."""
    size = 8
    while (fill := 2 * size // 3) < count:
        yield size, fill
        size *= 2
    yield size, count


def _set_tables(count: int) -> Iterator[tuple[int, int]]:
    """Sizes of a growing set's tables in turn, each with the number of items at which it is full.

    See Objects/setobject.c, set_add_entry and set_table_resize.
    """
    size = 8
    while (fill := -(-3 * (size - 1) // 5)) < count:
        yield size, fill
        wanted = fill * (2 if fill > 50_000 else 4)
        while size <= wanted:
            size *= 2
    yield size, count


def _copied(count: int) -> int:
    """Slots in the table of a copied set of `count` items (Objects/setobject.c, set_merge)."""
    return 8 if 5 * count < 21 else 1 << (2 * count).bit_length()


def _fill(
    hashes: list[int], size: int, linear: int, visits: dict[int, int], budget: Budget, done: int = 0
) -> tuple[bytearray, list[int]]:
    """Simulate how CPython fills a table, and charge for the steps of probing after the first slot.

    All bits of the hash decide in which order slots are probed, and some slots are probed more than once.

    Args:
        hashes: hashes of the keys, in order of insertion.
        size: slots of the table, a power of 2.
        linear: neighbours of a slot that are probed before the next jump (0: a dict).
        visits: filled in: index of a key -> keys of equal hash that it passes while it is inserted. The first key of that hash
            gets an entry as well, with 0.
        budget: charged for each step of probing.
        done: number of keys at the beginning that come from a smaller table; moving them compares nothing.

    Returns:
        for each slot, whether it is taken; and for each slot, the hash in it.
    """
    mask = size - 1
    taken = bytearray(size)
    table = [0] * size
    owners = [0] * size
    steps = 0
    for index, value in enumerate(hashes):
        slot = value & mask
        if taken[slot]:
            perturb = value & _MASK
            met = 0
            while not linear:
                steps += 1
                if table[slot] == value:
                    if not met and index >= done:
                        visits.setdefault(owners[slot], 0)
                    met += 1
                perturb >>= 5
                slot = (5 * slot + 1 + perturb) & mask
                if not taken[slot]:
                    break
            while linear and taken[slot]:
                steps += 1
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
            if steps > 1024:
                budget.charge(_STEP * steps, f"{len(hashes)} keys want the same places")
                steps = 0
        taken[slot] = 1
        table[slot] = value
        owners[slot] = index
    budget.charge(_STEP * steps, f"{len(hashes)} keys want the same places")
    return taken, table


def _note_lookup_cost(hashes: list[int], budget: Budget) -> None:
    """Raise `Budget.widest` to the comparisons that one lookup in a frozenset can take.

    That is the number of keys of one hash, times how often the probing passes each of them.
    """
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


class _ComparisonCost:
    """Upper bounds for the cost of comparing the keys of one set or dict, which depend on the types that occur among them.

    Comparing x and y costs at most the cost of x plus the cost of y. Tuples and records are compared item by item. To compare two
    frozensets, each item of one is looked up in the other, with at most `widest` comparisons. Two items that are compared may have
    different types and different hashes, so a value's cost is that of its dearest comparison with any value among the keys.

    Args:
        keys: the keys that will be compared with each other.
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
        others = kinds - _NEUTRAL
        self._mixed = len(others) > 1
        self._contained = not _CONTAINERS.isdisjoint(kinds)
        self._scalars = bool(scalars)
        self._unlike_numbers = bool(others - scalars - _NUMBERS) or any(map(_is_time, scalars))

    def of(self, key: Any, widest: int) -> int:
        """Units of one comparison of the key, at most. `widest`: comparisons that one lookup in a frozenset can take."""
        return sum(times * self._units(value) for value, times in _parts(key, widest))

    def _units(self, value: Any) -> int:
        """Units of one value, without its items."""
        kind = type(value)
        if _is_scalar(kind):
            return self._scalar_units(value)
        units = _COST.get(kind, _UNKNOWN)
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
                units += len(value) << 4 if self._scalars else 0  # numpy fetches each item, in Python code
                units += (len(value._name) + sum(map(len, value._fields))) >> 4  # noqa: SLF001  # like a named tuple's: public names are fields
        elif kind is Decimal:
            words = _words(value)
            # to be compared with a fraction, a Decimal is multiplied by its denominator exactly
            units += words * (1 + self._fraction_words)
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
    """The key and all values in it, each with how often one comparison of the key can compare that value."""
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
    """Units of comparing two equal texts or byte strings that are in no CPU cache."""
    return len(value) >> (6 if isinstance(value, bytes) or value.isascii() else 4)


def _words(value: Decimal) -> int:
    """64-bit words of a Decimal's digits beyond the few that lie in the object itself."""
    return 1 + ((value.__sizeof__() - _SMALL_DECIMAL) >> 3)


_SMALL_DECIMAL: Final = Decimal(1).__sizeof__()


def _to_decimal(value: Any) -> int:
    """Units of converting a number to a Decimal exactly: quadratic in the length of its integers."""
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
    """Charges for hashing the fractions of one message, which Python 3.12 and later cache.

    The module `fractions` caches 16,384 hashes for the whole process, keyed by numerator and denominator, whose own hashes are
    public: 400 KB of fractions that collided in that cache took 48 s, before any two were compared. Python 3.11 has no such cache.
    """

    __slots__ = ("_by_hash",)

    def __init__(self) -> None:
        self._by_hash: dict[str, list[Fraction]] = {}  # by hash as text, as in `_comparisons`

    def charge(self, value: Fraction, budget: Budget) -> None:
        """Charge for hashing one fraction of the message.

        Args:
            value: the fraction, which must not have been hashed yet.
            budget: the message's.

        Raises:
            TooCostly: the budget does not suffice.
        """
        if _hash_cache is None:
            return
        if not self._by_hash and _hash_cache.cache_info().currsize > _FEW_CACHED:
            _hash_cache.cache_clear()  # earlier messages may have left fractions there that collide with this message's
        same = self._by_hash.setdefault(str(hash((value.numerator, value.denominator))), [])
        before = 0
        for other in same:
            if other.numerator == value.numerator and other.denominator == value.denominator:
                break
            before += 1
        else:
            same.append(value)
        if before:
            budget.charge(_CACHE_STEP * before, f"{len(same)} fractions have the same hash")


_hash_cache: Final[Any] = getattr(fractions, "_hash_algorithm", None)
_FEW_CACHED: Final = 16
"""Entries in the process's cache at which clearing it is not worth the time."""
