"""`reload`: puts other code in the place of a node's, with its state rebuilt by making its recorded calls again (`Node.reload`)."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cloche._recording import Difference, NodeRecorder, Recording
from cloche._runtime.replay_session import ReplaySession
from cloche.errors import ClocheError, NodeRaisedError, ReloadError
from cloche_wire import Failure

if TYPE_CHECKING:
    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.load_options import LoadOptions, Origin
    from cloche._runtime.replay_session import Step
    from cloche._sandbox import Snapshot
    from cloche.source import Source

__all__ = ["ReloadReport", "reload"]

_STATES: Final = ("replay", "new")
_DIFFERENCES: Final = ("refuse", "keep")
_OUTPUTS: Final = frozenset(("result", "outcome", "request"))
"""Kinds of `Difference` that count. Logs, and how often a node looks at the clock, may change with its code."""


@dataclass(frozen=True, slots=True, eq=False)
class ReloadReport:
    """What a `Node.reload` has come to. True if the new code has given the same in all calls that were made again.

    Attributes:
        state: "replay" or "new", as it was asked for.
        calls: number of calls that were made again.
        differences: where the new code gives something else than the node gave, in order. After the first one it may be in another
            state, so the others may follow from it.
        cleanup_error: the error in which the old code's ``cleanup`` ended; None: none.
        seconds: how long it took.
    """

    state: str
    calls: int
    differences: tuple[Difference, ...]
    cleanup_error: ClocheError | None
    seconds: float

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        lines = [f"{self.calls} calls made again in {self.seconds:.2f} s, {len(self.differences)} differences"]
        lines += [f"  {one}" for one in self.differences[:20]]
        if len(self.differences) > 20:
            lines.append(f"  and {len(self.differences) - 20} more")
        return "\n".join(lines)


def reload(
    calls: NodeCalls,
    source: Source | str | os.PathLike[str],
    entry: str | None = None,
    state: Literal["replay", "new"] = "replay",
    differences: Literal["refuse", "keep"] = "refuse",
) -> ReloadReport:
    """See `Node.reload`."""
    for name, value, known in (("state", state, _STATES), ("differences", differences, _DIFFERENCES)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}: give one of {', '.join(map(repr, known))}")
    return calls.lock.run(_reload, calls, source, entry, state, differences == "keep")


def _reload(
    calls: NodeCalls, source: Source | str | os.PathLike[str], entry: str | None, state: str, keeps: bool
) -> ReloadReport:
    began = time.monotonic()
    old_origin = calls.check_reloadable()
    recorder = calls.sandbox.recorded.recorder if calls.sandbox.recorded is not None else None
    recording = _whole_recording(calls) if state == "replay" else None
    options: LoadOptions = dataclasses.replace(
        old_origin.options, name=calls.name, entry=old_origin.options.entry if entry is None else entry
    )

    def origin() -> Origin:
        own = recorder.successor() if isinstance(recorder, NodeRecorder) else None
        return dataclasses.replace(old_origin, options=dataclasses.replace(options, recorder=own))

    found: list[Difference] = []
    made: NodeCalls = old_origin.runtime.load_again(source, origin(), calls.lock)
    try:
        if recording is None:
            old = calls.take_over(made)
        else:
            fresh = made.snapshot()
            rebuilt = _rebuilt(calls, recording, fresh, made.info, old_origin, found)
            report = ReloadReport(state, len(recording.calls), tuple(found), None, time.monotonic() - began)
            if rebuilt is None:
                raise _refusal(calls, report, "the new code breaks in the calls that were made again")
            if found and not keeps:
                raise _refusal(calls, report, "the new code gives something else")
            old = _taken_over(calls, rebuilt, fresh, origin())
    finally:
        made.give_up(calls)
    cleanup_error: ClocheError | None = None
    if recording is None:
        try:
            old.close()
        except ClocheError as error:
            cleanup_error = error
    else:
        old.discard()  # without `cleanup`: its state lives on
    count = 0 if recording is None else len(recording.calls)
    return ReloadReport(state, count, tuple(found), cleanup_error, time.monotonic() - began)


def _whole_recording(calls: NodeCalls) -> Recording:
    """The recording of all calls since the node was loaded.

    Raises:
        ClocheError: there is none.
    """
    if calls.sandbox.recorded is None:
        raise ClocheError(
            f"node {calls.name!r} is not recorded, so its state cannot be rebuilt: load it with record=True, or reload it with "
            "state='new'"
        )
    if calls.origin is not None and calls.origin.runtime.isolation != "none":
        raise ReloadError(
            f"node {calls.name!r} runs in a worker process, and calls are made again in this one alone: reload it with state='new'"
        )
    recording = calls.recording()
    if recording.redacted:
        raise ReloadError(f"the recording of node {calls.name!r} is redacted: reload it with state='new'")
    if not recording.first:
        raise ReloadError(
            f"the recording of node {calls.name!r} does not begin with its loading any more: it has had more calls than are kept, "
            "broke, or was interrupted in the middle of its code. Its state cannot be rebuilt: reload it with state='new', or "
            "record more with cloche.replay.Record(calls=...)"
        )
    return recording


def _rebuilt(
    calls: NodeCalls,
    recording: Recording,
    fresh: Snapshot,
    info: dict[str, object],
    origin: Origin,
    found: list[Difference],
) -> Snapshot | None:
    """Make the recorded calls again on a fresh node. Returns its state after them; None: it has broken.

    Args:
        calls: the node.
        recording: its calls.
        fresh: the state of the new code after loading.
        info: the description of the new node.
        origin: how the node was made.
        found: gets the differences.
    """
    again = dataclasses.replace(recording, state=fresh, after=None)
    outside = calls.snapshot().outside
    try:
        with ReplaySession(again, origin.runtime, deadline_s=calls.sandbox.limits.deadline_s) as session:
            while (step := session.step()) is not None:
                found += _outputs(step)
            if session.sandbox.closed or session.at < len(recording.calls):
                return None
            state: Snapshot = session.run(lambda sandbox: sandbox.snapshot(info))
    except ClocheError as error:
        raise ReloadError(f"node {calls.name!r} was not reloaded: {error}") from error
    return dataclasses.replace(state, name=calls.name, outside=outside)


def _outputs(step: Step) -> Iterator[Difference]:
    """The differences of a call that count. Two exceptions are the same if their kinds and messages are: lines of code move."""
    for difference in step.differences:
        if difference.what == "result" and isinstance(step.error, NodeRaisedError) and step.call.reply is not None:
            outcome = step.call.outcome
            raised = step.error.failure
            if isinstance(outcome, Failure) and (outcome.exc_type, outcome.message) == (
                raised.exc_type,
                raised.message,
            ):
                continue
        if difference.what in _OUTPUTS:
            yield difference


def _refusal(calls: NodeCalls, report: ReloadReport, why: str) -> ReloadError:
    first = f" ({report.differences[0]})" if report.differences else ""
    error = ReloadError(f"node {calls.name!r} was not reloaded: {why}{first}")
    error.report = report
    return error


def _taken_over(calls: NodeCalls, rebuilt: Snapshot, fresh: Snapshot, origin: Origin) -> NodeCalls:
    """Have the node go on with the state that was rebuilt, and with the recording of the calls that have led to it."""
    assert calls.sandbox.recorded is not None
    tape = calls.sandbox.recorded.recorder.tape
    made: NodeCalls = origin.runtime.restore_again(rebuilt, origin, calls.lock)
    try:
        assert made.sandbox.recorded is not None
        made.sandbox.recorded.recorder.tape.continue_from(tape, fresh)
        return calls.take_over(made)
    finally:
        made.give_up(calls)
