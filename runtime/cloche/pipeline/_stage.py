"""`Stage`: one node of a running pipeline. Takes items from its inbox, has the node work on them, and sends its outputs on.

A stage decides what becomes of an item that fails, and nothing else does: `NodeSpec` says how. What it sends on keeps the numbers
and the order of the items.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

from cloche._runtime.tracing import RunTrace
from cloche._times import ItemTimes
from cloche.errors import ClocheError, EncodeError
from cloche.pipeline._channel import Barrier, End, Failed, Inbox, Marker, Packet
from cloche.pipeline._digest import digest
from cloche.pipeline._log import working_on
from cloche.pipeline._rejected import Rejected, recorded
from cloche.pipeline._status import StageCounts
from cloche.pipeline.errors import BrokenError, CircuitOpenError, PipelineError
from cloche.pipeline.placement import BatchResult, Placement, Prepared, State
from cloche.pipeline.spec import DeadLetter, Fail, NodeSpec, OnError, Restore, Retry

__all__ = ["Outlet", "Stage", "Surroundings", "sent"]

_LISTS: Final = {list}
BATCH_S: Final = 0.005
"""Batches grow while one takes less than this, and shrink when one takes four times as long: so that outputs are not held up."""


class Surroundings(Protocol):
    """What a stage needs of the run that it is a part of."""

    stopping: threading.Event
    session_id: str | None
    trace: RunTrace | None

    def warn(self, node: str, message: str, **facts: Any) -> None:
        """Log a warning."""

    def reject(self, rejected: Rejected) -> object:
        """Take an item that was handed to ``dead_letters``."""


class Outlet(Protocol):
    """Where a stage sends its outputs: a `Channel`, or a `Stage` that runs in the same thread."""

    def put(self, packets: Sequence[Packet]) -> bool:
        """Take packets. Returns False if no more are wanted."""

    def mark(self, marker: Marker) -> bool:
        """Take a marker. Returns False if no more are wanted."""


def sent(outlets: Sequence[Outlet], packets: Sequence[Packet]) -> bool:
    """Put packets into each outlet. Returns False if none wants more.

    Into several one by one: where their ways meet again, all have to be there for the next item to pass, and who waits for room in
    one of them, with a batch of which the others have nothing yet, would wait for ever.
    """
    if len(outlets) == 1:
        return outlets[0].put(packets)
    wanted = True
    for packet in packets:
        puts = [outlet.put([packet]) for outlet in outlets]  # into all, so it is a list
        wanted = any(puts)
    return wanted


class _Ends(Exception):
    """Ends the stage with an error for the caller."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Stage:
    """One node, or one copy of it, at work.

    Args:
        name: the node's id.
        state_name: what the state of this copy is called in a checkpoint.
        spec: its specification.
        placement: the node in its place, not started.
        outlets: where its outputs go.
        around: the run.
    """

    def __init__(
        self,
        name: str,
        state_name: str,
        spec: NodeSpec,
        placement: Placement,
        outlets: Sequence[Outlet],
        around: Surroundings,
    ) -> None:
        self.name = name
        self.counts = StageCounts()
        self.times = ItemTimes()
        self.state_name = state_name
        self._spec = spec
        self.placement = placement
        self._outlets = list(outlets)
        self._around = around
        self._first: list[Any] = []
        """What the node gave before its first item; it goes with the outputs of that."""
        self._most = spec.batch
        self._size = 1
        self._alone = 0
        """Items that are sent alone, because the batch that they were in broke the node."""
        self._saves = isinstance(_last(spec.on_error), Restore)
        self._failures = 0
        self._opened_at: float | None = None
        self._ended = False
        """Whether the node wants no more items."""
        self._done = False
        self._is_source = False
        self._retrying = False
        self._saved: State = b""
        """The state before the item under way, if `Restore` may need it."""

    def prepare(self) -> None:
        """Load the node, and check what it needs, if its place can do so before it is started.

        Raises:
            Exception: it could not be loaded, or its place has not what it needs.
        """
        if isinstance(self.placement, Prepared):
            self.placement.prepare()

    def is_source(self) -> bool:
        """Whether the node, once it is prepared or restored, makes outputs without items. It is then called for one at a time."""
        self._is_source = isinstance(self.placement, Prepared) and self.placement.is_source()
        if self._is_source:
            self._most = 1
        return self._is_source

    @property
    def makes_items(self) -> bool:
        """What `is_source` has found."""
        return self._is_source

    @property
    def is_over(self) -> bool:
        """Whether the node wants no more items."""
        return self._ended

    def start(self, states: Mapping[str, State] | None) -> None:
        """Start the node.

        Args:
            states: the states of a checkpoint, with one for this node unless its stream had ended before; None: it begins anew.

        Raises:
            Exception: it could not be started.
        """
        if states is None:
            result = self.placement.start()
            if isinstance(result.outcomes[0], Exception):
                raise result.outcomes[0]
            self._first, self._ended = result.outcomes[0], result.ended
        elif self.state_name in states:
            self.placement.restore(states[self.state_name])
        else:
            self._ended = True

    def open(self) -> None:
        """Send on the end of a node that wants no items at all. Once, when all nodes have started."""
        if self._ended:
            self._finish(End([]))

    def run(self, inbox: Inbox) -> None:
        """Work until the inbox ends."""
        try:
            while not self._done:
                got = inbox.take(self._size if self._alone == 0 else 1)
                if got is None:
                    return
                if isinstance(got, list):
                    self.put(got)
                else:
                    self.mark(got)
        except BaseException as error:  # what joins the channels has refused an item
            self._finish(Failed(error))
        finally:
            inbox.close()

    def put(self, packets: Sequence[Packet]) -> bool:
        """Work on items, and send on what the node makes of them. Returns False if the stage wants no more."""
        if self._done:
            return False
        has_one_each = True
        try:
            values, numbers = [value for _, (value,) in packets], [number for number, _ in packets]
        except ValueError:  # an item of no value, or of several
            has_one_each = False
            values = [value for _, of_item in packets for value in of_item]
            numbers = [number for number, of_item in packets for _ in of_item]
        made: list[list[Any]] = []
        ends: BaseException | None = None
        try:
            self._work(values, numbers, made)
        except _Ends as end:
            ends = end.error
        except BaseException as error:
            ends = error
        self._send(list(zip(numbers, made, strict=False)) if has_one_each else self._regrouped(packets, made))
        if ends is not None:
            self._finish(Failed(ends))
        elif self._ended:
            self._finish(End([]))
        return not self._done

    def mark(self, marker: Marker) -> bool:
        """Do what a marker asks for, and send it on. Returns False if the stage wants no more."""
        if self._done:
            return False
        try:
            if isinstance(marker, Barrier):
                marker.states[self.state_name] = self.placement.snapshot()
                self._pass(marker)
            elif isinstance(marker, End):
                self._finish(End(self._last_outputs(marker.values)))
            else:
                self._finish(marker)
        except _Ends as end:
            self._finish(Failed(end.error))
        except BaseException as error:
            self._finish(Failed(error))
        return not self._done

    def _finish(self, marker: Marker) -> None:
        self._done = True
        if isinstance(marker, End) and self._first:
            marker = End(self._first + marker.values)
            self._first = []
        self._pass(marker)

    def _pass(self, marker: Marker) -> None:
        for outlet in self._outlets:
            outlet.mark(marker)

    def _send(self, packets: list[Packet]) -> None:
        if not packets:
            return
        if self._first:
            number, values = packets[0]
            packets[0] = number, self._first + values
            self._first = []
        if not sent(self._outlets, packets):
            self._done = True  # nobody wants more: whoever is before this stage learns it by its next `put`

    def _regrouped(self, packets: Sequence[Packet], made: list[list[Any]]) -> list[Packet]:
        """The outputs by the items that they were made of.

        An item that fails has none: where branches meet, a part of its outputs would take the numbers of others. The last item of a
        node that wants no more has those that there are.
        """
        grouped: list[Packet] = []
        at = 0
        for number, values in packets:
            of_item = made[at : at + len(values)]
            if len(of_item) < len(values) and not (self._ended and of_item):
                break
            grouped.append((number, [output for outputs in of_item for output in outputs]))
            at += len(values)
        return grouped

    def _last_outputs(self, values: list[Any]) -> list[Any]:
        """Work on what the nodes before gave at their end, then end this node's input: its outputs."""
        made: list[list[Any]] = []
        self._work(values, [None] * len(values), made)
        outputs = [output for of_item in made for output in of_item]
        if self._ended:
            return outputs
        try:
            result = self._call([], end=True)
        except BrokenError as error:
            raise _Ends(self._error(error, "at the end of its input", None, None)) from None
        for outcome in result.outcomes[:1]:
            if isinstance(outcome, Exception):
                raise _Ends(self._error(outcome, "at the end of its input", None, None))
            outputs += outcome
            self.counts.outputs += len(outcome)
        return outputs

    def _work(self, values: list[Any], numbers: Sequence[int | None], made: list[list[Any]]) -> None:
        """Have the node work on values, and add a list of outputs for each to `made`.

        Raises:
            _Ends: the pipeline ends.
        """
        while len(made) < len(values) and not self._ended:
            at = len(made)
            size = 1 if self._alone or self._saves or self._opened_at is not None else max(self._size, 1)
            batch = values[at : at + size]
            outcomes = self._outcomes(batch, numbers[at : at + size])
            if _is_good(outcomes):
                made += outcomes
                self.counts.items += len(outcomes)
                self.counts.outputs += sum(map(len, outcomes))
                outcomes = []
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    self.counts.failed += 1
                    outcome = self._decided(values[len(made)], numbers[len(made)], outcome)
                    if self._is_source and not outcome:
                        self._ended = True  # it would do the same again
                made.append(outcome)
                self.counts.items += 1
                self.counts.outputs += len(outcome)
            self._alone = max(0, self._alone - (len(made) - at)) if self._alone else 0

    def _outcomes(self, batch: list[Any], numbers: Sequence[int | None]) -> list[list[Any] | Exception]:
        """The outcomes of at least one item of a batch; none if the batch has to be sent anew, item by item."""
        if self._opened_at is not None and time.monotonic() - self._opened_at < self._reset_s:
            return [
                CircuitOpenError(f"node {self.name!r} was not called: it has failed {self._failures} times in a row")
            ]
        try:
            result = self._call(batch, numbers)
        except BrokenError as error:
            self.counts.breaks += 1
            cause = error.__cause__ or error
            if not error.recovered:
                of = _span(numbers)
                alone = batch[0] if len(batch) == 1 else None
                raise _Ends(self._error(cause, f"while it worked on {of}", numbers[0], alone)) from None
            if len(batch) > 1:
                self._around.warn(
                    self.name, "broke, and was brought back: the items of its batch are sent again, one by one"
                )
                self._alone = len(batch)
                return []
            outcomes: list[list[Any] | Exception] = [cause if isinstance(cause, Exception) else error]
        except EncodeError as error:
            if len(batch) > 1:
                self._alone = len(batch)
                return []
            outcomes = [error]
        else:
            outcomes = result.outcomes
            self._ended = result.ended
        self._count_failures(outcomes)
        return outcomes

    def _count_failures(self, outcomes: list[list[Any] | Exception]) -> None:
        if _is_good(outcomes):
            self._failures = 0
        else:
            for outcome in outcomes:
                self._failures = self._failures + 1 if isinstance(outcome, Exception) else 0
        if (breaker := self._spec.breaker) is None:
            return
        if self._failures < breaker.failures:
            self._opened_at = None
            return
        if self._opened_at is None:
            self._around.warn(
                self.name, f"is not called for {breaker.reset_s} s: it has failed {self._failures} times in a row"
            )
        self._opened_at = time.monotonic()

    @property
    def _reset_s(self) -> float:
        return 0.0 if self._spec.breaker is None else self._spec.breaker.reset_s

    def _call(self, batch: list[Any], numbers: Sequence[int | None] = (), *, end: bool = False) -> BatchResult:
        if self._around.stopping.is_set():
            raise _Ends(ClocheError("the pipeline was stopped"))
        if self._saves and not end and not self._retrying:
            self._saved = self.placement.snapshot()
        working_on(self._around.session_id, numbers)
        began = time.perf_counter()
        try:
            trace = self._around.trace
            if trace is None:
                result = self.placement.call(batch, end=end)
            else:
                with trace.batch(self.name, self._spec.place, numbers, end=end) as traced:
                    result = self.placement.call(batch, end=end)
                    traced.answered(result.outcomes, numbers)
        finally:
            took = time.perf_counter() - began
            self.counts.batches += 1
            self.counts.busy_s += took
            if batch:
                self.times.add(len(batch), took)
        self._fit(len(batch), took)
        return result

    def _fit(self, items: int, took: float) -> None:
        """Choose the size of the next batch by the time of the last one."""
        if took < BATCH_S and items >= self._size:
            self._size = min(2 * self._size, self._most)
        elif took > 4 * BATCH_S:
            self._size = max(1, self._size // 2)

    def _decided(self, value: Any, number: int | None, error: Exception) -> list[Any]:
        """What becomes of an item for which the node has raised: its outputs after all, or none.

        Raises:
            _Ends: the pipeline ends.
        """
        rule: OnError = self._spec.on_error
        if isinstance(error, CircuitOpenError) and isinstance(rule, Retry):
            rule = rule.then
        if isinstance(rule, Retry):
            outputs = self._retried(rule, value, number, error)
            if isinstance(outputs, list):
                return outputs
            error, rule = outputs, rule.then
        if isinstance(rule, Restore):
            if not isinstance(error, CircuitOpenError):
                self.placement.restore(self._saved)
            rule = rule.then
        if isinstance(rule, Fail):
            raise _Ends(self._error(error, "", number, value))
        self.counts.rejected += 1
        facts: dict[str, Any] = {"item": number, "digest": digest(value)}
        if path := recorded(error):
            facts["recording"] = path
        self._around.warn(self.name, f"item {number} was left out: {error}", **facts)
        if isinstance(rule, DeadLetter):
            self._around.reject(Rejected(self.name, number, value, error))
        return []

    def _retried(self, rule: Retry, value: Any, number: int | None, error: Exception) -> list[Any] | Exception:
        for attempt in range(1, rule.times + 1):
            if self._around.stopping.wait(rule.wait_s(attempt)):
                raise _Ends(ClocheError("the pipeline was stopped"))
            self.counts.retried += 1
            self._retrying = True
            try:
                outcomes = self._outcomes([value], [number])
            finally:
                self._retrying = False
            if outcomes and isinstance(outcomes[0], list):
                return outcomes[0]
            failed = outcomes[0] if outcomes else None
            if not isinstance(failed, Exception) or isinstance(failed, CircuitOpenError):
                break
            error = failed
        return error

    def _error(self, error: BaseException, what: str, number: int | None, value: Any) -> PipelineError:
        name = f"node {self.name!r}"
        shown = digest(value) if value is not None and number is not None else ""
        where = what or (f"on item {number}" if number is not None else "on what came at the end of the input")
        told = f" (SHA-256 {shown})" if shown else ""
        failed = PipelineError(f"{name} failed {where}{told}: {error}", node=self.name, item=number, digest=shown)
        failed.__cause__ = error
        if path := recorded(error):
            failed.recording = path
            failed.add_note(f"Its last calls are recorded: cloche replay {shlex.quote(path)} makes them again.")
        return failed


def _is_good(outcomes: list[list[Any] | Exception]) -> TypeGuard[list[list[Any]]]:
    """Whether there are some, and none is an error: nearly always, so it takes no step for each."""
    return set(map(type, outcomes)) == _LISTS


def _last(rule: OnError) -> OnError:
    return rule.then if isinstance(rule, Retry) else rule


def _span(numbers: Sequence[int | None]) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return "what came at the end of the input"
    return f"item {known[0]}" if known[0] == known[-1] else f"items {known[0]} to {known[-1]}"
