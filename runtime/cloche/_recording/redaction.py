"""Redaction: a recording without what its owner wants to leave out (``redact`` of `Record`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import Codec, write_cbor
from cloche._records import LogRecord
from cloche._sandbox import tape as on
from cloche.errors import ClocheError, EncodeError
from cloche.texts import short
from cloche_wire import Failure, Op, Reply

if TYPE_CHECKING:
    from cloche._recording.calls import RecordedCall
    from cloche._recording.recording import Recording
    from cloche._recording.settings import Redact
    from cloche.limits import Limits

__all__ = ["redacted"]

_FIRST: Final = 1 << 16
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class _Writer:
    """Encodes values as a host would, with addresses that belong to no guest."""

    def __init__(self, limits: Limits) -> None:
        self._bodies: dict[int, bytes] = {}
        self._codec = Codec(limits, self._place, _lift)
        self._next = _FIRST

    def _place(self, body: Any) -> int:
        address, self._next = self._next, self._next + memoryview(body).nbytes + 1
        self._bodies[address] = bytes(memoryview(body).cast("B"))
        return address

    def message(self, op: int, operands: list[Any]) -> tuple[bytes, dict[int, bytes]]:
        """The frame of a message and its bodies."""
        return self._written([op, *operands], operands[1:])

    def reply(self, kind: Reply, value: Any) -> tuple[bytes, dict[int, bytes]]:
        """The frame of a reply and its bodies."""
        frame, bodies = self._written([True, value], [value])
        return frame[:1] + bytes([kind]) + frame[
            2:
        ], bodies  # an answer to a request has the same form, and begins with `True`

    def _written(self, message: list[Any], values: list[Any]) -> tuple[bytes, dict[int, bytes]]:
        self._bodies = {}
        try:
            frame = self._codec.encode(message, "")
        except EncodeError:  # a value that has no form on the wire becomes a text
            self._bodies = {}
            count = len(message) - len(values)
            frame = self._codec.encode([*message[:count], *map(short, values)], "")
        return frame, self._bodies


def _lift(_address: int, _length: int) -> memoryview:
    raise ClocheError("nothing is decoded here")


def redacted(recording: Recording, redact: Redact) -> Recording:
    """The recording with the values that `redact` returns, and without anything that it has not seen."""
    writer = _Writer(recording.limits)
    events: list[on.Event] = []
    for call in recording.calls:
        events += _call(call, redact, writer)
    message = redact("error", recording.message) if recording.error else ""
    return dataclasses.replace(
        recording, events=tuple(events), state=None, after=None, message=str(message), redacted=True
    )


def _call(call: RecordedCall, redact: Redact, writer: _Writer) -> list[on.Event]:
    operands = redact("request", _known(lambda: call.operands, []))
    frame, bodies = writer.message(int(Op[call.op.upper()]), [call.number, *operands])
    events: list[on.Event] = [(on.PLACED, address, content) for address, content in bodies.items()]
    events.append((on.SENT, frame))
    if call.reply is not None:
        outcome = redact("reply", _known(lambda: call.outcome, None))
        kind, value = Reply.RESULT, outcome
        if isinstance(outcome, Failure):
            kind, value = Reply.FAILURE, outcome.to_wire()
        frame, bodies = writer.reply(kind, value)
        kept = ((at, body if len(body) <= on.KEPT_BYTES else len(body), 0) for at, body in bodies.items())
        events.append((on.CAME, frame, tuple(kept)))
    records = tuple(_record(redact("log", record)) for record in call.logs)
    events.append((on.ENDED, b"", call.told, records, 0, call.error, False))
    return events


def _known(value: Any, otherwise: Any) -> Any:
    try:
        return value()
    except ClocheError:  # it was too long to be kept
        return otherwise


def _record(record: LogRecord | None) -> bytes:
    """The frame of a log record, as a guest writes it."""
    if record is None:
        return bytes(write_cbor([20, "", "", None, None, 0]))
    return bytes(
        write_cbor(
            [_LEVELS.get(record.level, 20), record.logger, record.message, None, record.exception, record.time_ns]
        )
    )
