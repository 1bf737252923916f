"""Columns of Arrow as values that can be sent: numpy arrays where numpy has the type, else lists of Python's values."""

from __future__ import annotations

import datetime as dt
import itertools
import re
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
_DAY: Final = 86400 * 10**6
_PLAIN_EXTENSIONS: Final = frozenset({"", "arrow.json"})
"""Those whose values are what is stored: the others' numbers or bytes would arrive without their meaning."""
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
    _check_objects(table)
    kind, parts = batches(table)
    if kind.format != "+s":
        raise TypeError(f"{type(table).__name__} is one column and no table: give a table with columns")
    names = [child.name for child in kind.children]
    check_labels(names)
    if any(part.valid() is not None for part in parts):
        raise TypeError("some of its rows are null as a whole: drop or fill them first")
    found: dict[str, Any] = {}
    for index, name in enumerate(names):
        try:
            found[name] = _column(kind.children[index], index, parts)
        except RefusedError as error:
            raise TypeError(f"column {name!r}: {error}") from None
    return found


def _column(kind: Type, index: int, parts: Sequence[Column]) -> Any:
    """The items of one field of all batches. The offset of a batch of rows is not in those of its fields."""
    if not parts:
        return _empty(kind)
    return concatenated([values(part.children[index].part(part.offset, part.length)) for part in parts])


def _empty(kind: Type) -> Any:
    """A column without items: of the kind that it has with some."""
    code = kind.format
    if kind.dictionary is not None or kind.extension not in _PLAIN_EXTENSIONS:
        _check(kind)
        return []
    if code in _NUMBERS or code == "b":
        return _made(_NUMBERS.get(code, "|b1"), 0, b"")
    if code[:2] in ("ts", "tD", "td") and not code.partition(":")[2]:
        return _made(_dtype(code), 0, b"")
    return []


def _check_objects(table: Any) -> None:
    """Refuse polars' columns of objects, which it exports as addresses in this process."""
    if type(table).__module__.partition(".")[0] != "polars":
        return
    found = table.schema if hasattr(table, "schema") else {table.name: table.dtype} if hasattr(table, "dtype") else {}
    for name, dtype in found.items():
        if _has_objects(dtype):
            raise TypeError(
                f"column {name!r}: it has Python's objects: make values of them that have a type of their own"
            )


def _has_objects(dtype: Any) -> bool:
    kind = dtype if isinstance(dtype, type) else type(dtype)
    parts = [getattr(dtype, "inner", None), *(part.dtype for part in getattr(dtype, "fields", ()))]
    return kind.__name__ == "Object" or any(_has_objects(part) for part in parts if part is not None)


def _check(kind: Type) -> None:
    if kind.extension not in _PLAIN_EXTENSIONS:
        raise RefusedError(f"its type {kind.extension!r} has no counterpart: cast the column to what it stores")


def values(column: Column) -> Any:
    """The items of a column: an array (a view of the column's memory, where that is possible), or a list."""
    kind = column.type
    _check(kind)
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
    found = _made(dtype, column.length, column.buffer(1, column.length * size, column.offset * size))
    valid = column.valid()
    return found if valid is None else [item if ok else None for item, ok in zip(found.tolist(), valid, strict=True)]


def _booleans(column: Column) -> Any:
    first = column.offset // 8
    end = column.offset + column.length
    found = bits(column.buffer(1, (end + 7) // 8 - first, first), column.offset % 8, column.length)
    valid = column.valid()
    if valid is not None:
        return [item if ok else None for item, ok in zip(found, valid, strict=True)]
    return _made("|b1", column.length, bytes(found))


def _integers(column: Column, index: int, count: int, size: int) -> memoryview:
    """`count` integers of a buffer, from the column's offset on."""
    data = column.buffer(index, count * size, column.offset * size)
    return data.cast("i") if size == 4 else data.cast("q")


def _times(column: Column) -> Any:
    code = column.type.format
    size = 4 if code in ("tdD", "tts", "ttm") else 8
    numbers = _integers(column, 1, column.length, size)
    if code.startswith("tt"):
        return _nulled(column, [_time_of_day(number, code[2]) for number in _used(column, numbers)])
    if code.startswith("ts") and (zone := code.partition(":")[2]):
        tz = _zone(zone)
        return _nulled(column, [_moment(number, code[2], tz) for number in _used(column, numbers)])
    dtype = _dtype(code)
    valid = column.valid()
    if size == 8 and column.length and _least(numbers if valid is None else _used(column, numbers)) == _NAT:
        raise RefusedError(f"it has the value {_NAT}, which would arrive as a missing one: replace it")
    if valid is None and size == 8:
        return _made(dtype, column.length, numbers.cast("B"))
    flags = valid or [True] * column.length
    filled = array("q", [number if ok else _NAT for number, ok in zip(numbers, flags, strict=True)])
    return _made(dtype, column.length, memoryview(filled).cast("B").toreadonly())


def _dtype(code: str) -> str:
    unit = "D" if code == "tdD" else "ms" if code == "tdm" else _UNITS[code[2]]
    return f"<{'m' if code.startswith('tD') else 'M'}8[{unit}]"


def _least(numbers: memoryview | list[int]) -> int:
    try:
        import numpy as np
    except ModuleNotFoundError:
        return min(numbers)
    return int(np.asarray(numbers, np.int64).min())


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


def _moment(number: int, unit: str, zone: dt.tzinfo) -> dt.datetime:
    try:
        return (_EPOCH + dt.timedelta(microseconds=_microseconds(number, unit))).astimezone(zone)
    except OverflowError:
        raise RefusedError("it has times beyond the years 1 to 9999: drop its time zone") from None


def _time_of_day(number: int, unit: str) -> dt.time:
    whole = _microseconds(number, unit)
    if not 0 <= whole < _DAY:
        raise RefusedError("it has times of day beyond 23:59:59: cast it to integers")
    return (_EPOCH + dt.timedelta(microseconds=whole)).time()


def _zone(name: str) -> dt.tzinfo:
    if parts := re.fullmatch(r"([+-])([01]\d|2[0-3]):?([0-5]\d)", name):
        offset = dt.timedelta(hours=int(parts[2]), minutes=int(parts[3]))
        return dt.timezone(-offset if parts[1] == "-" else offset)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
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
    base = offsets[0]  # what is before it belongs to other batches
    data = bytes(column.buffer(2, offsets[-1] - base, base))
    ranges = ((start - base, end - base) for start, end in itertools.pairwise(offsets))
    if code in "zZ":
        return [data[start:end] for start, end in ranges]
    if data.isascii():  # decoded at once, since positions are the same
        text = data.decode("ascii")
        return [text[start:end] for start, end in ranges]
    return _decoded(column, [data[start:end] for start, end in ranges])


def _views(column: Column) -> list[Any]:
    """Strings of 12 bytes at most are in the view itself, others in a buffer that it names."""
    views = bytes(column.buffer(1, column.length * 16, column.offset * 16))
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
    return found if column.type.format == "vz" else _decoded(column, found)


def _decoded(column: Column, items: list[bytes]) -> list[str]:
    """Texts; "" in the place of nulls, whose bytes say nothing."""
    flags = column.valid() or itertools.repeat(True)
    try:
        return [item.decode("utf-8") if ok else "" for item, ok in zip(items, flags, strict=False)]
    except UnicodeDecodeError as error:
        raise RefusedError(f"it has a text that is no UTF-8 ({error}): cast it to binary") from None


def _fixed(column: Column) -> list[bytes]:
    size = int(column.type.format[2:])
    data = bytes(column.buffer(1, column.length * size, column.offset * size))
    return [data[i * size : (i + 1) * size] for i in range(column.length)]


def _decimals(column: Column) -> list[Decimal]:
    _, scale, *rest = (int(word) for word in column.type.format[2:].split(","))
    size = (rest[0] if rest else 128) // 8
    data = column.buffer(1, column.length * size, column.offset * size)
    found = []
    for i in range(column.length):
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
    if (flags := column.valid()) is not None:  # where a null item would be says nothing
        ranges = [place if ok else (0, 0) for place, ok in zip(ranges, flags, strict=True)]
    return _ranges_of(_items, column.children[0], ranges)


def _ranges_of(read: Callable[[Column], list[Any]], child: Column, ranges: list[tuple[int, int]]) -> list[list[Any]]:
    """For each range the items of a child in it. What is outside of all of them may be another batch's, and is not read."""
    used = [place for place in ranges if place[0] < place[1]]
    base = min((start for start, _ in used), default=0)
    items = read(child.part(base, max((end for _, end in used), default=0) - base))
    return [items[start - base : end - base] if start < end else [] for start, end in ranges]


def _structs(column: Column) -> list[dict[str, Any]]:
    names = [child.name for child in column.type.children]
    if len(set(names)) < len(names):
        raise RefusedError(f"it has two fields of one name: {sorted(names)}")
    parts = [_items(child.part(column.offset, column.length)) for child in column.children]
    return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)] if parts else [{}] * column.length


def _maps(column: Column) -> list[list[tuple[Any, Any]]]:
    return _ranges_of(_pairs, column.children[0], list(itertools.pairwise(_offsets(column, 4))))


def _pairs(entries: Column) -> list[tuple[Any, Any]]:
    keys, items = (_items(child.part(entries.offset, entries.length)) for child in entries.children)
    return list(zip(keys, items, strict=True))


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
