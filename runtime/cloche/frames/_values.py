"""Columns of Arrow as values that can be sent: numpy arrays where numpy has the type, else lists of Python's values."""

from __future__ import annotations

import datetime as dt
import itertools
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from cloche.frames._arrow import Column, Type, batches, bits
from cloche_wire.array import Array

__all__ = ["check_labels", "columns"]

_NUMBERS: Final = {
    "c": "|i1", "C": "|u1", "s": "<i2", "S": "<u2", "i": "<i4", "I": "<u4", "l": "<i8", "L": "<u8",
    "e": "<f2", "f": "<f4", "g": "<f8",
}  # fmt: skip
_UNITS: Final = {"s": "s", "m": "ms", "u": "us", "n": "ns"}
_PER_SECOND: Final = {"s": 1, "m": 10**3, "u": 10**6, "n": 10**9}
_NAT: Final = -(1 << 63)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class RefusedError(TypeError):
    """A column that cannot become values without a loss. The text says what can be done about it."""


def check_labels(labels: Iterable[Any]) -> None:
    """Check that no two columns have the same label.

    Raises:
        TypeError: two have.
    """
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            raise TypeError(f"two columns are called {label!r}: give them different names")
        seen.add(label)


def columns(table: Any) -> dict[str, Any]:
    """See `cloche.frames.from_arrow`."""
    kind, parts = batches(table)
    if kind.format != "+s":
        raise TypeError(f"{type(table).__name__} is one column and no table: give a table with columns")
    names = [child.name for child in kind.children]
    check_labels(names)
    found: dict[str, Any] = {}
    for index, name in enumerate(names):
        try:
            found[name] = concatenated([values(part.children[index]) for part in parts]) if parts else []
        except RefusedError as error:
            raise TypeError(f"column {name!r}: {error}") from None
    return found


def values(column: Column) -> Any:
    """The items of a column: an array (a view of the column's memory, where that is possible), or a list."""
    kind = column.type
    if column.dictionary is not None:
        return _taken(column, column.dictionary)
    code = kind.format
    if code in _NUMBERS:
        return _numbers(column, _NUMBERS[code])
    if code == "b":
        return _booleans(column)
    if code == "n":
        return [None] * column.length
    if code[:2] in ("ts", "tD", "td", "tt"):
        return _times(column)
    for prefixes, read in _READERS:
        if code.startswith(prefixes):
            return _nulled(column, read(column))
    raise RefusedError(f"Arrow's type {code!r} has no counterpart: cast the column")


def concatenated(parts: Sequence[Any]) -> Any:
    """The items of several batches of one column."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, list) for part in parts):  # a batch without nulls is an array, and one with them a list
        return [item for part in parts for item in (part if isinstance(part, list) else part.tolist())]
    if isinstance(parts[0], Array):
        return Array(parts[0].dtype, (sum(map(len, parts)),), b"".join(part.data for part in parts))
    import numpy as np

    return np.concatenate(parts)


def _made(dtype: str, count: int, data: Any) -> Any:
    """An array over bytes: numpy's, or `cloche.Array` where numpy is not installed."""
    try:
        import numpy as np
    except ModuleNotFoundError:
        return Array(dtype, (count,), data, readonly=memoryview(data).readonly)
    return np.frombuffer(data, np.dtype(dtype), count)


def _size(dtype: str) -> int:
    return int(dtype[2:])


def _numbers(column: Column, dtype: str) -> Any:
    size = _size(dtype)
    data = column.buffer(1, (column.offset + column.length) * size)[column.offset * size :]
    found = _made(dtype, column.length, data)
    valid = column.valid()
    return found if valid is None else [item if ok else None for item, ok in zip(found.tolist(), valid, strict=True)]


def _booleans(column: Column) -> Any:
    end = column.offset + column.length
    found = bits(column.buffer(1, (end + 7) // 8), column.offset, column.length)
    valid = column.valid()
    if valid is not None:
        return [item if ok else None for item, ok in zip(found, valid, strict=True)]
    return _made("|b1", column.length, bytes(found))


def _integers(column: Column, index: int, count: int, size: int) -> memoryview:
    """`count` integers of a buffer, from the column's offset on."""
    data = column.buffer(index, (column.offset + count) * size)[column.offset * size :]
    return data.cast("i") if size == 4 else data.cast("q")


def _times(column: Column) -> Any:
    code = column.type.format
    size = 4 if code in ("tdD", "tts", "ttm") else 8
    numbers = _integers(column, 1, column.length, size)
    if code.startswith("tt"):
        return _nulled(column, [_time_of_day(number, code[2]) for number in _used(column, numbers)])
    if code.startswith("ts") and (zone := code.partition(":")[2]):
        tz = _zone(zone)
        return _nulled(column, [_moment(number, code[2]).astimezone(tz) for number in _used(column, numbers)])
    unit = "D" if code == "tdD" else "ms" if code == "tdm" else _UNITS[code[2]]
    dtype = f"<{'m' if code.startswith('tD') else 'M'}8[{unit}]"
    valid = column.valid()
    if valid is None and size == 8:
        return _made(dtype, column.length, numbers.cast("B"))
    flags = valid or [True] * column.length
    filled = array("q", [number if ok else _NAT for number, ok in zip(numbers, flags, strict=True)])
    return _made(dtype, column.length, memoryview(filled).cast("B").toreadonly())


def _used(column: Column, numbers: Iterable[int]) -> list[int]:
    """The numbers, with 0 in the place of nulls, whose numbers say nothing."""
    valid = column.valid()
    return list(numbers) if valid is None else [n if ok else 0 for n, ok in zip(numbers, valid, strict=True)]


def _microseconds(number: int, unit: str) -> int:
    whole, rest = divmod(number * 10**6, _PER_SECOND[unit])
    if rest:
        raise RefusedError(
            "its times have nanoseconds, which Python's do not: cast it to microseconds, or drop its time zone"
        )
    return whole


def _moment(number: int, unit: str) -> dt.datetime:
    try:
        return _EPOCH + dt.timedelta(microseconds=_microseconds(number, unit))
    except OverflowError:
        raise RefusedError("it has times beyond the years 1 to 9999: drop its time zone") from None


def _time_of_day(number: int, unit: str) -> dt.time:
    return (_EPOCH + dt.timedelta(microseconds=_microseconds(number, unit))).time()


def _zone(name: str) -> dt.tzinfo:
    if name[0] in "+-":
        hours, minutes = int(name[1:3]), int(name[-2:])
        offset = dt.timedelta(hours=hours, minutes=minutes)
        return dt.timezone(-offset if name[0] == "-" else offset)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise RefusedError(f"its time zone {name!r} is not known here: convert it to UTC") from None


def _nulled(column: Column, items: list[Any]) -> list[Any]:
    valid = column.valid()
    return items if valid is None else [item if ok else None for item, ok in zip(items, valid, strict=True)]


def _offsets(column: Column, size: int) -> list[int]:
    """Where each item begins in what the column is made of, and where the last one ends."""
    return _integers(column, 1, column.length + 1, size).tolist() if column.length else [0]


def _strings(column: Column) -> list[Any]:
    code = column.type.format
    offsets = _offsets(column, 4 if code in "uz" else 8)
    ranges = itertools.pairwise(offsets)
    data = bytes(column.buffer(2, offsets[-1]))
    if code in "zZ":
        return [data[start:end] for start, end in ranges]
    if data.isascii():  # decoded at once, since positions are the same
        text = data.decode("ascii")
        return [text[start:end] for start, end in ranges]
    return [data[start:end].decode("utf-8") for start, end in ranges]


def _views(column: Column) -> list[Any]:
    """Strings of 12 bytes at most are in the view itself, others in a buffer that it names."""
    views = bytes(column.buffer(1, (column.offset + column.length) * 16)[column.offset * 16 :])
    count = len(column.addresses)
    lengths = column.buffer(count - 1, (count - 3) * 8).cast("q").tolist()
    buffers = [column.buffer(2 + i, length) for i, length in enumerate(lengths)]
    flags = column.valid() or itertools.repeat(True)
    found = [
        b""
        if not ok
        else views[place + 4 : place + 4 + length]
        if length <= 12
        else bytes(buffers[index][start : start + length])
        for place, (length, _, index, start), ok in zip(
            range(0, len(views), 16), struct.iter_unpack("=i4sii", views), flags, strict=False
        )
    ]
    return found if column.type.format == "vz" else [item.decode("utf-8") for item in found]


def _fixed(column: Column) -> list[bytes]:
    size = int(column.type.format[2:])
    data = bytes(column.buffer(1, (column.offset + column.length) * size))
    return [data[i * size : (i + 1) * size] for i in range(column.offset, column.offset + column.length)]


def _decimals(column: Column) -> list[Decimal]:
    _, scale, *rest = (int(word) for word in column.type.format[2:].split(","))
    size = (rest[0] if rest else 128) // 8
    data = column.buffer(1, (column.offset + column.length) * size)
    found = []
    for i in range(column.offset, column.offset + column.length):
        number = int.from_bytes(data[i * size : (i + 1) * size], sys.byteorder, signed=True)
        digits = tuple(map(int, str(abs(number))))
        found.append(Decimal((int(number < 0), digits, -scale)))  # exact, whatever the context's precision
    return found


def _items(column: Column) -> list[Any]:
    found = values(column)
    return found if isinstance(found, list) else _plain(found)


def _plain(found: Any) -> list[Any]:
    if getattr(getattr(found, "dtype", None), "kind", "") in ("M", "m"):  # tolist would make numbers of nanoseconds
        return list(found)
    items: list[Any] = found.tolist()
    return items


def _lists(column: Column) -> list[Any]:
    code = column.type.format
    if code.startswith("+w"):
        size = int(code[3:])
        ranges = [(i * size, (i + 1) * size) for i in range(column.offset, column.offset + column.length)]
    elif code in ("+vl", "+vL"):
        width = 4 if code == "+vl" else 8
        starts = _integers(column, 1, column.length, width)
        sizes = _integers(column, 2, column.length, width)
        ranges = [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    else:
        ranges = list(itertools.pairwise(_offsets(column, 8 if code == "+L" else 4)))
    items = _items(column.children[0])
    return [items[start:end] for start, end in ranges]


def _structs(column: Column) -> list[dict[str, Any]]:
    names = [child.name for child in column.type.children]
    if len(set(names)) < len(names):
        raise RefusedError(f"it has two fields of one name: {sorted(names)}")
    parts = [_items(child)[column.offset : column.offset + column.length] for child in column.children]
    return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)] if parts else [{}] * column.length


def _maps(column: Column) -> list[list[tuple[Any, Any]]]:
    keys, items = map(_items, column.children[0].children)
    pairs = list(zip(keys, items, strict=False))
    return [pairs[start:end] for start, end in itertools.pairwise(_offsets(column, 4))]


def _taken(column: Column, dictionary: Column) -> list[Any]:
    """The values of a column of indices (categories)."""
    own = Column(
        Type(column.type.format, column.type.name), column.offset, column.length, column.null_count, column.addresses, (), None,
        column.owner,
    )  # fmt: skip
    indices, found = values(own), _items(dictionary)
    return [
        None if index is None else found[index]
        for index in (indices if isinstance(indices, list) else indices.tolist())
    ]


_READERS: Final[tuple[tuple[tuple[str, ...], Callable[[Column], list[Any]]], ...]] = (
    (("u", "U", "z", "Z"), _strings),
    (("vu", "vz"), _views),
    (("w:",), _fixed),
    (("d:",), _decimals),
    (("+l", "+L", "+w", "+v"), _lists),
    (("+s",), _structs),
    (("+m",), _maps),
)
