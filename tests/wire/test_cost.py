"""No message costs the host more than a multiple of its bytes (`cloche_wire.cost`): counted, never timed.

More seeds: ``python -m pytest tests/wire/test_cost.py --seeds 2000``.
"""

from __future__ import annotations

import gc
import itertools
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloche import Limits, ProtocolError, _codec, _floods
from cloche._codec import REFUSED, Codec, TooCostly
from cloche._lowering import UNCOMPARABLE
from cloche_wire import zones
from cloche_wire.cost import COUNTED_BYTES, UNITS_AT_LEAST, UNITS_PER_BYTE, Budget
from cloche_wire.record import Record

from . import hostile
from .hostile import BLOB, PLAIN, RECIPES, Recipe

MEMORY_PER_BYTE = 80
"""An empty dict or list is one byte, and 64 of memory with its place in a list around it."""
MEMORY_AT_LEAST = 1 << 16
CALLS_PER_BYTE = 10
"""Calls of functions, of Python's and of C's. Making the shortest array takes some ten, and three bytes."""
CALLS_AT_LEAST = 1000

TAGS = hostile.all_tags()
EVERY = {"PLAIN": PLAIN, **{TAGS.get(number, str(number)): recipe for number, recipe in RECIPES.items()}}
every_tag = pytest.mark.parametrize("recipe", [pytest.param(recipe, id=name) for name, recipe in EVERY.items()])


@pytest.fixture(scope="module", autouse=True)
def zones_are_listed() -> None:
    """What a process does once, whatever it is sent."""
    for number in range(zones.MAX_SEARCHES + 1):
        zones.find(f"Nowhere/A{number}")


@pytest.fixture
def codec() -> Codec:
    return Codec(Limits(), lambda _: 0, lambda _, length: memoryview(BLOB)[:length])


class Leaf:
    """Stands for a key, and counts how often it is compared."""

    compared = 0

    def __init__(self, value: Any) -> None:
        self.value = value
        self.hash = hash(value)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        Leaf.compared += 1
        return isinstance(other, Leaf) and bool(self.value == other.value)


def with_leaves(key: Any) -> Any:
    kind = type(key)
    if kind is tuple or kind is frozenset:
        return kind(map(with_leaves, key))
    if kind is Record:
        return Record(key._name, key._fields, map(with_leaves, key._values))
    return Leaf(key)


def comparisons(build: Callable[[list[Any]], Any], keys: list[Any]) -> int:
    """How many leaves a set or dict of the keys compares."""
    leaves = [with_leaves(key) for key in keys]
    Leaf.compared = 0
    build(leaves)
    return Leaf.compared


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Each set and dict is built a second time, of leaves that count. What was charged for it must cover that."""
    counted: list[int] = []
    unpaid: list[str] = []  # told at the end: the codec takes whatever a decoder raises for the guest's fault

    def audit(
        charge: Callable[[Any, Budget], None], build: Callable[[list[Any]], Any]
    ) -> Callable[[Any, Budget], None]:
        def charged(keys: Any, budget: Budget) -> None:
            before = budget.left
            charge(keys, budget)
            paid = before - budget.left
            made = comparisons(build, list(keys))
            counted.append(made)
            if len(set(keys)) == len(keys) and made > paid:  # else it is refused at the first double
                unpaid.append(f"{made} comparisons of {len(keys)} keys, {paid} paid for, such as {keys[0]!r:.80}")

        return charged

    monkeypatch.setattr(_codec, "charge_set", audit(_floods.charge_set, set))
    monkeypatch.setattr(_codec, "charge_frozenset", audit(_floods.charge_frozenset, frozenset))
    monkeypatch.setattr(_codec, "charge_dict", audit(_floods.charge_dict, dict.fromkeys))
    yield counted
    assert not unpaid


def many(recipe: Recipe) -> Iterator[Any]:
    """Many small values, as items and as keys, and single large ones."""
    yield hostile.repeated(recipe)
    yield from hostile.keyed(recipe)
    yield from recipe.large
    for value in recipe.large:
        yield hostile.tag(hostile.tags.SET, [value, hostile.tag(hostile.tags.TUPLE, [value])])


def equal(recipe: Recipe) -> Iterator[Any]:
    """Keys of one hash, side by side and nested."""
    if recipe.equal is not None:
        for count in (16, 64, 200):
            yield from hostile.flood(recipe.equal, count)
        for depth, width in ((2, 20), (3, 6), (3, 12), (5, 3)):
            yield hostile.nest(recipe.equal, depth, width)
            yield hostile.nest(recipe.equal, depth, width, lambda value: hostile.tag(hostile.tags.TUPLE, [value, 0]))


def decode(codec: Codec, frame: bytes) -> Any:
    """A value, or None if it is refused in one of the two ways that there are."""
    try:
        return codec.decode(frame)
    except (*REFUSED, ProtocolError):
        return None


def test_every_tag_is_attacked() -> None:
    """A tag that is added to `cloche_wire.tags` without an attack fails here."""
    assert set(RECIPES) == set(TAGS)
    assert set(_codec._DECODERS) - set(_codec._FOREIGN) <= set(TAGS)


def test_every_tag_arrives_at_its_decoder(codec: Codec) -> None:
    """An attack whose frames are refused for their form would test nothing."""
    for name, recipe in EVERY.items():
        arrived = [decode(codec, hostile.frame(recipe.small(i))) for i in range(3)]
        assert all(arrived) == (name != "SHARED_AT"), name


@every_tag
def test_comparisons_are_paid_for(codec: Codec, audited: list[int], recipe: Recipe) -> None:
    """However keys of equal hash are nested, what is charged is no less than what CPython then does."""
    for value in (*many(recipe), *equal(recipe)):
        frame = hostile.frame(value)
        before = len(audited)
        decode(codec, frame)
        assert sum(audited[before:]) <= UNITS_AT_LEAST + UNITS_PER_BYTE * min(len(frame), COUNTED_BYTES) + len(frame)


@every_tag
def test_memory_is_a_multiple_of_the_bytes(codec: Codec, recipe: Recipe) -> None:
    """At its peak, refused or not."""
    for value in many(recipe):
        frame = hostile.frame(value)
        assert peak(lambda frame=frame: decode(codec, frame)) <= MEMORY_AT_LEAST + MEMORY_PER_BYTE * size(codec, frame)


@every_tag
def test_calls_are_a_multiple_of_the_bytes(codec: Codec, recipe: Recipe) -> None:
    """Each function that runs, `__eq__` and `__hash__` of classes written in Python among them, and each look at the disk."""
    for value in many(recipe):
        frame = hostile.frame(value)
        assert calls(lambda frame=frame: decode(codec, frame)) <= CALLS_AT_LEAST + CALLS_PER_BYTE * size(codec, frame)
    for value in equal(recipe):  # comparing fractions takes two calls and more than 20 units
        frame = hostile.frame(value)
        most = CALLS_AT_LEAST + CALLS_PER_BYTE * size(codec, frame) + Budget(len(frame)).left // 10
        assert calls(lambda frame=frame: decode(codec, frame)) <= most


@pytest.fixture(scope="module")
def unit() -> float:
    """Seconds of a unit on this machine, at this moment: comparing two small keys, as CPython does it in C."""
    one, other = tuple(range(10_000)), tuple(range(10_000))
    return shortest(lambda: one == other, 40) / 10_000


SLACK = 5
"""Times that work may take what was charged for it. The charges are within a factor of 2, the rest is for a busy machine. A pair of kinds
that nobody has thought of is often a hundred times as dear."""
AT_LEAST = 100
"""Units that a comparison may take whatever was charged: it has to call something."""


def test_any_two_kinds_of_keys_are_compared_at_their_price(codec: Codec, unit: float) -> None:
    """An int is dear to a Decimal, a Decimal to a Fraction, and the reason lies in neither: so each is measured with each."""
    values = list(hashable(codec))
    assert {int, float, complex, str, bytes, tuple, frozenset, Record} <= {type(value) for value, _ in values}
    dear = []
    for (one, _), (other, _) in itertools.product(values, repeat=2):
        company = _floods._Company([one, other])
        price = company.worth(one, 1) + company.worth(other, 1)
        most = SLACK * price + AT_LEAST
        taken = compared(one, other, 1) / unit
        if taken > most and (taken := compared(one, other, 9) / unit) > most:
            dear.append(f"{shown(one)} == {shown(other)}: {taken:.0f} units for {price}")
    assert not dear


def test_hashing_is_linear(codec: Codec, unit: float) -> None:
    """Each key is hashed before anything is charged."""
    for value, length in hashable(codec):
        assert shortest(lambda value=value: hash(value), 10) / unit <= SLACK * (length + AT_LEAST), shown(value)


@pytest.mark.parametrize("pair", list(itertools.product(range(len(hostile.HEAVY)), repeat=2)))
def test_a_meeting_of_two_kinds_is_paid_for(codec: Codec, unit: float, pair: tuple[int, int]) -> None:
    """100 decimals among 200 fractions of one hash took 8 s."""
    one, other = (hostile.HEAVY[index] for index in pair)
    keys = [*(one(i) for i in range(8)), *(other(i + 8) for i in range(8))]
    keys = [codec.decode(hostile.frame(key))[1] for key in keys]
    try:
        set(keys)
    except UNCOMPARABLE:  # the message is refused at the first
        return
    if len(set(keys)) == len(keys):
        budget = Budget()
        budget.left = 1 << 62
        _floods.charge_set(keys, budget)
        paid = (1 << 62) - budget.left
        assert shortest(lambda: set(keys), 3) / unit <= SLACK * paid + AT_LEAST * len(keys)


def test_decimals_among_fractions_are_refused(codec: Codec) -> None:
    """The program that found it."""
    value = hostile.meeting(RECIPES[hostile.tags.DECIMAL].heavy, RECIPES[hostile.tags.FRACTION].heavy, 100)
    with pytest.raises(TooCostly, match="the same hash"):
        codec.decode(hostile.frame(value))


def test_mixtures(codec: Codec, audited: list[int], pytestconfig: pytest.Config) -> None:
    """Anything within anything: a new seed each time; a finding names it."""
    first = random.SystemRandom().getrandbits(32)
    for seed in range(first, first + pytestconfig.getoption("--seeds")):
        frame = hostile.frame(hostile.mixture(random.Random(seed)))
        before = len(audited)
        try:
            decode(codec, frame)
            assert sum(audited[before:]) <= UNITS_AT_LEAST + UNITS_PER_BYTE * len(frame) + len(frame)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_one_sequence_of_slots_is_refused(codec: Codec) -> None:
    """Hashes that differ, and want the same slots all the same: steps are paid for like comparisons."""
    keys = hostile.one_sequence(1 << 13)
    with pytest.raises(TooCostly, match="want the same places"):
        codec.decode(hostile.frame(hostile.tag(hostile.tags.MAP, [one for key in keys for one in (key, 0)])))


def hashable(codec: Codec) -> Iterator[tuple[Any, int]]:
    """Values of all the recipes that can be keys, and the bytes of each."""
    for recipe in EVERY.values():
        makers = [make for make in (recipe.small, recipe.equal, recipe.heavy) if make]
        for value in (*recipe.large, *(make(i) for make in makers for i in (1, 2))):
            frame = hostile.frame(value)
            arrived = decode(codec, frame)
            try:
                hash(arrived and arrived[1])
            except TypeError:
                continue
            if arrived:
                yield arrived[1], len(frame)


def compared(one: Any, other: Any, times: int) -> float:
    """Seconds that a comparison takes; 0 if it raises: then the message is refused at the first."""
    try:
        bool(one == other)
        return shortest(lambda: one == other, times)
    except UNCOMPARABLE:
        return 0


def shortest(function: Callable[[], Any], times: int) -> float:
    """Seconds of the quickest of some calls: whatever else the machine does makes none quicker."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return min(taken)


def shown(value: Any) -> str:
    return (
        f"{type(value).__name__} {str(value)[:40]}" if type(value) is not int else f"int of {value.bit_length()} bits"
    )


def size(codec: Codec, frame: bytes) -> int:
    return max(len(frame), codec.decoded_bytes)


def peak(function: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        kept = function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del kept


def calls(function: Callable[[], Any]) -> int:
    count = 0

    def counted(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
