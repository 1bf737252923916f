"""`PipelineTrace`: the spans of one run of a pipeline: one for the run, and below it one for each batch of each node."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.context import attach, get_current
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, get_current_span, set_span_in_context

from cloche import texts
from cloche.telemetry import _names as names
from cloche.telemetry._calls import Host, mark_failed

if TYPE_CHECKING:
    from cloche.telemetry._names import Labels

__all__ = ["PipelineTrace"]

_MOST_LINKS: Final = 128
"""Items of a batch that its span is linked to. An SDK keeps as many links of a span unless told otherwise."""
_MOST_ORIGINS: Final = 10_000
"""Items whose spans are remembered until the nodes have worked on them."""
_MOST_ERRORS: Final = 20
"""Failures of a batch that are events of its span."""


class PipelineHost(Host, Protocol):
    """What a run's trace needs of its `Telemetry` besides."""

    pipelines: Labels


class PipelineTrace:
    """See `cloche._runtime.tracing.RunTrace`. The span begins with it.

    Args:
        host: the `Telemetry`.
        pipeline: the pipeline's name.
        session_id: see `CallRecord`.
    """

    def __init__(self, host: PipelineHost, pipeline: str, session_id: str | None) -> None:
        self._has_ended = True  # for `__del__`, until there is a span
        self._process = os.getpid()
        self._host = host
        self._label = host.pipelines.of(pipeline)
        self._attributes: dict[str, Any] = {names.PIPELINE: texts.name(pipeline)}
        if session_id is not None:
            self._attributes[names.SESSION] = texts.name(str(session_id))
        title = f"pipeline {self._label}"
        self._span: Span = (
            host.guarded(host.tracer.start_span, title, None, SpanKind.INTERNAL, self._attributes) or INVALID_SPAN
        )
        self._has_ended = False
        self._context = set_span_in_context(self._span)
        self._origins: OrderedDict[int, SpanContext] = OrderedDict()

    def enter(self) -> None:
        """See `RunTrace`."""
        attach(self._context)

    def fed(self, number: int) -> None:
        """See `RunTrace`."""
        origin = get_current_span().get_span_context()
        if origin.is_valid and origin != self._span.get_span_context():
            self._origins[number] = origin
            if len(self._origins) > _MOST_ORIGINS:
                self._origins.popitem(last=False)

    @contextmanager
    def batch(self, node: str, place: str, numbers: Sequence[int | None], *, end: bool) -> Iterator[_Batch]:
        """See `RunTrace`."""
        host = self._host
        batch = _Batch(self._host, self._label, node)
        span: Span = host.guarded(self._begun, node, place, numbers, end) or INVALID_SPAN
        before = get_current()
        began = time.perf_counter()
        try:
            attach(set_span_in_context(span))
            yield batch
        except BaseException as error:
            host.guarded(mark_failed, span, error)
            batch.error = names.error_type(error)
            raise
        finally:
            attach(before)
            host.guarded(batch.ended, span, time.perf_counter() - began)

    def _begun(self, node: str, place: str, numbers: Sequence[int | None], end: bool) -> Span:
        self._host.end_late()
        attributes = {
            **self._attributes,
            names.NODE: texts.name(node),
            names.PLACE: texts.name(place),
            names.BATCH_ITEMS: len(numbers),
        }
        known = [number for number in numbers if number is not None]
        if known:
            attributes[names.ITEM_FIRST], attributes[names.ITEM_LAST] = known[0], known[-1]
        if end:
            attributes[names.END_OF_INPUT] = True
        links = None
        if self._origins:
            found = [self._origins[number] for number in known[:_MOST_LINKS] if number in self._origins]
            links = [Link(origin) for origin in found]
        title = f"batch {self._host.nodes.of(node)}"
        return self._host.tracer.start_span(title, self._context, SpanKind.INTERNAL, attributes, links)

    def ended(self, error: BaseException | None) -> None:
        """See `RunTrace`. In a child by fork, the span is the parent's."""
        if not self._has_ended:
            self._has_ended = True
            if self._process == os.getpid():
                self._host.guarded(self._end, error)

    def __del__(self) -> None:
        if not self._has_ended and self._process == os.getpid():  # an interrupt came before there was a run
            self._has_ended = True
            self._host.end_later(self._span)

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is not None and not isinstance(error, GeneratorExit):
                mark_failed(self._span, error)
        finally:
            self._span.end()


class _Batch:
    """See `cloche._runtime.tracing.BatchTrace`.

    Args:
        host: the `Telemetry`.
        pipeline: label of the pipeline.
        node: id of the node.

    Attributes:
        error: the ``error.type`` of what the batch raised; "": nothing.
    """

    def __init__(self, host: Host, pipeline: str, node: str) -> None:
        self._host = host
        self._labels = {names.PIPELINE: pipeline, names.NODE: host.nodes.of(node)}
        self._outcomes: Sequence[object] = ()
        self._numbers: Sequence[int | None] = ()
        self.error = ""

    def answered(self, outcomes: Sequence[object], numbers: Sequence[int | None]) -> None:
        """See `BatchTrace`."""
        self._outcomes, self._numbers = outcomes, numbers

    def ended(self, span: Span, seconds: float) -> None:
        """Measure the batch, and end its span."""
        try:
            failures = [at for at, outcome in enumerate(self._outcomes) if isinstance(outcome, BaseException)]
            for at in failures[:_MOST_ERRORS]:
                self._add_failure(span, at)
            self._measure(seconds, len(failures))
        finally:
            span.end()

    def _add_failure(self, span: Span, at: int) -> None:
        error = self._outcomes[at]
        if not isinstance(error, BaseException):
            return
        if span.is_recording():
            mark_failed(span, error, number=self._numbers[at] if at < len(self._numbers) else None)

    def _measure(self, seconds: float, failures: int) -> None:
        instruments, labels = self._host.instruments, self._labels
        instruments.batch_duration.record(seconds, {**labels, names.ERROR_TYPE: self.error} if self.error else labels)
        items = min(len(self._outcomes), len(self._numbers))
        if items > failures:
            instruments.items.add(items - failures, {**labels, names.OUTCOME: "done"})
        if failures:
            instruments.items.add(failures, {**labels, names.OUTCOME: "failed"})
