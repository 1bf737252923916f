"""Names of attributes; and texts of nodes and callers made fit for them: cleaned, cut, and bounded in number where they are labels.

What has a semantic convention of OpenTelemetry keeps its name (``error.type``, ``exception.*``, ``code.function.name``,
``session.id``); the rest is below ``cloche.``.
"""

from __future__ import annotations

import builtins
from typing import Final

from cloche import texts
from cloche.errors import ClocheError, NodeError

__all__ = [
    "BATCH_ITEMS",
    "CALL_NUMBER",
    "CALL_OP",
    "DEADLINE_KIND",
    "END_OF_INPUT",
    "ENTRY",
    "ERROR_TYPE",
    "EXCEPTION_MESSAGE",
    "EXCEPTION_STACKTRACE",
    "EXCEPTION_TYPE",
    "FUNCTION",
    "ISOLATION",
    "ITEM",
    "ITEM_FIRST",
    "ITEM_LAST",
    "LIMIT",
    "LIMIT_REACHED",
    "LIMIT_VALUE",
    "NODE",
    "OTHER",
    "OUTCOME",
    "PIPELINE",
    "PLACE",
    "POOL",
    "POOL_OUTCOME",
    "RECEIVED_BYTES",
    "RECORDING",
    "RECOVERED",
    "SENT_BYTES",
    "SESSION",
    "START_KIND",
    "STREAM_INPUTS",
    "STREAM_OUTPUTS",
    "STREAM_STEPS",
    "Labels",
    "error_type",
    "exception_attributes",
    "exception_label",
    "limit_attributes",
]

ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
FUNCTION: Final = "code.function.name"
SESSION: Final = "session.id"

NODE: Final = "cloche.node.name"
ENTRY: Final = "cloche.node.entry"
ISOLATION: Final = "cloche.isolation"
CALL_OP: Final = "cloche.call.op"
CALL_NUMBER: Final = "cloche.call.number"
SENT_BYTES: Final = "cloche.call.sent_bytes"
RECEIVED_BYTES: Final = "cloche.call.received_bytes"
STREAM_STEPS: Final = "cloche.stream.steps"
STREAM_INPUTS: Final = "cloche.stream.inputs"
STREAM_OUTPUTS: Final = "cloche.stream.outputs"
LIMIT: Final = "cloche.limit.name"
LIMIT_VALUE: Final = "cloche.limit.value"
LIMIT_REACHED: Final = "cloche.limit.reached"
RECORDING: Final = "cloche.recording"
RECOVERED: Final = "cloche.recovered"
START_KIND: Final = "cloche.start.kind"
DEADLINE_KIND: Final = "cloche.deadline.kind"
POOL: Final = "cloche.pool.name"
POOL_OUTCOME: Final = "cloche.pool.item.outcome"
PIPELINE: Final = "cloche.pipeline.name"
PLACE: Final = "cloche.pipeline.place"
ITEM_FIRST: Final = "cloche.pipeline.item.first"
ITEM_LAST: Final = "cloche.pipeline.item.last"
BATCH_ITEMS: Final = "cloche.pipeline.batch.items"
END_OF_INPUT: Final = "cloche.pipeline.end_of_input"
ITEM: Final = "cloche.pipeline.item.number"
OUTCOME: Final = "cloche.pipeline.item.outcome"

OTHER: Final = "_OTHER"
"""OpenTelemetry's value for what has no label of its own."""
_MESSAGE: Final = 2048
"""Characters of a message, and of the path of a recording."""
_TYPES: Final = 200
"""Classes of errors that have labels of their own: the caller's services and hooks may raise any."""
_BUILTIN: Final = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
)


class Labels:
    """Texts as values of labels, each of which is a time series that stays: cleaned, and so many different ones at most.

    Args:
        most: number of texts that are kept apart; the others are `OTHER`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The label of a text."""
        key = text[: texts.MAX_NAME]
        known = self._known.get(key)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        return self._known.setdefault(key, texts.name(key))


_types: Final = Labels(_TYPES)


def error_type(error: BaseException) -> str:
    """The ``error.type`` of an error: the name of its class, which is the host's. A node chooses none of these."""
    return _types.of(type(error).__name__)


def exception_label(error: BaseException) -> str:
    """The class that the node raised, as a label: `OTHER` for classes of the node's own, of which there may be any number."""
    kind = error.exc_type if isinstance(error, NodeError) else type(error).__name__
    return kind if kind in _BUILTIN else OTHER


def exception_attributes(error: BaseException) -> dict[str, str]:
    """The attributes of an event "exception". Of a node's error, the node's own class, text and traceback, which are untrusted."""
    kind, message = type(error).__qualname__, ""
    if isinstance(error, NodeError) and error.exc_type:
        kind, message = error.exc_type, error.message
    elif isinstance(error, ClocheError):
        message = Exception.__str__(error)  # without what the caller could do
    else:
        message = str(error)
    found = {EXCEPTION_TYPE: texts.name(kind), EXCEPTION_MESSAGE: texts.clean(message, _MESSAGE)}
    traceback = getattr(error, "guest_traceback", "")
    if traceback:
        found[EXCEPTION_STACKTRACE] = texts.clean_ends(traceback)
    return found


def limit_attributes(error: BaseException) -> dict[str, str | float]:
    """What an error says besides its class: the limit that it is about, and the recording of its call."""
    found: dict[str, str | float] = {}
    if limit := getattr(error, "limit", ""):
        found[LIMIT] = texts.name(str(limit))
        for name, number in ((LIMIT_VALUE, "value"), (LIMIT_REACHED, "reached")):
            amount = getattr(error, number, None)
            if isinstance(amount, int | float):
                found[name] = float(amount)
    recording = getattr(error, "recording", None)
    if recording:
        found[RECORDING] = texts.line(str(recording), _MESSAGE)
    return found
