"""The events of a `Tape` as bytes, and back. docs/reference/recordings.md is the specification; the bytes may be a stranger's."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import Any, Final

from cloche._sandbox import tape as on
from cloche._wasm import JOURNAL_BYTES
from cloche.errors import ClocheError
from cloche.texts import name as cleaned
from cloche_wire import abi

__all__ = ["packed", "unpacked"]

_HEAD: Final = struct.Struct("<BI")  # kind, bytes of the fields
_LENGTH: Final = struct.Struct("<I")
_PLACE: Final = struct.Struct("<II")  # address, length
_SETTING: Final = struct.Struct("<BQ")  # what, number
_CODE: Final = struct.Struct("<BB")  # code, reason
_BODY: Final = struct.Struct("<IIQ")  # address, length, checksum
_END: Final = struct.Struct("<BBI")  # told, is exact, records that are missing
_ADDRESS: Final = struct.Struct("<I")
_CODES: Final = frozenset((abi.ANSWER_NONE, abi.ANSWER_NO_MEMORY, abi.ANSWER_INTERRUPTED))
_MOST: Final = (1 << 32) - 1
_EVENT_BYTES: Final = 200
"""What an event takes in memory beside its content, and each value out of line and log record in it; never less than that."""


def _long(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _fields(event: on.Event) -> bytes:
    match event:
        case (on.PLACED | on.WRITTEN, address, content):
            return _ADDRESS.pack(address) + bytes(content)
        case (on.FREED, address):
            return _ADDRESS.pack(address)
        case (on.SHARED, address, length):
            return _PLACE.pack(address, length)
        case (on.SET, what, number):
            return _SETTING.pack(what, number)
        case (on.SENT, frame):
            return bytes(frame)
        case (on.CAME, frame, bodies):
            parts = [_long(frame)]
            for address, body, total in bodies:
                kept = isinstance(body, bytes)
                parts.append(_BODY.pack(address, len(body) if kept else body, total) + (body if kept else b""))
            return b"".join(parts)
        case (on.ANSWERED, code, reason):
            return _CODE.pack(code, reason)
        case (on.ENDED, journal, told, records, lost, error, is_exact):
            start = _END.pack(told, is_exact, min(lost, _MOST))
            return start + b"".join(map(_long, (journal, error.encode(), *records)))
        case _:
            raise ValueError(f"no event: {event[0]}")


def packed(events: Iterable[on.Event]) -> bytes:
    """The events as bytes."""
    parts = []
    for event in events:
        fields = _fields(event)
        parts.append(_HEAD.pack(event[0], len(fields)) + fields)
    return b"".join(parts)


class _Reader:
    """Takes fields off the front of bytes. Whatever goes beyond their end is a `struct.error`."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        values = form.unpack_from(self._data, self._at)
        self._at += form.size
        return values

    def some(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise struct.error
        self._at += length
        return bytes(self._data[self._at - length : self._at])

    def long(self) -> bytes:
        return self.some(self.take(_LENGTH)[0])

    def rest(self) -> bytes:
        return self.some(len(self._data) - self._at)


def _event(kind: int, fields: _Reader) -> on.Event:
    match kind:
        case on.PLACED | on.WRITTEN:
            return kind, *fields.take(_ADDRESS), fields.rest()
        case on.FREED:
            return kind, *fields.take(_ADDRESS)
        case on.SHARED:
            return kind, *fields.take(_PLACE)
        case on.SET:
            what, number = fields.take(_SETTING)
            if what > on.TOOK or number > (on.MOST_NUMBER if what in (on.DEADLINE, on.TOOK) else _MOST):
                raise ValueError(f"a setting of {what} to {number}")
            return kind, what, number
        case on.SENT:
            return kind, fields.rest()
        case on.CAME:
            return kind, fields.long(), tuple(_bodies(fields))
        case on.ANSWERED:
            code, reason = fields.take(_CODE)
            if code not in _CODES:
                raise ValueError(f"an answer of {code}")
            return kind, code, reason
        case on.ENDED:
            told, is_exact, lost = fields.take(_END)
            journal, error = fields.long(), fields.long()
            if len(journal) > JOURNAL_BYTES:
                raise ValueError("a journal that is too long")
            records = []
            while not fields.is_at_end:
                records.append(fields.long())
            return kind, journal, told, tuple(records), lost, cleaned(error.decode()), bool(is_exact)
        case _:
            raise ValueError(f"an event of the kind {kind}")


def _bodies(fields: _Reader) -> Iterable[tuple[int, bytes | int, int]]:
    while not fields.is_at_end:
        address, length, total = fields.take(_BODY)
        yield address, length if length > on.KEPT_BYTES else fields.some(length), total


def unpacked(data: bytes, most: int | None = None) -> list[on.Event]:
    """The events of `packed`.

    Args:
        data: the bytes.
        most: bytes that the events may take in memory, about; None: as many as they take. A file has five bytes for an event that
            takes a hundred, and compression makes nearly nothing of a million of them.

    Raises:
        ClocheError: the bytes are malformed, or take more than `most`.
    """
    events = []
    left = sys.maxsize if most is None else most
    view = memoryview(data)
    at = 0
    try:
        while at < len(view):
            kind, length = _HEAD.unpack_from(view, at)
            at += _HEAD.size
            if length > len(view) - at:
                raise ValueError("an event that is longer than the rest")
            fields = _Reader(view[at : at + length])
            event = _event(kind, fields)
            left -= length + _EVENT_BYTES
            if kind == on.CAME:
                left -= _EVENT_BYTES * len(event[2])
            elif kind == on.ENDED:
                left -= _EVENT_BYTES * len(event[3])
            if left < 0:
                raise ClocheError(f"the recording's events take more than {most} bytes of memory")
            events.append(event)
            if not fields.is_at_end:
                raise ValueError("an event with more than its fields")
            at += length
    except (ValueError, struct.error) as error:
        raise ClocheError(f"the recording has events that cannot be read: {error}") from error
    return events
