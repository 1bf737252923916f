"""Reads the Python frames of a guest from its linear memory, whether the guest runs, hangs or was stopped.

The memory is hostile: a pointer may lead anywhere, the list of frames may have no end, a text may claim gigabytes. So the core
checks the range of every read (`cloche_read`); the number of frames and the length of each text are bounded; a frame that makes no
sense is left out, and a list of frames that breaks off ends the walk. The reads of one walk are bounded, too, because the caller of
the stopped guest waits for its error meanwhile. The interpreter's addresses and offsets come from the image as it was before any
node ran (``abi.LAYOUT_WORDS``).
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cloche._wasm.core import Status, core
from cloche.texts import clean

if TYPE_CHECKING:
    from cloche._wasm.slot import Slot

__all__ = ["FrameInfo", "python_frames"]

MAX_FRAMES: Final = 100
"""Number of frames that a walk returns at most: the innermost ones."""
_MAX_READS: Final = 10_000
"""Number of reads in one walk. A frame takes about 15 reads; frames of the guest's runtime and of C code, which the walk passes
over, take fewer."""
_MAX_TEXT_CHARACTERS: Final = 200
_MAX_TABLE_BYTES: Final = 1 << 16
"""Bytes of one code object's line table that are looked through."""
_MAX_WALKED_TABLE_BYTES: Final = 1 << 17
"""Bytes of line tables that one walk looks through, from the innermost frame outwards. Frames after that get line 0."""
_U32: Final = struct.Struct("<I")
_RUNTIME_FILES: Final = ("<cloche>/cloche_", "<frozen importlib")
"""How the file names of the guest's runtime and of Python's import system begin. Their frames are left out."""


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """One Python frame of a guest. Its texts are untrusted; control characters in them are shown as escapes.

    Attributes:
        file: the first 200 characters of the name of the code's file.
        line: line number from 1 on; 0 if unknown.
        function: the first 200 characters of the function's qualified name.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'  File "{self.file}", line {self.line}, in {self.function}\n'


class _Unreadable(Exception):
    """The bytes at an address are not the object expected there, or the walk has used up its reads."""


class _Reader:
    """Bounded reads from a guest's memory during one walk.

    Args:
        slot: the guest.
        layout: addresses, offsets and sizes by name (``abi.LAYOUT_WORDS``).
    """

    def __init__(self, slot: Slot, layout: dict[str, int]) -> None:
        self._handle = slot.handle.value
        self._read = core().read
        self._reads_left = _MAX_READS
        self._table_bytes_left = _MAX_WALKED_TABLE_BYTES
        self.layout = layout

    def bytes_at(self, address: int, length: int) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise _Unreadable
        room = ctypes.create_string_buffer(length)
        if not length or self._read(self._handle, address & 0xFFFF_FFFF, room, length) != Status.DONE:
            raise _Unreadable
        return room.raw

    def word(self, address: int) -> int:
        return int(_U32.unpack(self.bytes_at(address, 4))[0])

    def text(self, address: int) -> str:
        """The first characters of the text object at an address.

        Raises:
            _Unreadable: no text object lies there.
        """
        layout = self.layout
        if self.word(address + layout["object_type"]) != layout["text_type"]:
            raise _Unreadable
        state = self.word(address + layout["text_state"])
        if not state & layout["text_compact_bit"]:
            raise _Unreadable
        length = min(self.word(address + layout["text_length"]), _MAX_TEXT_CHARACTERS)
        kind = state >> layout["text_kind_shift"] & layout["text_kind_mask"]
        form = {1: "B", 2: "H", 4: "I"}.get(kind)
        if form is None or not length:
            raise _Unreadable
        at = layout["text_ascii_data" if state & layout["text_ascii_bit"] else "text_data"]
        # struct, not a codec: Python imports some codecs at their first use, and a confined worker process cannot open their files
        numbers = struct.unpack(f"<{length}{form}", self.bytes_at(address + at, kind * length))
        return clean("".join([chr(number) if number <= sys.maxunicode else "\ufffd" for number in numbers]))

    def line(self, address: int, first: int, offset: int) -> int:
        """The line number of an instruction; 0 if unknown.

        Args:
            address: address of the code object's line table, a bytes object.
            first: the code object's first line.
            offset: the instruction's offset in the code object's bytecode.

        Raises:
            _Unreadable: no bytes object lies there.
        """
        layout = self.layout
        if self.word(address + layout["object_type"]) != layout["bytes_type"]:
            raise _Unreadable
        length = min(self.word(address + layout["object_size"]), _MAX_TABLE_BYTES, self._table_bytes_left)
        table = self.bytes_at(address + layout["bytes_data"], length)
        try:
            line, walked = _line(table, first, offset)
        except IndexError:
            line, walked = 0, length
        self._table_bytes_left -= walked
        return line


def python_frames(slot: Slot, layout: dict[str, int]) -> tuple[FrameInfo, ...]:
    """The guest's current Python frames, outermost first, without those of the guest's runtime.

    A guest that is running changes its frames during the walk. A frame that cannot be read is left out.

    Args:
        slot: the guest.
        layout: addresses, offsets and sizes by name (`cloche._wasm.engine.Engine.layout`).
    """
    reader = _Reader(slot, layout)
    found: list[FrameInfo] = []
    for address in _walk(reader):
        try:
            info = _frame(reader, address)
        except _Unreadable:
            continue
        if info is not None:
            found.append(info)
            if len(found) == MAX_FRAMES:
                break
    return tuple(reversed(found))


def _walk(reader: _Reader) -> Iterator[int]:
    """The addresses of the interpreter's frames, innermost first, without those that stand for C code."""
    layout = reader.layout
    try:
        address = reader.word(layout["current_frame"])
        while address:
            if reader.bytes_at(address + layout["frame_owner"], 1)[0] != layout["frame_owned_by_cstack"]:
                yield address
            address = reader.word(address + layout["frame_previous"])
    except _Unreadable:
        return


def _frame(reader: _Reader, address: int) -> FrameInfo | None:
    """The frame at an address; None for a frame of the guest's runtime.

    Raises:
        _Unreadable: no frame lies there.
    """
    layout = reader.layout
    code = reader.word(address + layout["frame_executable"])
    if reader.word(code + layout["object_type"]) != layout["code_type"]:
        raise _Unreadable
    file = reader.text(reader.word(code + layout["code_filename"]))
    if file.startswith(_RUNTIME_FILES):
        return None
    function = reader.text(reader.word(code + layout["code_qualname"]))
    offset = reader.word(address + layout["frame_instr_ptr"]) - (code + layout["code_instructions"])
    line = struct.unpack("<i", reader.bytes_at(code + layout["code_firstlineno"], 4))[0]
    try:
        line = reader.line(reader.word(code + layout["code_linetable"]), line, offset)
    except _Unreadable:
        line = 0
    return FrameInfo(file, line, function)


def _line(table: bytes, line: int, offset: int) -> tuple[int, int]:
    """Find an instruction in a line table, whose format is in CPython 3.13's Objects/locations.md.

    Args:
        table: the table's entries: a byte with the entry's kind and length, then numbers in groups of six bits.
        line: the code object's first line.
        offset: the instruction's offset in the bytecode.

    Returns:
        the line number, or 0 for an instruction without one; and the number of the table's bytes that were looked through.

    Raises:
        IndexError: the table ends before the instruction, or is malformed.
    """
    at = start = 0
    while at < len(table):
        first = table[at]
        at += 1
        kind, length = first >> 3 & 15, 2 * ((first & 7) + 1)
        delta = 0
        if kind in (13, 14):  # PY_CODE_LOCATION_INFO_NO_COLUMNS, _LONG: the difference of lines follows
            delta, at = _signed(table, at)
        elif kind in (10, 11, 12):  # PY_CODE_LOCATION_INFO_ONE_LINE0 to 2: the kind is the difference of lines
            delta = kind - 10
        line += delta
        if start <= offset < start + length:
            return (0 if kind == 15 else line), at  # 15: PY_CODE_LOCATION_INFO_NONE
        start += length
        while at < len(table) and not table[at] & 128:
            at += 1
    raise IndexError


def _signed(table: bytes, at: int) -> tuple[int, int]:
    """The signed number that begins at an index of the table, and the index after it.

    Raises:
        IndexError: the table ends first, or the number has too many bytes.
    """
    value = shift = 0
    while True:
        byte = table[at]
        at += 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64:
            return (-(value >> 1) if value & 1 else value >> 1), at
        if shift > 30:
            raise IndexError
