"""Reads the Python frames of a guest from its memory, whatever the guest is doing: running, hanging, or stopped for good.

All that is read is hostile: pointers lead anywhere, lists of frames have no end, texts are gigabytes. So every read is checked by
the core (`cloche_read`), the number of frames and the length of texts are bounded, and what makes no sense ends the walk. What a
walk reads in all is bounded, too: a caller waits for its error meanwhile. Where things lie comes from the image itself
(``abi.LAYOUT_WORDS``), as it was before any node ran.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cloche._texts import clean
from cloche._wasm.core import Status, core

if TYPE_CHECKING:
    from cloche._wasm.slot import Slot

__all__ = ["FrameInfo", "python_frames"]

MAX_FRAMES: Final = 100
_MAX_READS: Final = 10_000
"""Of one walk. A frame takes about 15; the guest's own between them, and those of C code, take fewer."""
_MAX_TEXT: Final = 200
_MAX_TABLE: Final = 1 << 16
_MAX_TABLES: Final = 1 << 17
"""Bytes of line tables that one walk looks through. The innermost frames come first; a frame beyond that has no line."""
_U32: Final = struct.Struct("<I")
_OWN: Final = ("<cloche>/cloche_", "<frozen importlib")
"""Files of the guest's runtime, and of the import system."""


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """One Python frame of a guest; untrusted text, made harmless.

    Attributes:
        file: of the code.
        line: number, 0 if it cannot be told.
        function: qualified name.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'  File "{self.file}", line {self.line}, in {self.function}\n'


class _Unreadable(Exception):
    """What lies there is not what it should be."""


class _Reader:
    def __init__(self, slot: Slot, layout: dict[str, int]) -> None:
        self._handle = slot.handle.value
        self._read = core().read
        self._reads_left = _MAX_READS
        self._table_bytes_left = _MAX_TABLES
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
        """A text object; its first characters."""
        layout = self.layout
        if self.word(address + layout["object_type"]) != layout["text_type"]:
            raise _Unreadable
        state = self.word(address + layout["text_state"])
        if not state & layout["text_compact_bit"]:
            raise _Unreadable
        length = min(self.word(address + layout["text_length"]), _MAX_TEXT)
        kind = state >> layout["text_kind_shift"] & layout["text_kind_mask"]
        form = {1: "B", 2: "H", 4: "I"}.get(kind)
        if form is None or not length:
            raise _Unreadable
        at = layout["text_ascii_data" if state & layout["text_ascii_bit"] else "text_data"]
        # not by a codec: Python would import some of them here, and a worker process can open no file
        numbers = struct.unpack(f"<{length}{form}", self.bytes_at(address + at, kind * length))
        return clean("".join([chr(number) if number <= sys.maxunicode else "\ufffd" for number in numbers]))

    def line(self, address: int, first: int, offset: int) -> int:
        """The line of an instruction by the line table that lies there; 0 if it cannot be told."""
        layout = self.layout
        if self.word(address + layout["object_type"]) != layout["bytes_type"]:
            raise _Unreadable
        length = min(self.word(address + layout["object_size"]), _MAX_TABLE, self._table_bytes_left)
        table = self.bytes_at(address + layout["bytes_data"], length)
        try:
            line, walked = _line(table, first, offset)
        except IndexError:
            line, walked = 0, length
        self._table_bytes_left -= walked
        return line


def python_frames(slot: Slot, layout: dict[str, int]) -> tuple[FrameInfo, ...]:
    """The frames that the guest is in now, the outermost first; those of the guest's own runtime are left out.

    A guest that runs meanwhile changes them: what cannot be read is left out.

    Args:
        slot: the guest.
        layout: where things lie (``abi.LAYOUT_WORDS``).
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
    layout = reader.layout
    code = reader.word(address + layout["frame_executable"])
    if reader.word(code + layout["object_type"]) != layout["code_type"]:
        raise _Unreadable
    file = reader.text(reader.word(code + layout["code_filename"]))
    if file.startswith(_OWN):
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
    """The line of an instruction, and how many bytes of the table it took to find it.

    Objects/locations.md of CPython 3.13 has the format: entries of a byte code, length and varints.
    """
    at = start = 0
    while at < len(table):
        first = table[at]
        at += 1
        kind, length = first >> 3 & 15, 2 * ((first & 7) + 1)
        delta = 0
        if kind in (13, 14):  # no columns; all columns
            delta, at = _signed(table, at)
        elif kind in (10, 11, 12):  # one line
            delta = kind - 10
        line += delta
        if start <= offset < start + length:
            return (0 if kind == 15 else line), at
        start += length
        while at < len(table) and not table[at] & 128:
            at += 1
    raise IndexError


def _signed(table: bytes, at: int) -> tuple[int, int]:
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
