"""A guest's log records on their way to the host's logger (`sinks`). Every field is hostile: cleaned, cut, below one key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cloche._codec import decode_record
from cloche._records import LogRecord
from cloche.texts import MAX_NAME, MAX_TEXT, clean, name
from cloche_wire import abi

__all__ = ["Parser", "about_missing", "collect", "parse"]

MAX_FIELDS: Final = 64
"""Items kept of each dict and list in a record's extra fields."""
MAX_DEPTH: Final = 4
"""Levels of dicts and lists kept; deeper ones become text."""
MAX_CHARACTERS: Final = 64 * 1024
"""Characters kept of all extra fields of a record together, escapes included."""
MAX_PARTIAL: Final = 8192
"""Bytes of a line without an end that are joined to one record."""
_ITEM: Final = bytes((0x82, abi.RING_ITEM))  # an array of two, beginning with that number
_MOST_ITEMS: Final = 1 << 20
_LEVELS: Final = (
    (50, "critical"),
    (40, "error"),
    (30, "warning"),
    (20, "info"),
)  # the numbers of `logging`, which is slow to import


class _Fields:
    """The ``extra=`` fields of one record as plain values, within MAX_FIELDS, MAX_DEPTH and MAX_CHARACTERS."""

    def __init__(self) -> None:
        self._left = MAX_CHARACTERS

    def _text(self, text: str, most: int = MAX_TEXT) -> str:
        kept = clean(text, min(most, max(self._left, 0)))
        self._left -= len(kept)
        return kept

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The value with None, bool, int, float, str, list and dict kept; anything else becomes its `repr`."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self._text(value)
            case bytes():
                return self._text(repr(value[:MAX_TEXT]))
            case list() if depth < MAX_DEPTH:
                return [self.plain(item, depth + 1) for item in value[:MAX_FIELDS]]
            case dict() if depth < MAX_DEPTH:
                kept = list(value.items())[:MAX_FIELDS]
                return {self._text(str(key), MAX_NAME): self.plain(item, depth + 1) for key, item in kept}
            case _:
                return self._text(repr(value))


def _level(number: int) -> str:
    return next((name for floor, name in _LEVELS if number >= floor), "debug")


class _Output:
    """What a guest has written to descriptors 1 and 2 past `sys.stdout`, in pieces of any size: C prints a line word by word.

    A record ends where a piece has a line's end, so that there are never more records than pieces.

    Args:
        call: number of the call on the node.

    Attributes:
        item: index of the item of a batch to which the records belong; None: there is no batch.
    """

    def __init__(self, call: int) -> None:
        self._call = call
        self.item: int | None = None
        self._parts: dict[int, list[bytes]] = {1: [], 2: []}

    def add(self, stream: int, piece: bytes) -> LogRecord | None:
        """Take one piece. Returns the record that is complete with it."""
        lines, end, rest = piece.rpartition(b"\n")
        parts = self._parts[stream]
        if not end:
            parts.append(piece)
            return self._record(stream) if sum(map(len, parts)) > MAX_PARTIAL else None
        parts.append(lines)
        record = self._record(stream)
        if rest:
            parts.append(rest)
        return record

    def finish(self) -> list[LogRecord]:
        """The records of lines that have no end."""
        return [self._record(stream) for stream, parts in self._parts.items() if parts]

    def _record(self, stream: int) -> LogRecord:
        text = b"".join(self._parts[stream]).decode(errors="replace")
        self._parts[stream].clear()
        return LogRecord(
            "info", "stdout" if stream == 1 else "stderr", clean(text.rstrip("\n")), self._call, item=self.item
        )


def _parse_one(frame: bytes, call: int, output: _Output) -> LogRecord | None:
    match decode_record(frame):
        case [
            int(level),
            str(logger),
            str(message),
            (dict() | None) as extra,
            (str() | None) as exception,
            int(time_ns),
        ]:
            return LogRecord(
                _level(level),
                name(logger),
                clean(message),
                call,
                _Fields().plain(extra or {}),
                None if exception is None else clean(exception),
                time_ns,
                output.item,
            )
        case [(1 | 2) as stream, bytes(piece)]:
            return output.add(stream, piece)
        case _:
            raise ValueError("not a log record")


def parse(frames: Iterable[bytes], call: int) -> tuple[list[LogRecord], int]:
    """Decode untrusted records.

    Args:
        frames: the records.
        call: number of the call on the node.

    Returns:
        the valid records in order, and the number of malformed ones.
    """
    parser = Parser(call)
    records = [record for frame in frames for record in parser.take(frame)]
    return records + parser.finish(), parser.refused


class Parser:
    """Decodes the untrusted records of one call, one after the other.

    Args:
        call: number of the call on the node.

    Attributes:
        refused: number of malformed records so far.
    """

    __slots__ = ("_call", "_output", "refused")

    def __init__(self, call: int) -> None:
        self._call = call
        self._output = _Output(call)
        self.refused = 0

    def take(self, frame: bytes) -> list[LogRecord]:
        """The records that are complete with this one: none, if it is a piece of a line, or malformed."""
        output = self._output
        try:
            if frame[:2] == _ITEM:
                number = _item(frame)
                records = output.finish()
                output.item = number
                return records
            record = _parse_one(frame, self._call, output)
        except Exception:  # hostile bytes may raise anything: the guest loses this record and nothing else
            self.refused += 1
            return []
        return [] if record is None else [record]

    def finish(self) -> list[LogRecord]:
        """The records of lines that have no end."""
        return self._output.finish()


def _item(frame: bytes) -> int:
    """The number in a mark, which says that the records behind it are of that item of a batch."""
    match decode_record(frame):
        case [abi.RING_ITEM, int(number)] if 0 <= number < _MOST_ITEMS:
            return number
        case _:
            raise ValueError("not a mark")


def collect(frames: list[bytes], dropped: int, most: int, call: int) -> tuple[list[LogRecord], int]:
    """The newest records of a drained ring, and a warning as the last one if any are missing.

    Args:
        frames: untrusted records, oldest first.
        dropped: number of records that the ring had no room for.
        most: number of records to keep (`Limits.log_records`).
        call: number of the call on the node.

    Returns:
        the records, and the number of missing ones.
    """
    dropped += max(0, len(frames) - most)
    records, refused = parse(frames[-most:] if most else [], call)
    dropped += refused
    if dropped:
        records.append(about_missing(dropped, len(records), most, call))
    return records, dropped


def about_missing(missing: int, kept: int, most: int, call: int) -> LogRecord:
    """The record that says how many others are missing.

    Args:
        missing: number of records that are missing.
        kept: number of the others.
        most: `Limits.log_records`.
        call: number of the call on the node.
    """
    text = f"{missing} of {kept + missing} log records dropped (log_records={most}, {abi.RING_CAPACITY} bytes a call)"
    return LogRecord("warning", "cloche", text, call)
