"""Other addresses of long values in a recorded frame: a replay whose guest has allocated more puts them elsewhere.

That is so under a debugger, whose own part lives in the guest. Otherwise a replay finds the same addresses: no frame changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cloche.errors import ClocheError
from cloche_wire import tags

__all__ = ["moved"]

_OUT_OF_LINE: Final = frozenset((tags.BYTES_AT, tags.TEXT_AT, tags.BODY_AT, tags.SHARED_AT))
_UNSIGNED, _BYTES, _TEXT, _ARRAY, _TAG = 0, 2, 3, 4, 6
_WIDE: Final = 0x1A  # a number of four bytes


def _heads(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Position, major type and argument of each item of a CBOR frame of definite lengths (RFC 8949, section 3)."""
    at = 0
    while at < len(frame):
        start, head = at, frame[at]
        major, argument = head >> 5, head & 31
        at += 1
        if argument >= 24:
            width = 1 << (argument - 24)
            if width > 8 or at + width > len(frame):
                raise ClocheError("a recorded message is malformed")
            argument = int.from_bytes(frame[at : at + width])
            at += width
        if major in (_BYTES, _TEXT):
            at += argument
        yield start, major, argument


def moved(frame: bytes, where: Mapping[int, tuple[int, int]]) -> bytes:
    """The frame with the addresses of blocks that lie elsewhere now.

    Args:
        frame: a message or an answer.
        where: recorded address of a block -> its address now, and its length.

    Raises:
        ClocheError: the frame is malformed.
    """
    changed = bytearray(frame)
    heads = _heads(frame)
    for _, major, argument in heads:
        if major != _TAG or argument not in _OUT_OF_LINE:
            continue
        _, array, count = next(heads, (0, 0, 0))
        at, number, address = next(heads, (0, 0, 0))
        if (array, count, number) != (_ARRAY, 2, _UNSIGNED):
            raise ClocheError("a recorded message is malformed")
        now = next((new + address - old for old, (new, size) in where.items() if old <= address < old + size), address)
        if now != address:
            if frame[at] != _WIDE:
                raise ClocheError("a recorded message is malformed")
            changed[at + 1 : at + 5] = now.to_bytes(4)
    return bytes(changed)
