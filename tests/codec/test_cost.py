"""No message costs the host more than a multiple of its bytes (`cloche_wire.cost`): counted, never timed.

More seeds: ``python -m pytest tests/codec/test_cost.py --seeds 2000``.
"""

from __future__ import annotations

import gc
import itertools
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from cloche import Limits
from cloche._codec import codec as _codec
from cloche._codec import hash_floods
from cloche._codec.codec import Codec, TooCostly
from cloche_wire import zones
from cloche_wire.cost import COUNTED_BYTES, UNITS_AT_LEAST, UNITS_PER_BYTE, Budget
from cloche_wire.record import Record

from . import hostile
from .hostile import BLOB, PLAIN, RECIPES, Recipe, decode

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

    monkeypatch.setattr(_codec, "charge_set", audit(hash_floods.charge_set, set))
    monkeypatch.setattr(_codec, "charge_frozenset", audit(hash_floods.charge_frozenset, frozenset))
    monkeypatch.setattr(_codec, "charge_dict", audit(hash_floods.charge_dict, dict.fromkeys))
    yield counted
    assert not unpaid


def many(recipe: Recipe) -> Iterator[Any]:
    """Many small values, as items and as keys, and single large ones."""
    yield hostile.repeated(recipe)
    yield from hostile.keyed(recipe)
    yield from recipe.large
    for value in recipe.large:
        yield hostile.tag(hostile.tags.SET, [value, hostile.tag(hostile.tags.TUPLE, [value])])


@pytest.fixture
def some(thorough: bool) -> Callable[[Recipe], Iterator[Any]]:
    """All of those values, or without --all one of each kind: tracing takes a hundred times longer than decoding."""

    def few(recipe: Recipe) -> Iterator[Any]:
        yield hostile.repeated(recipe)
        yield from itertools.islice(hostile.keyed(recipe), 1)
        yield from itertools.islice(recipe.large, 1)

    return many if thorough else few


def equal(recipe: Recipe) -> Iterator[Any]:
    """Keys of one hash, side by side and nested."""
    if recipe.equal is not None:
        for count in (16, 64, 200):
            yield from hostile.flood(recipe.equal, count)
        for depth, width in ((2, 20), (3, 6), (3, 12), (5, 3)):
            yield hostile.nest(recipe.equal, depth, width)
            yield hostile.nest(recipe.equal, depth, width, lambda value: hostile.tag(hostile.tags.TUPLE, [value, 0]))


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
def test_memory_is_a_multiple_of_the_bytes(
    codec: Codec, recipe: Recipe, some: Callable[[Recipe], Iterator[Any]]
) -> None:
    """At its peak, refused or not."""
    for value in some(recipe):
        frame = hostile.frame(value)
        assert peak(lambda frame=frame: decode(codec, frame)) <= MEMORY_AT_LEAST + MEMORY_PER_BYTE * size(codec, frame)


@every_tag
def test_calls_are_a_multiple_of_the_bytes(
    codec: Codec, recipe: Recipe, some: Callable[[Recipe], Iterator[Any]]
) -> None:
    """Each function that runs, `__eq__` and `__hash__` of classes written in Python among them, and each look at the disk."""
    for value in some(recipe):
        frame = hostile.frame(value)
        assert calls(lambda frame=frame: decode(codec, frame)) <= CALLS_AT_LEAST + CALLS_PER_BYTE * size(codec, frame)
    for value in equal(recipe):  # comparing fractions takes two calls and more than 20 units
        frame = hostile.frame(value)
        most = CALLS_AT_LEAST + CALLS_PER_BYTE * size(codec, frame) + Budget(len(frame)).left // 10
        assert calls(lambda frame=frame: decode(codec, frame)) <= most


@pytest.fixture
def traced_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


STEPS_AT_LEAST = 100
"""StreamSession that a comparison may take whatever was charged: it has to call something."""


def test_any_two_kinds_of_keys_are_compared_at_their_price(codec: Codec, traced_memory: None, thorough: bool) -> None:
    """An int is dear to a Decimal, a Decimal to a Fraction, and the reason lies in neither: so each is compared with each.

    What a comparison does in C is counted by the memory that it needs; `benches/costs.py` times it.
    """
    pairs = list(hostile.pairs(codec))
    if not thorough:  # every seventh pair of each two types
        met: Counter[tuple[type, type]] = Counter()
        pairs = [
            pair for pair in pairs if (met.update([kinds := (type(pair[0]), type(pair[1]))]), met[kinds] % 7 == 1)[1]
        ]
    assert {int, float, complex, str, bytes, tuple, frozenset, Record} <= {type(one) for one, _ in pairs}
    dear = []
    for one, other in pairs:
        price = hostile.price(one, other)
        taken = steps(lambda one=one, other=other: hostile.are_equal(one, other))
        if taken > price + STEPS_AT_LEAST:
            dear.append(f"{hostile.shown(one)} == {hostile.shown(other)}: {taken} steps for {price}")
    assert not dear


@pytest.mark.parametrize("other", [Decimal(5), Fraction(1, 3)], ids=str)
def test_converting_a_number_is_charged_by_the_square_of_its_length(other: Any) -> None:
    """CPython makes a Decimal of an int in a time that grows so, and needs no memory for it that would show."""
    short, long = ((1 << bits, Decimal(3)) for bits in (1 << 12, 1 << 16))
    assert hostile.price(other, long) > 200 * hostile.price(other, short)


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


def steps(function: Callable[[], Any]) -> int:
    """Bytecode instructions that it runs and pieces of 256 bytes of memory that it needs at its peak (copied in 10 ns each), while `tracemalloc` traces."""
    count = 0

    def counted(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return counted

    function()  # what happens once: imports, caches
    tracemalloc.reset_peak()
    kept = tracemalloc.get_traced_memory()[0]
    function()
    pieces = (tracemalloc.get_traced_memory()[1] - kept) // 256
    before = sys.gettrace()
    sys.settrace(counted)
    try:
        function()
    finally:
        sys.settrace(before)
    return count + pieces
