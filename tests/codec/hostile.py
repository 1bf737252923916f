"""Replies that are made to cost the host more than their bytes, built from the table of tags.

`RECIPES` has an attack for each tag, by number. tests/codec/test_cost.py fails if a tag of `cloche_wire.tags` has none: a new tag is
attacked the day it is added.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import cbor2
from cbor2 import CBORTag

from cloche import ProtocolError
from cloche._codec import hash_floods
from cloche._codec.codec import REFUSED, Codec
from cloche._codec.encoder import UNCOMPARABLE
from cloche_wire import tags

P: Final = (1 << 61) - 1
"""Numbers that differ by multiples of it have one hash."""

NOT_TAGS: Final = frozenset({"TYPED_FIRST", "TYPED_LAST", "OWN_FIRST", "OWN_LAST"})
"""Numbers of `cloche_wire.tags` that are no tags of their own."""

BLOB: Final = bytes(1 << 16)
"""What lies in guest memory, wherever a reply points to."""


def all_tags() -> dict[int, str]:
    """Every tag of the protocol and its name, as `cloche_wire.tags` has them."""
    named = {
        value: name
        for name, value in vars(tags).items()
        if type(value) is int and not name.startswith("_") and name not in NOT_TAGS
    }
    return named | {tag: f"TYPED {dtype}" for tag, dtype in tags.TYPED_DTYPES.items()}


@dataclass(frozen=True)
class Recipe:
    """How to attack with one tag.

    Attributes:
        small: the i-th of many different values that are short on the wire.
        equal: the i-th of many different values with one hash; None: it has no hash, or one that nobody can foresee.
        large: single values that are extreme in some way.
        heavy: the i-th of many different numbers that hash as 5 and are dear to compare with a number of another kind.
    """

    small: Callable[[int], Any]
    equal: Callable[[int], Any] | None = None
    large: list[Any] = field(default_factory=list)
    heavy: Callable[[int], Any] | None = None


def tag(number: int, content: Any) -> CBORTag:
    return CBORTag(number, content)


def text(number: int, make: Callable[[int], str]) -> Callable[[int], Any]:
    return lambda i: tag(number, make(i))


def heavy_decimal(i: int) -> str:
    """2000 digits."""
    return str(Decimal((1 << 6640) // P * P + P * i + 5))


def heavy_fraction(i: int) -> list[int]:
    """4096 bits each."""
    denominator = (1 << 4095) + 2 * i + 1
    value = Fraction(5 * denominator % P + P * ((1 << 4030) + i), denominator)
    return [value.numerator, value.denominator]


def heavy_float(i: int) -> float:
    """Close to the smallest: as a decimal it has hundreds of digits. (2 ** 61 hashes as 1.)"""
    return 5 * 2.0 ** (-61 * (i % 17))


def structure(depth: int, fields: int, inner: Any = "|b1", size: int = 1) -> Any:
    """A dtype whose fields all lie on the same bytes, within a dtype of that kind."""
    if not depth:
        return inner
    return [size, [[f"{i}", 0, structure(depth - 1, fields, inner, size), []] for i in range(fields)]]


def array_of(number: int, content: Callable[[bytes], Any], item: int) -> Recipe:
    return Recipe(lambda i: content(bytes(item * (i % 3))), None, [content(bytes(1 << 15))])


def _typed(number: int) -> Recipe:
    item = int(tags.TYPED_DTYPES[number][2:])
    return array_of(number, lambda body: tag(number, body), item)


RECIPES: Final[dict[int, Recipe]] = {
    **{number: _typed(number) for number in tags.TYPED_DTYPES},
    tags.POS_BIGNUM: Recipe(
        lambda i: (1 << 64) + i,
        lambda i: 1 + (i + 8) * P,
        [1 << 100_000, 10**20_000],
        lambda i: 5 + ((1 + i) * P << 6100),
    ),
    tags.NEG_BIGNUM: Recipe(lambda i: -(1 << 65) - i, lambda i: -1 - (i + 8) * P, [-(1 << 100_000)]),
    tags.ROW_MAJOR: Recipe(
        lambda i: tag(tags.ROW_MAJOR, [[], tag(64, b"a")]),
        None,
        [tag(tags.ROW_MAJOR, [[1 << 25, 0], tag(64, b"")]), tag(tags.ROW_MAJOR, [[1] * 32, tag(64, b"a")])],
    ),
    tags.COLUMN_MAJOR: Recipe(
        lambda i: tag(tags.COLUMN_MAJOR, [[1, 1], tag(64, b"a")]),
        None,
        [tag(tags.COLUMN_MAJOR, [[0] * 32, tag(64, b"")])],
    ),
    tags.SET: Recipe(lambda i: tag(tags.SET, list(range(i % 20))), None, [tag(tags.SET, list(range(2000)))]),
    tags.UUID: Recipe(
        lambda i: tag(tags.UUID, i.to_bytes(16, "big")), lambda i: tag(tags.UUID, (5 + i * P).to_bytes(16, "big"))
    ),
    tags.COMPLEX: Recipe(
        lambda i: tag(tags.COMPLEX, [float(i), 0.5]),
        lambda i: tag(tags.COMPLEX, [2.0 ** (61 * (i % 16)), 2.0 ** (61 * (i // 16 % 16))]),
        [tag(tags.COMPLEX, [5e-324, 0.0])],
        lambda i: tag(tags.COMPLEX, [heavy_float(i), 0.0]),
    ),
    tags.TUPLE: Recipe(
        lambda i: tag(tags.TUPLE, [i]), lambda i: tag(tags.TUPLE, [7, 1 + i * P]), [tag(tags.TUPLE, [0] * 20_000)]
    ),
    tags.FROZENSET: Recipe(
        lambda i: tag(tags.FROZENSET, [i]),
        lambda i: tag(tags.FROZENSET, [3, 1 + i * P]),
        [tag(tags.FROZENSET, list(range(19)))],
    ),
    tags.MAP: Recipe(
        lambda i: tag(tags.MAP, [i, 0]), None, [tag(tags.MAP, [one for i in range(1000) for one in (i << 12, 0)])]
    ),
    tags.SURROGATES: Recipe(
        lambda i: tag(tags.SURROGATES, b"\xed\xa0\x80%d" % i), None, [tag(tags.SURROGATES, b"\xed\xa0\x80" * 10_000)]
    ),
    tags.BYTES_AT: Recipe(lambda i: tag(tags.BYTES_AT, [64, i % 99]), None, [tag(tags.BYTES_AT, [64, len(BLOB)])]),
    tags.TEXT_AT: Recipe(lambda i: tag(tags.TEXT_AT, [64, i % 99]), None, [tag(tags.TEXT_AT, [64, len(BLOB)])]),
    tags.NDARRAY: Recipe(
        lambda i: tag(tags.NDARRAY, [[1, [["a", 0, "|b1", []]]], [], "C", b"\1"]),
        None,
        [
            tag(tags.NDARRAY, [structure(1, 1024), [1], "C", b"\1"]),
            tag(tags.NDARRAY, [structure(2, 32), [1], "C", b"\1"]),
            tag(tags.NDARRAY, [structure(7, 3), [1], "C", b"\1"]),
            tag(tags.NDARRAY, [structure(2, 16, f"<U{1 << 10}", 1 << 12), [4], "F", bytes(1 << 14)]),
            tag(tags.NDARRAY, [[1 << 16, [["a", 0, "|b1", [1] * 30 + [1 << 16]]]], [], "C", bytes(1 << 16)]),
            tag(tags.NDARRAY, ["|V1", [0] * 32, "C", b""]),
        ],
    ),
    tags.SCALAR: Recipe(
        lambda i: tag(tags.SCALAR, ["<i8", i.to_bytes(8, "little")]),
        lambda i: tag(tags.SCALAR, ["<i8", (3 + i % 4 * P).to_bytes(8, "little")]),
        [
            tag(tags.SCALAR, [structure(2, 32), b"\1"]),
            tag(tags.SCALAR, ["<U8192", b"a\0\0\0" * (1 << 13)]),
            tag(tags.SCALAR, ["|S8192", b"a" * (1 << 13)]),
            *(
                tag(tags.SCALAR, [dtype, bytes([1] * int(dtype[2:]))])
                for dtype in ("<f2", "<f4", "<f8", "<c16", "|b1", "<u8")
            ),
            tag(tags.SCALAR, ["<M8[s]", b"\1" + bytes(7)]),
            tag(tags.SCALAR, ["<m8[D]", b"\1" + bytes(7)]),
        ],
        lambda i: tag(tags.SCALAR, ["<f8", struct.pack("<d", heavy_float(i))]),
    ),
    tags.DATETIME: Recipe(
        lambda i: tag(tags.DATETIME, ["2024-01-01T00:00:00+01:00", 0, f"Area{i}/Place"]),
        None,
        [tag(tags.DATETIME, ["2024-01-01T00:00:00+01:00", 0, "A/" * 20_000])],
    ),
    tags.DATE: Recipe(text(tags.DATE, lambda i: f"{1 + i % 9999:04d}-01-01"), None, [tag(tags.DATE, "2" * 20_000)]),
    tags.TIME: Recipe(
        lambda i: tag(tags.TIME, [f"00:00:00.{1 + i % 999999:06d}", 0, f"Zone{i}"]),
        None,
        [tag(tags.TIME, ["00:00:00", 0, "Europe/" + "B" * 60_000])],
    ),
    tags.TIMEDELTA: Recipe(
        lambda i: tag(tags.TIMEDELTA, [i, 0, 0]), lambda i: tag(tags.TIMEDELTA, [-1 - i % 2, i // 2 % 86400, 0])
    ),
    tags.DECIMAL: Recipe(
        text(tags.DECIMAL, str),
        text(tags.DECIMAL, lambda i: str(1 + i * P)),
        [
            tag(tags.DECIMAL, "7" * 20_000),
            tag(tags.DECIMAL, "7" * 400_000),
            tag(tags.DECIMAL, "7E999999999999999999"),
            tag(tags.DECIMAL, "7E-999999999999999999"),
        ],
        lambda i: tag(tags.DECIMAL, heavy_decimal(i)),
    ),
    tags.FRACTION: Recipe(
        lambda i: tag(tags.FRACTION, [i, 1]),
        lambda i: tag(tags.FRACTION, [1 + i * P, 1]),
        [tag(tags.FRACTION, [3**2500, 2**4000]), tag(tags.FRACTION, [1 << 100_000, 3])],
        lambda i: tag(tags.FRACTION, heavy_fraction(i)),
    ),
    tags.RECORD: Recipe(
        lambda i: tag(tags.RECORD, ["P", ["x"], [i]]),
        lambda i: tag(tags.RECORD, ["P", ["x", "y"], [0, 1 + i * P]]),
        [
            tag(tags.RECORD, ["P", [f"f{i}" for i in range(2000)], list(range(2000))]),
            tag(tags.RECORD, ["P", [1 + i * P for i in range(2000)], [0] * 2000]),
            tag(tags.RECORD, ["P" * 20_000, [], []]),
        ],
    ),
    tags.OPAQUE: Recipe(lambda i: tag(tags.OPAQUE, [b"d", b"%d" % i]), None, [tag(tags.OPAQUE, [bytes(20_000), b""])]),
    tags.READONLY: Recipe(
        lambda i: tag(tags.READONLY, tag(64, b"")), None, [tag(tags.READONLY, tag(64, bytes(1 << 15)))]
    ),
    tags.BODY_AT: Recipe(
        lambda i: tag(64, tag(tags.BODY_AT, [64, i % 9])), None, [tag(64, tag(tags.BODY_AT, [64, 1 << 16]))]
    ),
    tags.SHARED_AT: Recipe(lambda i: tag(tags.SHARED_AT, [64, 1])),
    tags.NUMBERS: Recipe(
        lambda i: tag(tags.NUMBERS, [i % 2, bytes(8)]),
        None,
        [tag(tags.NUMBERS, [i, b"\x7f" * (1 << 16)]) for i in (0, 1)],
    ),
}

PLAIN: Final = Recipe(
    lambda i: [],
    lambda i: 1 + i * P,
    [list(range(2000)), "x" * 100_000, {f"{i}": i for i in range(4000)}, 5e-324, 1.7e308, None, True, b"x" * 10_000],
    heavy_float,
)
"""The attack with what needs no tag."""

HEAVY: Final = [make for recipe in [PLAIN, *RECIPES.values()] if (make := recipe.heavy)]
_EQUAL: Final = [make for recipe in [PLAIN, *RECIPES.values()] if (make := recipe.equal)]


def repeated(recipe: Recipe, count: int = 400) -> Any:
    """A list of many small values."""
    return [recipe.small(i) for i in range(count)]


def keyed(recipe: Recipe, count: int = 150) -> Iterator[Any]:
    """Sets and a map of many small values."""
    values = [recipe.small(i) for i in range(count)]
    yield tag(tags.SET, values)
    yield tag(tags.MAP, [one for value in values for one in (value, None)])


def flood(equal: Callable[[int], Any], count: int) -> Iterator[Any]:
    """Sets and a map of values with one hash, bare and within tuples and records."""
    values = [equal(i) for i in range(count)]
    yield tag(tags.SET, values)
    yield tag(tags.FROZENSET, [tag(tags.TUPLE, [0, value]) for value in values])
    yield tag(tags.MAP, [one for value in values for one in (tag(tags.RECORD, ["P", ["x"], [value]]), 0)])


def meeting(one: Callable[[int], Any], other: Callable[[int], Any], count: int) -> Any:
    """A set of numbers of two kinds with one hash: each of the one kind is compared with each of the other."""
    return tag(tags.SET, [*(one(i) for i in range(count)), *(other(i + count) for i in range(count))])


def nest(equal: Callable[[int], Any], depth: int, width: int, wrap: Callable[[Any], Any] = lambda value: value) -> Any:
    """Sets of sets whose items all have one hash, and which differ in one leaf: each level multiplies the comparisons."""

    def siblings(level: int, count: int) -> list[Any]:
        if not level:
            return [equal(i) for i in range(count)]
        items = siblings(level - 1, width - 1 + count)
        return [wrap(tag(tags.FROZENSET, [*items[: width - 1], items[width - 1 + j]])) for j in range(count)]

    return tag(tags.SET, siblings(depth - 1, width))


def one_sequence(size: int) -> list[int]:
    """Integers of different hashes that want the same slots of a dict of `size`: some fill a sequence, others walk along it."""
    slots, slot = [], 0
    for _ in range(size // 3):
        slots.append(slot)
        slot = (5 * slot + 1) % size
    taken, start, joining = set(slots), set(slots[: size // 30]), []
    for value in range(size, size << 12):
        slot, perturb = value % size, value
        while slot in taken and perturb:
            perturb >>= 5
            slot = (5 * slot + 1 + perturb) % size
        if slot in start and not perturb:
            joining.append(value)
            if len(joining) == size // 4:
                return slots + joining
    raise AssertionError("too few integers tried")


def mixture(rng: random.Random, depth: int = 4) -> Any:
    """A value in which anything may stand within anything."""
    if not depth:
        recipe = rng.choice([PLAIN, *RECIPES.values()])
        return rng.choice([recipe.small, recipe.equal or recipe.small])(rng.randrange(50))
    count = rng.choice([1, 2, 8, 24])
    equal = rng.choice(_EQUAL)
    inner = [mixture(rng, depth - 1) for _ in range(min(count, 3))]
    match rng.randrange(8):
        case 7:
            return meeting(rng.choice(HEAVY), rng.choice(HEAVY), count)
        case 0:
            return [*inner, *(mixture(rng, 0) for _ in range(count))]
        case 1:
            return {f"k{i}": value for i, value in enumerate(inner)}
        case 2:
            return tag(tags.TUPLE, [*inner, equal(count)])
        case 3:
            return tag(rng.choice([tags.SET, tags.FROZENSET]), [*inner, *(equal(i) for i in range(count))])
        case 4:
            keys = [*inner, *(tag(tags.TUPLE, [equal(i), equal(i + 1)]) for i in range(count))]
            return tag(tags.MAP, [one for key in keys for one in (key, mixture(rng, 0))])
        case 5:
            return tag(tags.RECORD, ["P", [f"f{i}" for i in range(len(inner))], inner])
        case _:
            wrap = rng.choice(
                [
                    lambda value: value,
                    lambda value: tag(tags.TUPLE, [value]),
                    lambda value: tag(tags.RECORD, ["P", ["x"], [value]]),
                ]
            )
            return [*inner, nest(equal, rng.choice([2, 3]), rng.choice([4, 8, 12]), wrap)]


def frame(value: Any) -> bytes:
    """A reply with that value."""
    return cbor2.dumps([0, value])


def decode(codec: Codec, frame: bytes) -> Any:
    """A value, or None if it is refused in one of the two ways that there are."""
    try:
        return codec.decode(frame)
    except (*REFUSED, ProtocolError):
        return None


def hashable(codec: Codec) -> Iterator[tuple[Any, int]]:
    """Values of all the recipes that can be keys, and the bytes of each."""
    for recipe in [PLAIN, *RECIPES.values()]:
        makers = [make for make in (recipe.small, recipe.equal, recipe.heavy) if make]
        for value in (*recipe.large, *(make(i) for make in makers for i in (1, 2))):
            message = frame(value)
            arrived = decode(codec, message)
            try:
                hash(arrived and arrived[1])
            except TypeError:
                continue
            if arrived:
                yield arrived[1], len(message)


def pairs(codec: Codec) -> Iterator[tuple[Any, Any]]:
    """Of values that can have one hash: those of texts and byte strings are secret, so that they meet their like alone."""
    values = [value for value, _ in hashable(codec)]
    for one, other in itertools.combinations_with_replacement(values, 2):
        if isinstance(one, (str, bytes)) == isinstance(other, (str, bytes)):
            yield one, other


def price(one: Any, other: Any) -> int:
    """Units charged for comparing two keys of equal hash once."""
    cost = hash_floods._ComparisonCost([one, other])
    return cost.of(one, 1) + cost.of(other, 1)


def are_equal(one: Any, other: Any) -> bool:
    """As a set asks it. A comparison that raises counts as no: the message is refused at the first."""
    try:
        return bool(one == other)
    except UNCOMPARABLE:
        return False


def shown(value: Any) -> str:
    """For a finding."""
    return f"int of {value.bit_length()} bits" if type(value) is int else f"{type(value).__name__} {ascii(value)[:40]}"
