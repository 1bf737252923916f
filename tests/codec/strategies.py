"""Values for Hypothesis: everything that can cross the boundary, and how to compare what arrives with what was sent."""

from __future__ import annotations

import dataclasses
import enum
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloche_wire.record import Record


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Config:
    name: str
    options: Any
    count: int = 0


class Color(enum.Enum):
    RED = "red"
    NUMBER = 7


class Text(str):
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


class Items(list):  # type: ignore[type-arg]
    pass


ints = st.one_of(
    st.integers(-30, 300),
    st.integers(-(1 << 65), 1 << 65),
    st.integers(0, 2000).flatmap(lambda bits: st.integers(-(1 << bits), 1 << bits)),
    st.sampled_from(
        [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 63) - 1, -(1 << 64), -(1 << 64) - 1]
    ),
)
floats = st.floats()
texts = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(), max_size=20),  # surrogates included
    st.builds(
        lambda text, n: text * n, st.text(min_size=1, max_size=4), st.sampled_from([1000, 1366, 4095, 4096, 5000])
    ),
)
byte_strings = st.one_of(st.binary(max_size=40), st.builds(bytes, st.sampled_from([4095, 4096, 10_000])))
atoms = st.one_of(st.none(), st.booleans(), ints, floats, texts, byte_strings)

zones = st.one_of(
    st.none(),
    st.sampled_from(
        [ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")]
    ),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
moments = st.one_of(
    st.datetimes(timezones=zones),
    st.dates(),
    st.builds(lambda t, fold: t.replace(fold=fold), st.times(timezones=zones), st.sampled_from([0, 1])),
    st.timedeltas(),
)
numbers = st.one_of(
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.builds(Decimal, st.text("0123456789", min_size=1, max_size=60)),
)
leaves = st.one_of(atoms, moments, numbers, st.uuids())

scalar_dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(endianness="?", min_len=1, max_len=8),
    hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=8),
)


def untitled(dtype: np.dtype) -> np.dtype:
    """The dtype without the titles that numpy fields may have beside their names: those are not sent."""
    if dtype.subdtype:
        return np.dtype((untitled(dtype.base), dtype.shape))
    if dtype.names is None:
        return dtype
    fields = [dtype.fields[name] for name in dtype.names]
    return np.dtype(
        {
            "names": dtype.names,
            "formats": [untitled(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
    )


structures = hnp.nested_dtypes(scalar_dtypes, max_leaves=4, max_itemsize=200).filter(
    lambda d: d.shape == () and d.itemsize
)
dtypes = st.one_of(scalar_dtypes, structures.map(untitled))
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of every dtype and layout; their bytes are random where every pattern is a value."""
    dtype = draw(dtypes)
    shape = draw(shapes)
    size = math.prod(shape) * dtype.itemsize
    data = bytearray(draw(st.randoms(use_true_random=False)).randbytes(size))
    if dtype.names is not None or dtype.kind in "bSUV":
        array = np.zeros(shape, dtype)
        if dtype.kind == "b":
            array[...] = np.frombuffer(data, np.uint8).reshape(shape) & 1
        elif dtype.kind in "SU":
            array[...] = draw(st.text("abcäß€", max_size=8)).encode("ascii", "replace").decode() or "x"
    else:
        array = np.ndarray(shape, dtype, data)
    layout = draw(st.sampled_from(["C", "F", "reversed", "transposed", "strided", "readonly"]))
    if layout == "F":
        array = np.asfortranarray(array) if array.ndim else array
    elif layout == "reversed" and array.ndim:
        array = array[::-1]
    elif layout == "transposed":
        array = array.T
    elif layout == "strided" and array.ndim:
        array = array[..., ::2]
    elif layout == "readonly":
        array.flags.writeable = False
    return array


@st.composite
def scalars(draw: st.DrawFn) -> np.generic:
    array = draw(arrays())
    return array.reshape(-1)[0] if array.size else np.float32(draw(st.floats(width=32)))


hashables = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        ints,
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.binary(max_size=20),
        moments,
        st.uuids(),
        st.fractions(),
    ),
    lambda inner: st.one_of(st.tuples(), st.tuples(inner, inner), st.frozensets(inner, max_size=4)),
    max_leaves=6,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=12), inner, max_size=6),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=5),
        st.frozensets(hashables, max_size=5),
        st.builds(Point, inner, inner),
        st.builds(Config, st.text(max_size=5), inner),
    )


plain_values = st.recursive(
    st.one_of(st.none(), st.booleans(), ints, floats, st.text(max_size=30), st.binary(max_size=30)),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=12), inner, max_size=8)),
    max_leaves=40,
)
"""What CBOR has types for: no tags but bignums."""

values = st.recursive(st.one_of(leaves, arrays(), scalars()), containers, max_leaves=20)
"""All that can cross."""


def arriving(value: Any) -> Any:
    """What a value is on the other side."""
    kind = type(value)
    if isinstance(value, (Point, Config)):
        fields = value._fields if isinstance(value, Point) else [field.name for field in dataclasses.fields(value)]
        return Record(kind.__qualname__, fields, [arriving(getattr(value, field)) for field in fields])
    if kind in (list, tuple, set, frozenset):
        return kind(map(arriving, value))
    if kind is dict:
        return {arriving(key): arriving(item) for key, item in value.items()}
    return value


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit: types, NaN, -0.0, the fold and zone of a time, dtype, shape, order and flags of arrays."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is float:
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if kind is complex:
        return same(left.real, right.real) and same(left.imag, right.imag)
    if kind is list or kind is tuple:
        return len(left) == len(right) and all(map(same, left, right))
    if kind is dict:
        return len(left) == len(right) and all(
            same(a, b) for pair in zip(left.items(), right.items(), strict=True) for a, b in zip(*pair, strict=True)
        )
    if kind is set or kind is frozenset:
        return sorted(map(repr_key, left)) == sorted(map(repr_key, right))  # NaN is not equal to itself
    if kind is Record:
        return left._name == right._name and same(left._asdict(), right._asdict())
    if kind is datetime or kind is time:
        return repr(left) == repr(right) and str(left.tzinfo) == str(right.tzinfo) and left.fold == right.fold
    if kind is Decimal:
        return str(left) == str(right)
    if kind is np.ndarray:
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
            and left.flags.writeable == right.flags.writeable
        )
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    return bool(left == right)


def is_plain(value: Any) -> bool:
    """Whether CBOR itself has types for all of it."""
    if type(value) is list:
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str, bytes)


def repr_key(value: Any) -> str:
    """Tells apart what ``==`` does not: 1, True and 1.0."""
    if type(value) is frozenset:
        return f"frozenset{sorted(map(repr_key, value))}"
    if type(value) is tuple:
        return f"tuple{list(map(repr_key, value))}"
    return f"{type(value).__name__}:{value!r}"


__all__ = [
    "UUID",
    "Color",
    "Config",
    "Fraction",
    "Items",
    "Mapping",
    "Point",
    "Text",
    "arrays",
    "arriving",
    "date",
    "hashables",
    "leaves",
    "plain_values",
    "same",
    "scalars",
    "values",
]  # fmt: skip
