"""One object in several places is sent in each of them, in both directions, and no value of a few objects becomes a flood."""

from __future__ import annotations

import dataclasses
import enum
import sys
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche import EncodeError, Limits
from cloche._codec.codec import Codec
from cloche_wire.values import lower, refuse_doubles

from . import strategies as s
from .conftest import DEPTH, REPLY_BYTES

TWICE = {
    "list": [1, {"a": 2}],
    "empty list": [],
    "dict": {"score": 1},
    "map": {1: 2},
    "set": {1, 2},
    "tuple": (1, [2]),
    "frozenset": frozenset([1]),
    "bytearray": bytearray(b"ab"),
    "large bytearray": bytearray(9000),
    "large bytes": bytes(9000),
    "text": "text",
    "large text": "ä" * 9000,
    "numbers": list(range(999)),
    "numbers out of line": [0.5] * 9999,
    "array": np.arange(3),
    "large array": np.arange(9999.0).reshape(99, 101),
    "array of texts": np.array(["a", "bc"]),
    "numpy scalar": np.float32(1),
    "record": s.Point(1, [s.Point(2, 3)]),
    "list with a body": [bytes(9000), {"k": bytearray(5000)}],
    "enum of a list": s.Mapping(a=s.Items([1])),
    "decimal": Decimal("1.50"),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "a list": lambda x: [x, x],
    "a dict": lambda x: {"a": x, "b": x},
    "a map": lambda x: {1: x, (2,): x},
    "a tuple": lambda x: (x, (x,)),
    "a record": lambda x: s.Point(x, x),
    "other depths": lambda x: [x, {"inner": [[[x]]]}, x],
    "an object twice around it": lambda x: [y := {"y": [x]}, y, x],
}


def arriving(value: Any) -> Any:
    """As `strategies.arriving`, also for subclasses and bytearrays."""
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, (s.Mapping, s.Items)):
        value = dict(value) if isinstance(value, dict) else list(value)
    if type(value) is dict:
        return {s.arriving(key): arriving(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(arriving, value))
    if isinstance(value, s.Point):
        return s.arriving(s.Point(*map(arriving, value)))
    return s.arriving(value)


@pytest.mark.parametrize("where", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("shared", TWICE.values(), ids=TWICE.keys())
def test_what_is_in_two_places_arrives_in_both(crossing: Callable[[Any], Any], shared: Any, where: Any) -> None:
    """As json and msgpack do it: a node often returns a list and one item of it beside it."""
    value = where(shared)
    assert s.same(crossing(value), arriving(value))


@pytest.mark.parametrize("shared", [[1], {"a": [1]}, {1: 2}, {1}, np.zeros(3), np.zeros(9000)], ids=repr)
def test_the_copies_are_separate_ones(crossing: Callable[[Any], Any], shared: Any) -> None:
    """Identity is not kept: docs/reference/types.md says so."""
    first, second = crossing([shared, shared])
    assert first is not second
    if isinstance(first, np.ndarray):
        assert not np.shares_memory(first, second)


shared_values = st.lists(s.leaves, min_size=1, max_size=4).flatmap(
    lambda leaves: st.lists(
        st.tuples(st.sampled_from("ldtsmp"), st.lists(st.integers(0, 50), max_size=3)), min_size=1, max_size=12
    ).map(lambda plan: grown(leaves, plan))
)


def grown(leaves: list[Any], plan: list[tuple[str, list[int]]]) -> Any:
    """A value whose parts are taken from those made before, so that nearly all are in several places."""
    pool: list[Any] = list(leaves)
    for kind, picks in plan:
        parts = [pool[-1 - pick % len(pool)] for pick in picks]
        made: Any = parts
        if kind == "d":
            made = {str(i): part for i, part in enumerate(parts)}
        elif kind == "m":
            made = dict(enumerate(parts))
        elif kind == "t":
            made = tuple(parts)
        elif kind == "p":
            made = s.Point(parts, parts)
        elif kind == "s":
            made = [parts, parts]
        pool.append(made)
    return pool[-1]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(shared_values)
def test_any_value_without_cycles_arrives(crossing: Callable[[Any], Any], value: Any) -> None:
    """Whatever is shared with what. A value that becomes larger than the limits is the next test's."""
    try:
        arrived = crossing(value)
    except (EncodeError, ValueError) as error:
        assert "value_nodes" in str(error)  # Hypothesis finds such values, too
    else:
        assert s.same(arrived, arriving(value))


def doubled(inner: Any, wrap: Callable[[Any], Any], times: int = 50) -> Any:
    for _ in range(times):
        inner = wrap(inner)
    return inner


FLOODS = {
    "lists": lambda: doubled([], lambda x: [x, x]),
    "dicts": lambda: doubled({}, lambda x: {"a": x, "b": x}),
    "maps": lambda: doubled({}, lambda x: {1: x, 2: x}),
    "tuples": lambda: doubled((), lambda x: (x, x)),
    "records": lambda: doubled(0, lambda x: s.Point(x, x)),
    "subclasses": lambda: doubled([], lambda x: s.Items([x, x])),
    "frozensets": lambda: doubled(frozenset(), lambda x: frozenset([x, frozenset([x, 1])]), 25),
    "wide": lambda: doubled([0], lambda x: [x] * 1000, 4),
    "deep in a plain value": lambda: {"a": [1, 2, {"b": doubled({}, lambda x: {"a": x, "b": x}, 40)}]},
    "mixed": lambda: doubled(0, lambda x: [(x, {"k": x})], 20),
    "bodies": lambda: doubled([bytes(5000)], lambda x: [x, x], 40),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_refused_before_it_takes_memory(native: Any, flood: Callable[[], Any]) -> None:
    """Fifty objects can be a tree of 2**50."""
    value = flood()
    codec = Codec(Limits(value_depth=DEPTH, value_nodes=10_000), native.place, native.lift, native.drop)
    native.limits(REPLY_BYTES, 10_000, DEPTH)
    tracemalloc.start()
    try:
        with pytest.raises(EncodeError, match="value_nodes|request_bytes") as host:
            codec.encode([2, 7, value], "data")
        with pytest.raises(
            ValueError, match=r"result.*: .*(value_nodes is 10000|reply_bytes)|in several places of a key"
        ):
            native.reply([0, value])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert host.value.limit in ("value_nodes", "request_bytes")
    assert host.value.reached is not None
    assert host.value.value is not None
    assert host.value.reached > host.value.value


MANY = {
    "texts": ["x" * 4000] * 50_000,
    "texts in a dict": dict.fromkeys(map(str, range(50_000)), "x" * 4000),
    "keys": [{"k" * 100_000: 1}] * 5000,
    "long texts": ["ä" * 50_000] * 5000,
    "surrogates": ["\ud800" * 3000] * 50_000,
    "bytearrays": [bytearray(4000)] * 50_000,
    "arrays": [np.zeros(400)] * 50_000,
    "large arrays": [np.zeros(4000)] * 5000,
    "numbers": [[0.5] * 400] * 2000,
    "decimals": [Decimal("1" * 4000)] * 50_000,
    "tuples of a text": [("x" * 4000,)] * 50_000,
}


@pytest.mark.parametrize("value", MANY.values(), ids=MANY.keys())
def test_bytes_are_counted_while_they_are_made(native: Any, value: Any) -> None:
    """Each is some kilobytes here, and 6 to 500 megabytes as a tree."""
    codec = Codec(Limits(request_bytes=1 << 20), native.place, native.lift, native.drop)
    native.limits(1 << 20, 1_000_000, DEPTH)
    tracemalloc.start()
    try:
        with pytest.raises(EncodeError, match=r"data: [0-9]+ bytes are more than Limits.request_bytes=1048576") as host:
            codec.encode([2, 7, value], "data")
        with pytest.raises(ValueError, match=r"result.*: the value takes [0-9]+ bytes or more; the limit reply_bytes"):
            native.reply([0, value])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert host.value.limit == "request_bytes"


def test_depth_is_that_of_the_deepest_place(native: Any, codec: Codec) -> None:
    """A list that fits in its first place may be too deep in its second one."""
    chain = doubled([], lambda x: [x], DEPTH // 2)
    deep = doubled([chain], lambda x: [x], DEPTH // 2)
    for value in ([chain, deep], [deep, chain], [chain, (chain, deep)]):
        with pytest.raises(EncodeError, match=f"nested more than {DEPTH} containers deep"):
            codec.encode([2, 7, value], "data")
        with pytest.raises(ValueError, match=f"nested more than {DEPTH} containers deep"):
            native.reply([0, value])


def test_a_request_may_have_more_items_than_value_nodes(native: Any) -> None:
    """That limit bounds replies, and what is sent again. What is in one place is bounded by its bytes."""
    codec = Codec(Limits(value_nodes=1000), native.place, native.lift, native.drop)
    rows = [{"id": i, "name": f"row {i}"} for i in range(2000)]
    for value in (rows, [tuple(rows)], [row.copy() for row in rows]):
        assert native.request(codec.encode([2, 7, value], "data"))[2] == value
    for few in (["text"] * 5000, [s.Color.RED] * 5000, [None] * 5000):
        assert len(native.request(codec.encode([2, 7, few], "data"))[2]) == 5000
    same = [rows[0]] * 300
    assert native.request(codec.encode([2, 7, same], "data"))[2] == same
    with pytest.raises(EncodeError, match="what is in several places would be sent as more than 1000 items"):
        codec.encode([2, 7, [rows[0]] * 1000], "data")


def test_items_are_counted_as_the_validator_counts(native: Any) -> None:
    """To the item: what the guest's encoder lets through, the validator does, and nothing less."""
    values: list[Any] = [
        1,
        [1, [2]],
        {"a": (1, "x" * 9000)},
        {1: {2}},
        list(range(500)),
        np.zeros((2, 3)),
        1 << 90,
        1.5,
    ]
    values += [s.Point(1, 2), Decimal(1), np.float32(1), np.zeros(9000), frozenset([1]), b"", "\ud800", 1j, s.Color.RED]
    for value in values:
        native.limits(REPLY_BYTES, 1_000_000, DEPTH)
        frame = native.reply([0, value])
        nodes = next(n for n in range(1000) if native.check(frame, n, DEPTH))
        native.limits(REPLY_BYTES, nodes, DEPTH)
        assert native.reply([0, value])
        native.limits(REPLY_BYTES, nodes - 1, DEPTH)
        with pytest.raises(ValueError, match=rf"the value has \d+ items or more; the limit value_nodes is {nodes - 1}"):
            native.reply([0, value])


def test_log_records_are_not_counted(native: Any) -> None:
    """They have bounds of their own, and encoding one must not fail."""
    native.limits(REPLY_BYTES, 3, DEPTH)
    assert native.loads(native.dumps([1, 2, {"a": [3, 4]}])) == [1, 2, {"a": [3, 4]}]


def test_time_does_not_depend_on_the_tree(native: Any) -> None:
    """Both refuse a tree of 2**50 items with as many steps as one of 2**20."""

    def steps(times: int) -> int:
        codec = Codec(Limits(value_nodes=1000), native.place, native.lift, native.drop)
        count = 0

        def trace(*_: Any) -> None:
            nonlocal count
            count += 1

        sys.setprofile(trace)
        try:
            with pytest.raises(EncodeError):
                codec.encode([2, 7, doubled((), lambda x: (x, x), times)], "data")
        finally:
            sys.setprofile(None)
        return count

    assert steps(50) < 2 * steps(20) + 1000


@dataclasses.dataclass(eq=False)
class Pair:
    """Its hash is its identity, so a key of many of them costs nothing before it is sent."""

    first: Any
    second: Any


def _pair(inner: Any) -> Any:
    return Pair(inner, inner)


def _enum(inner: Any) -> Any:
    return enum.Enum("Member", [("member", (inner, inner))]).member  # type: ignore[attr-defined]  # made here


@pytest.mark.parametrize("wrap", [_pair, _enum])
def test_a_key_of_a_few_objects_becomes_no_flood(wrap: Callable[[Any], Any]) -> None:
    """Parts of a key that come again are counted before anything hashes what arrives."""
    key: Any = 0
    for _ in range(50):
        key = wrap(key)
    codec = Codec(Limits(), lambda data: 0, lambda address, length: memoryview(b""))
    for value in ({key: 1}, {key}, {(key, 1)}):
        with pytest.raises(EncodeError, match=r"in several places of a key .* \(value_nodes\)") as caught:
            codec.encode([1, 1, value], "data")
        assert (caught.value.limit, caught.value.path) == ("value_nodes", "data")


def test_a_guest_counts_the_parts_of_keys_too() -> None:
    """There an enum is a key as cheaply."""
    key: Any = 0
    for _ in range(50):
        key = _enum(key)
    with pytest.raises(ValueError, match="in several places of a key"):
        refuse_doubles([key, 1])
    refuse_doubles([_enum(3), 1])


def test_a_comparison_that_raises_is_a_difference() -> None:
    """Comparing a value with its copy runs code of the value's class."""

    class Odd(int):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = int.__hash__

    with pytest.raises(TypeError, match="it would be another value"):
        lower(Odd(3))
