"""Keys that are chosen to collide cost more than a message may; the keys of real data do not, whatever their hashes."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import cbor2
import numpy as np
import pytest

from cloche import Limits
from cloche._codec import hash_floods
from cloche._codec.codec import Codec, TooCostly
from cloche._codec.hash_floods import charge_dict, charge_set
from cloche_wire import tags, zones
from cloche_wire.cost import UNITS_AT_LEAST, Budget
from cloche_wire.record import Record

from .hostile import P, nest, one_sequence, tag

FLOODS = {
    "equal hashes": [1 + i * P for i in range(2000)],
    "equal hashes of fractions": [Fraction(1 + i * P) for i in range(500)],
    "equal hashes of tuples": [(i * P,) for i in range(1000)],
    "equal hashes across types": [kind(1 + i * P) for i in range(200) for kind in (int, Decimal, Fraction)],
    "large integers among decimals": [Decimal(1), *(1 + i * P << 61 * 500 for i in range(1, 9))],
    "one sequence of slots": one_sequence(4096),
    "small floats among decimals": [
        *(5 * 2.0 ** (-61 * i) for i in range(17)),
        *(Decimal(5 + i * P) for i in range(1, 100)),
    ],
}


@pytest.mark.parametrize("keys", [pytest.param(keys, id=name) for name, keys in FLOODS.items()])
def test_a_flood_is_refused(keys: list[Any]) -> None:
    """Equal hashes, and different ones that want the same slots."""
    with pytest.raises(TooCostly, match="same hash|same places"):
        charge_dict(keys, Budget())


rng = random.Random(2)
GRID = list(itertools.product(range(-2, 3), repeat=4))
INNOCENT = {
    "counting": lambda: list(range(100_000)),
    "counting down": lambda: list(range(100_000, 0, -1)),
    "negative": lambda: list(range(-50_000, 50_000)),
    "even": lambda: list(range(0, 200_000, 2)),
    "page addresses": lambda: list(range(0, 4096 * 20_000, 4096)),
    "powers of two": lambda: [1 << i for i in range(4000)],
    "powers of two and their opposites": lambda: [sign << i for i in range(1000) for sign in (-1, 1)],
    "powers of two as floats": lambda: [2.0**i for i in range(-1000, 1000)],
    "powers of two as fractions": lambda: [Fraction(2) ** i for i in range(-500, 500)],
    "powers of ten as decimals": lambda: [Decimal(10) ** i for i in range(-500, 500)],
    "high bits alone": lambda: [i << 50 for i in range(2048)],
    "random ints": lambda: [rng.getrandbits(64) for _ in range(50_000)],
    "halves": lambda: [i / 2 for i in range(-20_000, 20_000)],
    "fine floats": lambda: [i / 1024 for i in range(20_000)],
    "tenths": lambda: [i / 10 for i in range(50_000)],
    "random floats": lambda: [rng.random() for _ in range(50_000)],
    "numpy floats": lambda: list(np.linspace(-1, 1, 5001)),
    "pairs": lambda: [(i, j) for i in range(-150, 150) for j in range(-150, 150)],
    "grid points of four dimensions": lambda: GRID,
    "grid points of six dimensions": lambda: list(itertools.product(range(-2, 3), repeat=6)),
    "grid points as floats": lambda: [tuple(map(float, point)) for point in GRID],
    "grid points as numpy ints": lambda: [tuple(map(np.int64, point)) for point in GRID],
    "grid points as fractions": lambda: [tuple(map(Fraction, point)) for point in GRID],
    "grid points as decimals": lambda: [tuple(map(Decimal, point)) for point in GRID],
    "labelled grid points": lambda: [("point", *map(np.float64, point[:2]), *point[2:]) for point in GRID],
    "fractions, decimals and floats": lambda: [
        kind(3 * i + j) / 16 for i in range(-999, 999) for j, kind in enumerate((Fraction, Decimal, float))
    ],
    "grid points as records": lambda: [Record("Point", "abcd", point) for point in GRID],
    "complex grid": lambda: [complex(i, j) for i in range(-100, 100) for j in range(-100, 100)],
    "all subsets": lambda: [frozenset(x) for n in range(13) for x in itertools.combinations(range(-6, 6), n)],
    "edges of a grid": lambda: [frozenset({a, b}) for a in GRID[:60] for b in GRID[:60]],
    "labelled": lambda: [("channel", i) for i in range(50_000)],
    "text": lambda: [str(i) for i in range(50_000)],
    "fractions": lambda: [Fraction(i, 7) for i in range(20_000)],
    "all small fractions": lambda: list({Fraction(i, j) for i in range(-99, 99) for j in range(1, 99)}),
    "decimals": lambda: [Decimal(i) / 8 for i in range(20_000)],
    "dates": lambda: [date(2000, 1, 1) + timedelta(i) for i in range(20_000)],
    "hours": lambda: [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(20_000)],
    "durations": lambda: [timedelta(minutes=i) for i in range(-20_000, 20_000)],
    "identifiers": lambda: [UUID(int=rng.getrandbits(128)) for _ in range(50_000)],
    "counted identifiers": lambda: [UUID(int=i) for i in range(20_000)],
    "mixed": lambda: [x for i in range(20_000) for x in (i, str(i), (i,))],
    "few of equal hash": lambda: FLOODS["equal hashes"][:30],
}


@pytest.mark.sampled
@pytest.mark.parametrize("charge", [charge_dict, charge_set], ids=["dict", "set"])
@pytest.mark.parametrize("make", INNOCENT.values(), ids=INNOCENT)
def test_keys_of_real_data_pass(make: Callable[[], list[Any]], charge: Callable[[Any, Budget], None]) -> None:
    """In whatever order they come, and with what budget they have."""
    keys = make()
    size = sum(map(size_of, keys))
    for order in (keys, random.Random(3).sample(keys, len(keys))):
        budget = Budget(size)
        allowed = budget.left
        charge(order, budget)
        assert allowed - budget.left <= allowed


def size_of(key: Any) -> int:
    """Bytes of a key on the wire, or fewer."""
    if type(key) is tuple or type(key) is frozenset or type(key) is Record:
        return 4 + sum(map(size_of, key))
    if type(key) is Fraction:
        return 5 + (key.numerator * key.denominator).bit_length() // 8
    if type(key) is int:
        return 1 + key.bit_length() // 8
    return 1 if type(key) in (bool, type(None)) else 8


@pytest.fixture
def codec() -> Codec:
    return Codec(Limits(), lambda _: 0, lambda *_: memoryview(b""))


def reply(value: Any) -> bytes:
    return cbor2.dumps([0, value])


@pytest.mark.parametrize("number", [tags.SET, tags.FROZENSET, tags.MAP])
def test_the_codec_refuses_a_flood(codec: Codec, number: int) -> None:
    """Whichever container it would fill."""
    keys = FLOODS["equal hashes"]
    content = [part for key in keys for part in (key, None)] if number == tags.MAP else keys
    with pytest.raises(TooCostly, match="the same hash|the same places"):
        codec.decode(reply(tag(number, content)))


def test_sets_of_sets_multiply_the_comparisons(codec: Codec) -> None:
    """A few KB kept the host busy for minutes: each level multiplies what the level below it costs."""
    frame = reply(nest(lambda i: 1 + i * P, 3, 32))
    assert len(frame) < 400_000
    with pytest.raises(TooCostly, match="same hash"):
        codec.decode(frame)


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ({"a": [0, {"b": 1}, "FLOOD"]}, [1, "a", 2]),
        ([tag(tags.TUPLE, [[], "FLOOD"])], [1, 0, 1]),
        ([{"x": tag(tags.SET, [1])}, tag(tags.MAP, [1, 2]), {"y": 0, "z": {"k": "FLOOD"}}], [1, 2, "z", "k"]),
        ([1 << 70, b"b" * 300, "t" * 300, 1.5, None, tag(tags.RECORD, ["P", ["x"], ["FLOOD"]])], [1, 5, 2, 0]),
    ],
)  # fmt: skip
def test_an_error_says_which_value_was_refused(codec: Codec, value: Any, steps: list[Any]) -> None:
    """The way from the message to it, found again after the fact."""
    flood = tag(tags.SET, FLOODS["equal hashes"])
    with pytest.raises(TooCostly) as caught:
        codec.decode(reply(replaced(value, flood)))
    assert caught.value.steps == steps


def replaced(value: Any, flood: Any) -> Any:
    if value == "FLOOD":
        return flood
    if isinstance(value, cbor2.CBORTag):
        return tag(value.tag, replaced(value.value, flood))
    if isinstance(value, list):
        return [replaced(item, flood) for item in value]
    return {key: replaced(item, flood) for key, item in value.items()} if isinstance(value, dict) else value


def test_fields_that_overlap_are_looked_at_a_bounded_number_of_times(codec: Codec) -> None:
    """Sixty thousand fields of sixty megabytes took seconds and gigabytes; a union of a few is fine."""
    size = 1 << 20
    union = [[f"f{i}", 0, f"<U{size // 4}", []] for i in range(8)]
    made = codec.decode(reply(tag(tags.NDARRAY, [[size, union], [1], "C", bytes(size)])))[1]
    assert made.dtype.names == tuple(f"f{i}" for i in range(8))
    many = [[f"f{i}", 0, f"<U{size // 4}", []] for i in range(1024)]
    many = [[f"g{i}", 0, [size, many], []] for i in range(8)]
    with pytest.raises(TooCostly, match="overlap many times"):
        codec.decode(reply(tag(tags.NDARRAY, [[size, many], [1], "C", bytes(size)])))


def test_names_of_fields_are_texts_before_they_are_hashed() -> None:
    """Anything else could be a flood."""

    class Hashed:
        def __hash__(self) -> int:
            raise AssertionError("it was hashed")

    with pytest.raises(ValueError, match="identifiers"):
        Record("P", [Hashed(), Hashed()], [1, 2])  # type: ignore[list-item]


def test_unknown_zones_stop_costing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is searched for a bounded number of keys: then a list decides, and zones that exist are found all the same."""
    searched: list[str] = []

    def search(key: str) -> Any:
        searched.append(key)
        raise KeyError(key)

    monkeypatch.setattr(zones, "_found", {})
    monkeypatch.setattr("zoneinfo.ZoneInfo", search)
    for _ in range(2):
        assert all(zones.find(f"Nowhere/B{i}") is None for i in range(zones.MAX_SEARCHES + 100))
    assert len(searched) == zones.MAX_SEARCHES
    monkeypatch.setattr("zoneinfo.ZoneInfo", lambda key: UTC)
    assert zones.find("Europe/Berlin") is UTC


class Kept:
    """Stands for the cache of Python 3.12's fractions."""

    def __init__(self) -> None:
        self.currsize = 1000

    def cache_info(self) -> Kept:
        return self

    def cache_clear(self) -> None:
        self.currsize = 0


def test_fractions_are_charged_before_they_are_hashed(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 keeps hashes by numerator and denominator: 16,000 that met there took 48 s. Equal ones and small ones are no flood."""
    kept = Kept()
    monkeypatch.setattr(hash_floods, "_hash_cache", kept)
    flood = [tag(tags.FRACTION, [1 + i * P, 1 + (P << 20)]) for i in range(4000)]
    with pytest.raises(TooCostly, match="fractions have the same hash") as caught:
        codec.decode(reply([0, flood]))
    assert caught.value.steps[:2] == [1, 1]
    assert kept.currsize == 0
    honest = [tag(tags.FRACTION, [i, 3]) for i in (-1, -2, 1, 2)] * 2000
    assert len(codec.decode(reply(honest))[1]) == 8000


@pytest.mark.parametrize("number", [tags.SET, tags.FROZENSET])
@pytest.mark.parametrize("size", [5, 19])
def test_small_sets_are_compact(codec: Codec, number: int, size: int) -> None:
    """One that has just grown is mostly empty: a set of 5 took 728 bytes for 9 on the wire."""
    frame = reply([tag(number, list(range(size)))] * 2000)
    tracemalloc.start()
    try:
        kept = codec.decode(frame)
        assert tracemalloc.get_traced_memory()[1] <= 60 * len(frame)
    finally:
        tracemalloc.stop()
    assert kept[1][0] == set(range(size))


def test_keys_that_cannot_be_hashed() -> None:
    """That is for the caller to report."""
    with pytest.raises(TypeError):
        charge_set([[i] for i in range(100)], Budget())


def test_a_small_message_has_little_to_spend() -> None:
    """A guest may ask the host a thousand times a second: what each request may cost is a millisecond."""
    budget = Budget(0)
    budget.charge(UNITS_AT_LEAST, "all")
    with pytest.raises(TooCostly, match="one more: that would cost the host more than a value of this size may"):
        budget.charge(1, "one more")
