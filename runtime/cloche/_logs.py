"""Takes a guest's log records to the host's logger. Every field of them is input from a stranger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import decode_record
from cloche_wire import abi

if TYPE_CHECKING:
    import re

__all__ = ["DefaultLogger", "LogRecord", "clean", "collect", "deliver", "parse"]

MAX_FIELDS: Final = 64
MAX_TEXT: Final = 16 * 1024
_LEVELS: Final = (
    (50, "critical"),
    (40, "error"),
    (30, "warning"),
    (20, "info"),
)  # the numbers of `logging`, which is slow to import

# C0 and C1 controls but tab and newline (ESC starts an ANSI sequence), bidirectional overrides and isolates, the line and
# paragraph separators, lone surrogates: nothing that repaints a terminal or reorders a line ("Trojan Source", CVE-2021-42574).
_UNSAFE: Final = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a guest, made harmless.

    Attributes:
        level: a name that the host knows: "debug", "info", "warning", "error" or "critical".
        logger: the guest's logger, or "stdout" or "stderr" for what it printed.
        message: the formatted message.
        call: number of the call on the node during which it was made.
        fields: what the guest passed as ``extra=``.
        exception: the traceback's text, if one was logged.
        time_ns: nanoseconds since the epoch, by the guest's clock.
    """

    level: str
    logger: str
    message: str
    call: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    exception: str | None = None
    time_ns: int = 0


@cache
def _unsafe() -> re.Pattern[str]:
    import re  # compiling this set takes milliseconds, and most texts do not need it

    return re.compile(_UNSAFE)


def clean(text: str) -> str:
    """The text with control and bidirectional characters shown as escapes, and cut at MAX_TEXT characters."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... [{len(text) - MAX_TEXT} characters cut]"
    if text.isprintable():  # no character of _UNSAFE is
        return text
    return _unsafe().sub(
        lambda match: f"\\x{ord(match[0]):02x}" if match[0] < "\u0100" else f"\\u{ord(match[0]):04x}", text
    )


def _plain(value: Any, depth: int = 0) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return clean(value)
        case list() if depth < 4:
            return [_plain(item, depth + 1) for item in value[:MAX_FIELDS]]
        case dict() if depth < 4:
            return {clean(str(key)): _plain(item, depth + 1) for key, item in list(value.items())[:MAX_FIELDS]}
        case _:
            return clean(repr(value))


def _level(number: int) -> str:
    return next((name for floor, name in _LEVELS if number >= floor), "debug")


def _parse_one(frame: bytes, call: int) -> LogRecord:
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
                clean(logger),
                clean(message),
                call,
                _plain(extra or {}),
                None if exception is None else clean(exception),
                time_ns,
            )
        case [(1 | 2) as stream, bytes(text)]:
            name = "stdout" if stream == 1 else "stderr"
            return LogRecord("info", name, clean(text.decode(errors="replace").rstrip("\n")), call)
        case _:
            raise ValueError("not a log record")


def parse(frames: Iterable[bytes], call: int) -> tuple[list[LogRecord], int]:
    """Decode untrusted records.

    Returns:
        those that are records, in order, and how many were not.
    """
    records, refused = [], 0
    for frame in frames:
        try:
            records.append(_parse_one(frame, call))
        except Exception:  # whatever the bytes provoke, the guest loses that record and nothing else
            refused += 1
    return records, refused


def collect(frames: list[bytes], dropped: int, most: int, call: int) -> tuple[list[LogRecord], int]:
    """What a drained ring gives: its newest records, and one more if any are missing.

    Args:
        frames: untrusted records, oldest first.
        dropped: how many were lost before.
        most: `Limits.log_records`.
        call: number of the call.

    Returns:
        the records, and how many are missing.
    """
    dropped += max(0, len(frames) - most)
    records, refused = parse(frames[-most:] if most else [], call)
    dropped += refused
    if dropped:
        total = len(records) + dropped
        text = f"{dropped} of {total} log records dropped (log_records={most}, {abi.RING_CAPACITY} bytes a call)"
        records.append(LogRecord("warning", "cloche", text, call))
    return records, dropped


class DefaultLogger:
    """Where records go unless `Runtime` was given a logger. structlog takes 80 ms to import: only who logs pays."""

    def __getattr__(self, level: str) -> Any:
        import structlog

        return getattr(structlog.get_logger("cloche.node"), level)


def deliver(records: Iterable[LogRecord], logger: Any, node: str) -> None:
    """Hand records to a structlog logger. The guest's own fields nest under ``guest``: they cannot forge another key."""
    for record in records:
        event: dict[str, Any] = {"node": node, "call": record.call, "logger": record.logger}
        if record.fields:
            event["guest"] = dict(record.fields)
        if record.exception is not None:
            event["exception"] = record.exception
        getattr(logger, record.level)(record.message, **event)
