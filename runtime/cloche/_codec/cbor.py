"""CBOR encoding that never loses an exception raised by a signal handler (Ctrl-C). All frames are written through this module.

For a list, a tuple or a tag, cbor2 asks the abstract base classes whether the value is a mapping or a sequence (pyo3's `PyMapping`
and `PySequence`). Those checks run Python code; signal handlers run there too, and cbor2 swallows their exceptions. cbor2 makes no
such check for a type that has its own encoder, nor for numbers, texts, byte strings and dicts. Exceptions of an encoder propagate.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any, Final

from cbor2 import CBOREncoder, CBORTag, dump, dumps

from cloche.errors import ProtocolError

__all__ = ["TooLarge", "check_items", "write", "write_listless", "write_within"]


class TooLarge(Exception):
    """The message takes more than its limit of bytes.

    Args:
        size: bytes so far; there would be more.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _write_tag(encoder: CBOREncoder, tag: CBORTag) -> None:
    encoder.encode_semantic(tag.tag, tag.value)


def _write_none(encoder: CBOREncoder, _: None) -> None:
    encoder.encode_none()


_ENCODERS: Final[dict[type, Any]] = {
    list: CBOREncoder.encode_array,
    tuple: CBOREncoder.encode_array,
    dict: CBOREncoder.encode_map,
    CBORTag: _write_tag,
    # not needed for correctness: cbor2 raises and catches a KeyError for each value whose type is missing here
    int: CBOREncoder.encode_int,
    str: CBOREncoder.encode_string,
    float: CBOREncoder.encode_float,
    bytes: CBOREncoder.encode_bytes,
    bool: CBOREncoder.encode_bool,
    type(None): _write_none,
}

write: Final = partial(dumps, encoders=_ENCODERS)
"""Encode any value made of the types in `_ENCODERS`; returns the CBOR bytes."""

write_listless: Final = dumps
"""Encode numbers, booleans, None, texts, byte strings, or (nested) dicts of these, in half the time of `write`: cbor2 runs no
Python code for them. A value with a list, tuple or tag must go through `write`, or Ctrl-C can be lost."""


class _Room(BytesIO):
    """A file that takes a limited number of bytes. cbor2 calls `writable`, too: as Python code it could lose an exception."""

    def __init__(self, size: int, before: int) -> None:
        super().__init__()
        self._size = before
        self._max_size = before + size

    def write(self, data: Any) -> int:
        self._size += len(data)
        if self._size > self._max_size:
            raise TooLarge(self._size)
        return super().write(data)


def write_within(value: Any, room: int, before: int = 0, *, listless: bool = False) -> bytes:
    """As `write`, with a limit that holds while the bytes are made: the same text or list in many places takes room in each.

    cbor2 hands over 4 KiB at a time, so this takes no longer than `write` does.

    Args:
        value: as for `write`.
        room: bytes allowed.
        before: bytes of the message that are not in this part of it, for the error.
        listless: whether the value is one for `write_listless`.

    Raises:
        TooLarge: it takes more than `room` bytes.
    """
    file = _Room(room, before)
    dump(value, file, encoders=None if listless else _ENCODERS)
    return file.getvalue()


def check_items(frame: bytes, most: int) -> None:
    """Count the items of a frame, as the guest's validator does: small items cost far more memory decoded than encoded.

    Raises:
        ProtocolError: the frame has more than `most` items, or is not well-formed CBOR.
    """
    at, size = 0, len(frame)
    for _ in range(most):
        if at >= size:
            return
        head = frame[at]
        at += 1
        major, short = head >> 5, head & 31
        length = short
        if short >= 24:
            wide = 1 << (short - 24)
            if wide > 8:
                raise ProtocolError("the reply is not well-formed")
            length = int.from_bytes(frame[at : at + wide])
            at += wide
        if major == 2 or major == 3:
            at += length
    if at < size:
        raise ProtocolError(f"the reply has more than value_nodes={most} items")
