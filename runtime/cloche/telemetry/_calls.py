"""`CallTrace`: makes the spans and the measurements of one sandbox's calls. See `cloche._runtime.tracing.SandboxTrace`.

A call is a span; a stream is one span from its opening to its end, whatever number of steps it has, and its first steps are events
of it. While the guest runs, the span is current, so that spans of services are below it.

A failure is answered as data, and the error for the caller is made afterwards. So the span of a failed call stays open until
`CallTrace.failed` has the error; the next call or the sandbox's end closes it if that never comes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from cloche import texts
from cloche._runtime.hooks import OPS, method_of
from cloche._sandbox import load_request
from cloche.errors import BudgetError, DeadlineError, HardDeadlineError, StreamLimitError
from cloche.telemetry import _names as names
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloche._sandbox import CheckedSandbox, Exchange
    from cloche.telemetry._instruments import Instruments
    from cloche.telemetry._names import Labels

__all__ = ["CallTrace", "Host", "mark_failed"]

_MOST_EVENTS: Final = 100
"""Steps of a stream that are events of its span. An SDK keeps 128 events of a span unless told otherwise."""
_MOST_METHODS: Final = 100
"""Methods of one node whose attributes are kept."""
_LOAD, _OPEN, _FEED = int(Op.LOAD), int(Op.STREAM_OPEN), int(Op.STREAM_FEED)
_THROW, _CLOSE = int(Op.STREAM_THROW), int(Op.STREAM_CLOSE)
_RESTORED: Final = OPS[int(Op.RESEED)]
_STREAM: Final = "stream"
_STEPS: Final = frozenset(range(_OPEN, _CLOSE + 1))
_BATCHES: Final = frozenset({int(Op.STREAM_BATCH), int(Op.STREAM_TAKE)})
"""Messages of pipelines, which make the spans of their batches themselves, as they do for nodes without a sandbox."""
_GOES_ON: Final = frozenset({Reply.YIELD, Reply.YIELD_NEED, Reply.NEED, Reply.BATCH})
_OUTPUTS: Final = frozenset({Reply.YIELD, Reply.YIELD_NEED})


class Host(Protocol):
    """What a trace needs of its `Telemetry`."""

    tracer: Tracer
    instruments: Instruments
    nodes: Labels

    def guarded(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        """Call a function; an exception of it is reported once, and None is returned."""

    def end_later(self, span: Span) -> None:
        """End a span soon."""

    def end_late(self) -> None:
        """End the spans that are to be ended."""


class _Failure(NamedTuple):
    """A call that the guest has answered with a failure, until the error for the caller is there.

    Attributes:
        opened: its span; None: it has none.
        op: number of its `Op`.
        seconds: what it took.
        at: when it ended, in nanoseconds since the Unix epoch.
    """

    opened: Open | None
    op: int
    seconds: float
    at: int


class Open:
    """A span that has not ended.

    Attributes:
        span: the span.
        context: a context in which it is current.
        process: the process in which it began. In a child by fork it is the parent's, which ends it.
        steps: of a stream, its steps so far.
        inputs: items that were sent.
        outputs: outputs that came.
    """

    __slots__ = ("context", "inputs", "outputs", "process", "span", "steps")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context: Context = set_span_in_context(span)
        self.process = os.getpid()
        self.steps = self.inputs = self.outputs = 0

    @property
    def is_foreign(self) -> bool:
        """Whether another process ends it."""
        return self.process != os.getpid()


class CallTrace:
    """Follows the calls of one sandbox; each method needs the node's lock, but for `closed`.

    Args:
        host: the `Telemetry`.
        session_id: see `CallRecord`.
        isolation: "none" or "process".
        info: see `Tracing.follow_sandbox`.
    """

    __slots__ = (
        "_entry",
        "_fixed",
        "_host",
        "_is_function",
        "_is_inside",
        "_known",
        "_label",
        "_left",
        "_name",
        "_pending",
        "_stream",
    )

    def __init__(self, host: Host, *, session_id: str | None, isolation: str, info: Mapping[str, Any] | None) -> None:
        self._host = host
        self._fixed: dict[str, Any] = {names.ISOLATION: isolation}
        if session_id is not None:
            self._fixed[names.SESSION] = texts.name(str(session_id))
        self._entry, self._is_function = "", False
        self._known: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        if info is not None:
            self._describe(info)
        self._name = self._label = ""
        self._is_inside = False
        self._stream: Open | None = None
        self._pending: _Failure | None = None
        self._left: Open | None = None
        """The span that was begun last, until it has ended."""
        if info is not None:
            host.guarded(host.instruments.starts.add, 1, {names.START_KIND: "warm"})

    def around(
        self, sandbox: CheckedSandbox, exchange: Exchange, op: int, operands: Sequence[Any], root: str
    ) -> tuple[Reply, Any]:
        """See `SandboxTrace`."""
        if self._is_inside:  # a stream is closed whose output was refused: that is a part of the same call
            return exchange(op, operands, root)
        try:
            try:
                self._is_inside = True
                return self._made(sandbox, exchange, op, operands, root)
            finally:
                self._is_inside = False
        finally:
            self._is_inside = False  # again: an interrupt may have prevented the first one

    def _made(
        self, sandbox: CheckedSandbox, exchange: Exchange, op: int, operands: Sequence[Any], root: str
    ) -> tuple[Reply, Any]:
        host = self._host
        opened: Open | None = host.guarded(self._begun, sandbox, int(op), operands)
        traffic = sandbox.traffic
        traffic.sent_bytes = traffic.received_bytes = 0
        before = get_current()
        began = time.perf_counter()
        try:
            try:
                if opened is not None:
                    attach(opened.context)
                kind, value = exchange(op, operands, root)
            finally:
                attach(
                    before
                )  # no `detach`: what is attached twice leaves nothing behind, and an interrupt may come here
        except BaseException as error:
            attach(before)
            seconds = time.perf_counter() - began
            host.guarded(self._raised, sandbox, opened, int(op), seconds, error)
            raise
        seconds = time.perf_counter() - began
        host.guarded(self._answered, sandbox, opened, int(op), operands, seconds, kind, value)
        return kind, value

    def _begun(self, sandbox: CheckedSandbox, op: int, operands: Sequence[Any]) -> Open | None:
        """The span of a call; None: it has none of its own."""
        self._host.end_late()
        self._end_pending(None)
        self._end_left()
        if (name := sandbox.name) is not self._name:
            self._name, self._label = name, self._host.nodes.of(name)
            self._known.clear()
        if op in _BATCHES:
            return None
        if op in _STEPS:
            return self._step(sandbox, op)
        return self._opened(sandbox, OPS[op], method_of(op, operands))

    def _step(self, sandbox: CheckedSandbox, op: int) -> Open | None:
        stream = self._stream
        if op == _OPEN and stream is not None:
            self._end(stream)
            stream = None
        if stream is None:
            if op == _CLOSE:  # the stream of a restored state, which nobody goes on with
                return None
            self._stream = stream = self._opened(sandbox, _STREAM, _STREAM)
        stream.steps += 1
        stream.inputs += op == _FEED
        if stream.steps <= _MOST_EVENTS and stream.span.is_recording():
            stream.span.add_event(OPS[op])
        return stream

    def _opened(self, sandbox: CheckedSandbox, op: str, method: str) -> Open:
        title, attributes = self._described(op, method)
        numbered = {**attributes, names.CALL_NUMBER: sandbox.calls + 1}
        self._left = opened = Open(self._host.tracer.start_span(title, None, SpanKind.INTERNAL, numbered))
        return opened

    def _described(self, op: str, method: str) -> tuple[str, dict[str, Any]]:
        """Title and attributes of a span."""
        known = self._known.get((op, method))
        if known is not None:
            return known
        attributes = {**self._fixed, names.NODE: texts.name(self._name), names.CALL_OP: op}
        if self._entry:
            attributes[names.ENTRY] = self._entry
            if method:
                attributes[names.FUNCTION] = self._function_of("process" if method == _STREAM else method)
        verb = texts.name(method) or ("restore" if op == _RESTORED else op)
        known = f"{verb} {self._label}", attributes
        if len(self._known) < _MOST_METHODS:
            self._known[op, method] = known
        return known

    def _function_of(self, method: str) -> str:
        """The function that a method is: of a node that is a function, ``process`` is the node itself."""
        return self._entry if self._is_function and method == "process" else texts.name(f"{self._entry}.{method}")

    def _raised(
        self, sandbox: CheckedSandbox, opened: Open | None, op: int, seconds: float, error: BaseException
    ) -> None:
        kind = names.error_type(error)
        self._measure(op, seconds, kind)
        self._count_error(error, kind)
        if opened is None:
            return
        if opened is self._stream and not sandbox.closed:
            mark_failed(opened.span, error)  # it is closed by a message of its own
        else:
            self._end(opened, error)

    def _answered(
        self,
        sandbox: CheckedSandbox,
        opened: Open | None,
        op: int,
        operands: Sequence[Any],
        seconds: float,
        kind: Reply,
        value: Any,
    ) -> None:
        if op == _LOAD and kind is Reply.RESULT:
            self._loaded(opened, value)
        if kind is Reply.FAILURE:
            self._pending = _Failure(opened, op, seconds, time.time_ns())
            if op == _THROW:  # what is raised is the error of the caller's own items
                self._end_pending(None)
            return
        self._measure(op, seconds, "")
        if opened is None:
            return
        if opened is self._stream:
            opened.outputs += kind in _OUTPUTS
            if kind not in _GOES_ON:
                self._end(opened)
            return
        span, traffic = opened.span, sandbox.traffic
        if span.is_recording():
            span.set_attributes({names.SENT_BYTES: traffic.sent_bytes, names.RECEIVED_BYTES: traffic.received_bytes})
        self._end(opened)

    def _loaded(self, opened: Open | None, value: Any) -> None:
        info = load_request.read_info(value)
        if info is None:
            return
        self._describe(info)
        self._host.instruments.starts.add(1, {names.START_KIND: "cold"})
        if opened is not None:
            opened.span.set_attribute(names.ENTRY, self._entry)

    def _describe(self, info: Mapping[str, Any]) -> None:
        self._entry = info["entry"]
        self._is_function = info["kind"] == "function"
        self._known.clear()

    def _measure(self, op: int, seconds: float, kind: str) -> None:
        labels = {names.NODE: self._label, names.CALL_OP: OPS[op]}
        if kind:
            labels[names.ERROR_TYPE] = kind
        self._host.instruments.duration.record(seconds, labels)

    def _count_error(self, error: BaseException, kind: str) -> None:
        instruments, labels = self._host.instruments, {names.NODE: self._label}
        instruments.errors.add(
            1, {**labels, names.ERROR_TYPE: kind, names.EXCEPTION_TYPE: names.exception_label(error)}
        )
        if isinstance(error, DeadlineError) and not isinstance(error, BudgetError):
            hardness = "hard" if isinstance(error, HardDeadlineError) else "soft"
            instruments.deadlines.add(1, {**labels, names.DEADLINE_KIND: hardness, names.LIMIT: error.limit})

    def failed(self, error: BaseException) -> None:
        """See `SandboxTrace`."""
        self._host.guarded(self._failed, error)

    def _failed(self, error: BaseException) -> None:
        self._count_error(error, names.error_type(error))
        if isinstance(error, StreamLimitError) and self._stream is not None:  # found between two steps
            mark_failed(self._stream.span, error)
        self._end_pending(error)

    def _end_pending(self, error: BaseException | None) -> None:
        """Measure the call that has failed and end its span, by an error if it is known."""
        if self._pending is None:
            return
        (opened, op, seconds, at), self._pending = self._pending, None
        self._measure(op, seconds, names.OTHER if error is None else names.error_type(error))
        if opened is None:
            return
        if error is None and not opened.is_foreign:
            _mark_unknown(opened.span)
        self._end(opened, error, at)

    def _end_left(self) -> None:
        """End the span that was begun last, if it has not ended: an interrupt has come when it was to."""
        left, self._left = self._left, None
        if left is not None and left is not self._stream and not left.is_foreign and left.span.is_recording():
            _mark_unknown(left.span)
            left.span.end()

    def _end(self, opened: Open, error: BaseException | None = None, at: int | None = None) -> None:
        """End a span, once."""
        is_stream = opened is self._stream
        if is_stream:
            self._stream = None
        if opened.is_foreign:
            return
        span = opened.span
        try:
            if span.is_recording():
                if is_stream:
                    span.set_attributes(
                        {
                            names.STREAM_STEPS: opened.steps,
                            names.STREAM_INPUTS: opened.inputs,
                            names.STREAM_OUTPUTS: opened.outputs,
                        }
                    )
                if error is not None:
                    mark_failed(span, error, at)
        finally:
            span.end(at)
        if opened is self._left:
            self._left = None

    def broke(self, error: BaseException, recovered: str | None) -> None:
        """See `SandboxTrace`."""
        self._host.guarded(self._broke, error, recovered)

    def _broke(self, error: BaseException, recovered: str | None) -> None:
        labels = {names.NODE: self._label, names.RECOVERED: recovered or "no"}
        self._host.instruments.breaks.add(1, {**labels, names.ERROR_TYPE: names.error_type(error)})
        if recovered is not None:
            self._host.instruments.restores.add(1, labels)

    def closed(self, *, is_collected: bool) -> None:
        """See `SandboxTrace`."""
        if self._is_inside:  # the call under way has broken the guest, and its error comes
            return
        if not is_collected:
            self._host.guarded(self._end_all)
            return
        left = {self._stream, self._left, None if self._pending is None else self._pending.opened}
        self._pending = self._stream = self._left = None
        for opened in left:
            if opened is not None and not opened.is_foreign and opened.span.is_recording():
                self._host.end_later(opened.span)

    def _end_all(self) -> None:
        self._end_pending(None)
        if self._stream is not None:
            self._end(self._stream)
        self._end_left()


def _mark_unknown(span: Span) -> None:
    """Set a span's status to an error of an unknown kind."""
    span.set_attribute(names.ERROR_TYPE, names.OTHER)
    span.set_status(Status(StatusCode.ERROR))


def mark_failed(span: Span, error: BaseException, at: int | None = None, number: int | None = None) -> None:
    """Set a span's status to an error, with what the error says.

    Args:
        span: the span.
        error: the error.
        at: when it came, in nanoseconds since the Unix epoch; None: now.
        number: the item of a pipeline that it is about.
    """
    about: dict[str, str | int] = dict(names.exception_attributes(error))
    if number is not None:
        about[names.ITEM] = number
    span.set_attributes({names.ERROR_TYPE: names.error_type(error), **names.limit_attributes(error)})
    span.add_event("exception", about, at)
    span.set_status(Status(StatusCode.ERROR, str(about[names.EXCEPTION_MESSAGE])))
