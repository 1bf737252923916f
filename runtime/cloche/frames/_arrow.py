"""Arrow's C data interface, read: https://arrow.apache.org/docs/format/CDataInterface.html. No library of Arrow is imported.

The structs come from a library of the host's own process (pyarrow, polars, duckdb ...), which is trusted; nothing of a guest's
comes here. Pointers are read in this module alone.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_int, c_int64, c_void_p, py_object
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

__all__ = ["Column", "Type", "batches", "bits"]


class _Schema(Structure):
    pass


_Schema._fields_ = [
    ("format", c_char_p), ("name", c_char_p), ("metadata", c_void_p), ("flags", c_int64), ("n_children", c_int64),
    ("children", POINTER(POINTER(_Schema))), ("dictionary", POINTER(_Schema)), ("release", c_void_p),
    ("private_data", c_void_p),
]  # fmt: skip


class _Array(Structure):
    pass


_Array._fields_ = [
    ("length", c_int64), ("null_count", c_int64), ("offset", c_int64), ("n_buffers", c_int64), ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)), ("children", POINTER(POINTER(_Array))), ("dictionary", POINTER(_Array)),
    ("release", c_void_p), ("private_data", c_void_p),
]  # fmt: skip


class _Stream(Structure):
    _fields_ = [
        ("get_schema", c_void_p), ("get_next", c_void_p), ("get_last_error", c_void_p), ("release", c_void_p),
        ("private_data", c_void_p),
    ]  # fmt: skip


_RELEASE: Final = CFUNCTYPE(None, c_void_p)
_GET: Final = CFUNCTYPE(c_int, c_void_p, c_void_p)
_ERROR: Final = CFUNCTYPE(c_char_p, c_void_p)
_pointer_of: Final = ctypes.PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
"""A prototype of this module's own: the one in `ctypes.pythonapi` is shared with everybody."""


class _Owned:
    """A struct of the interface that was moved out of a capsule, and is released with this object."""

    def __init__(self, struct: Any, address: int | None = None) -> None:
        self.struct = struct
        if address is not None:  # move: the capsule's destructor then has nothing to release
            ctypes.memmove(byref(struct), address, ctypes.sizeof(struct))
            type(struct).from_address(address).release = None

    def __del__(self, release: Any = _RELEASE, byref: Any = byref) -> None:
        if self.struct.release:
            release(self.struct.release)(byref(self.struct))

    @classmethod
    def of(cls, kind: type[Structure], capsule: object, name: bytes) -> Self:
        return cls(kind(), _pointer_of(capsule, name))


@dataclass(frozen=True, slots=True)
class Type:
    """A type of Arrow's.

    Attributes:
        format: as in the C data interface, e.g. "l" for int64.
        name: the field's name.
        children: the types of its parts.
        dictionary: the type of the values, for a type of indices.
        extension: the name of what the producer takes the type for, e.g. "arrow.uuid"; "" for Arrow's own.
    """

    format: str
    name: str
    children: tuple[Type, ...] = ()
    dictionary: Type | None = None
    extension: str = ""

    @classmethod
    def read(cls, schema: Any) -> Self:
        return cls(
            schema.format.decode(),
            (schema.name or b"").decode("utf-8", "replace"),
            tuple(cls.read(schema.children[i].contents) for i in range(schema.n_children)),
            cls.read(schema.dictionary.contents) if schema.dictionary else None,
            _metadata(schema.metadata).get(b"ARROW:extension:name", b"").decode("utf-8", "replace"),
        )


def _metadata(address: int | None) -> dict[bytes, bytes]:
    """The pairs at an address: their number, then each key and each value behind its length."""
    if not address:
        return {}
    place = address

    def number() -> int:
        nonlocal place
        place += 4
        return int(struct.unpack("=i", ctypes.string_at(place - 4, 4))[0])

    def text() -> bytes:
        nonlocal place
        size = number()
        place += size
        return ctypes.string_at(place - size, size)

    return {text(): text() for _ in range(number())}


@dataclass(frozen=True, slots=True)
class Column:
    """The array of one field, as views of the producer's memory, which they keep.

    Attributes:
        type: its type.
        offset: index of the first item in the buffers.
        length: number of items.
        null_count: number of nulls; -1 if the producer has not counted.
        addresses: of the buffers; 0 for one that is missing.
        children: the arrays of its parts.
        dictionary: the values, for an array of indices.
        owner: keeps the memory.
    """

    type: Type
    offset: int
    length: int
    null_count: int
    addresses: tuple[int, ...]
    children: tuple[Column, ...]
    dictionary: Column | None
    owner: _Owned = field(repr=False)

    @classmethod
    def read(cls, array: Any, kind: Type, owner: _Owned) -> Self:
        dictionary = kind.dictionary
        return cls(
            kind,
            array.offset,
            array.length,
            array.null_count,
            tuple(array.buffers[i] or 0 for i in range(array.n_buffers)),
            tuple(cls.read(array.children[i].contents, kind.children[i], owner) for i in range(array.n_children)),
            cls.read(array.dictionary.contents, dictionary, owner) if dictionary is not None else None,
            owner,
        )

    def part(self, start: int, length: int) -> Column:
        """`length` items from the item `start` on."""
        return replace(self, offset=self.offset + start, length=length, null_count=-1 if self.null_count else 0)

    def buffer(self, index: int, size: int, start: int = 0) -> memoryview:
        """`size` bytes of a buffer from the byte `start` on, read-only, without a copy."""
        address = self.addresses[index]
        if not size or not address:
            return memoryview(bytes(size))
        block = (c_char * size).from_address(address + start)
        block.owner = self.owner  # type: ignore[attr-defined]  # views of the block keep the block, and the block the memory
        return memoryview(block).cast("B").toreadonly()

    def valid(self) -> list[bool] | None:
        """For each item whether it is not null; None if no item is null."""
        if not self.null_count or not self.addresses or not self.addresses[0]:
            return None
        first = self.offset // 8
        end = self.offset + self.length
        flags = bits(self.buffer(0, (end + 7) // 8 - first, first), self.offset % 8, self.length)
        return None if all(flags) else flags


def bits(data: memoryview, offset: int, length: int) -> list[bool]:
    """Items of a bitmap, the lowest bit of each byte first."""
    found: list[bool] = []
    for byte in data[offset // 8 :]:
        found += _BITS[byte]
    start = offset % 8
    return found[start : start + length]


_BITS: Final = [[bool(byte >> i & 1) for i in range(8)] for byte in range(256)]


def batches(table: Any) -> tuple[Type, list[Column]]:
    """The type and the batches of anything that exports ``__arrow_c_stream__`` or ``__arrow_c_array__``.

    Raises:
        TypeError: `table` exports neither.
        OSError: the producer failed; the text is its own.
    """
    if hasattr(table, "__arrow_c_stream__"):
        stream = _Owned.of(_Stream, table.__arrow_c_stream__(), b"arrow_array_stream")
        return _received(stream)
    if hasattr(table, "__arrow_c_array__"):
        schema, array = table.__arrow_c_array__()
        described = _Owned.of(_Schema, schema, b"arrow_schema")  # it must outlive the reading
        kind = Type.read(described.struct)
        owner = _Owned.of(_Array, array, b"arrow_array")
        return kind, [Column.read(owner.struct, kind, owner)]
    raise TypeError(
        f"{type(table).__name__} exports no Arrow data: it has neither __arrow_c_stream__ nor __arrow_c_array__"
    )


def _received(stream: _Owned) -> tuple[Type, list[Column]]:
    schema = _Owned(_Schema())
    _got(stream, stream.struct.get_schema, schema)
    kind = Type.read(schema.struct)
    return kind, [Column.read(owner.struct, kind, owner) for owner in _arrays(stream)]


def _arrays(stream: _Owned) -> Iterator[_Owned]:
    while True:
        owner = _Owned(_Array())
        _got(stream, stream.struct.get_next, owner)
        if not owner.struct.release:  # the end
            return
        yield owner


def _got(stream: _Owned, function: int, target: _Owned) -> None:
    code = _GET(function)(byref(stream.struct), byref(target.struct))
    if code:
        text = _ERROR(stream.struct.get_last_error)(byref(stream.struct)) or b"no reason given"
        raise OSError(code, text.decode("utf-8", "replace"))
