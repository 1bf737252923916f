"""Plain values that errors, sandboxes and nodes share. Almost a leaf: this module imports nothing else of Cloche but `texts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from cloche.texts import short

__all__ = ["BreakRecord", "CallRecord", "LogRecord", "StreamPosition"]


@dataclass(frozen=True, slots=True, repr=False)
class LogRecord:
    """One log record of a guest, cleaned: no control characters, cut to a fixed length.

    Attributes:
        level: "debug", "info", "warning", "error" or "critical".
        logger: name of the guest's logger; "stdout" or "stderr" for printed text.
        message: the formatted message, or the printed text.
        call: number of the call on the node during which the record was made, from 1.
        fields: the guest's ``extra=`` fields, as plain values.
        exception: text of the logged traceback; None without one.
        time_ns: nanoseconds since the Unix epoch by the guest's clock; 0 for printed text.
        item: in a pipeline, the index of the item in the batch of that call, from 0; None for other calls.
    """

    level: str
    logger: str
    message: str
    call: int
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
    exception: str | None = None
    time_ns: int = 0
    item: int | None = None

    def __repr__(self) -> str:
        """The record, with the beginning of each long text: a node may log kilobytes."""
        shown = [
            f"{one.name}={short(value)}"
            for one in fields(self)
            if (value := getattr(self, one.name)) not in (one.default, {})
        ]
        return f"LogRecord({', '.join(shown)})"


class StreamPosition(NamedTuple):
    """How far an open stream has come, between two steps.

    Attributes:
        items: number of items that the node has received.
        outputs: number of outputs that the node has given.
        wants: True if the node waits for the next item; False if it has more to compute before.
    """

    items: int
    outputs: int
    wants: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call on a node, as the hook ``Runtime(on_call=...)`` gets it when the call has ended.

    Attributes:
        node: the node's name.
        session_id: the ``session_id`` that the node was loaded with; None without one.
        op: the kind of call: "load", "reseed" (at the end of restoring and cloning), "process", "call", "invoke", "get",
            "stream_open", "stream_feed", "stream_next", "stream_end", "stream_throw", "stream_close".
        method: name of the method that was called: "process", "flush" ...; "" for a call that names none.
        call: number of the call on the node, from 1.
        seconds: wall time of the call: encoding, the guest, the services that it called, decoding; without waiting for the node.
        error: name of the class of the error that the call ended with, as "NodeRaisedError"; "" if it succeeded.
        bytes_in: bytes of values sent to the guest: the arguments, and the answers of services and mounts.
        bytes_out: bytes of values that the guest sent: the result, and its requests to services and mounts.
    """

    node: str
    session_id: str | None
    op: str
    method: str
    call: int
    seconds: float
    error: str
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakRecord:
    """A break of a node, as the hook ``Runtime(on_break=...)`` gets it.

    Attributes:
        node: the node's name.
        session_id: the ``session_id`` that the node was loaded with; None without one.
        op: the kind of call that broke it, as in `CallRecord`; "" if it was none, but a snapshot or a buffer.
        call: number of the call on the node, from 1.
        error: name of the class of the error that the caller gets, as "GuestTrapError".
        exception: that error. It holds the data of the call, so let it go soon.
        recovered: "restart" or "restore" if the node goes on in a new sandbox; None if it does not, or if a pool replaces it.
    """

    node: str
    session_id: str | None
    op: str
    call: int
    error: str
    exception: BaseException = field(repr=False, compare=False)
    recovered: str | None = None
