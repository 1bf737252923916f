"""`ReplaySession`: a recording under way: a fresh sandbox in which its calls are made again, one at a time.

`cloche.replay.Session` is its public face; `reloading` stands on it as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloche._recording import Difference, calls_of, compare
from cloche._requests import run_inside
from cloche._runtime.closing import ClosedByWith
from cloche._sandbox import Tape
from cloche.errors import ClocheError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._recording import RecordedCall, Recording
    from cloche._records import LogRecord
    from cloche._runtime.calls import NodeCalls
    from cloche._sandbox import Intercept, ReplayedInstance
    from cloche._sandbox.tape import Event

__all__ = ["DEADLINE_S", "ReplaySession", "Step"]

DEADLINE_S: Final = 600.0
"""Seconds that a replayed call may take, unless the caller says otherwise: a recording may be a stranger's, and never end."""
_ENDLESS: Final = 1 << 62
_REPLAY_BYTES: Final = 32 << 20
"""What the guest of a replay may say beside what the recording has: a stranger's would fill the host's memory."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call that was made again.

    Attributes:
        call: the recorded call.
        value: what the node returned now; None if it raised.
        error: the error that a caller would have got now; None: none.
        differences: where the replay parts from the recording; empty: nowhere.
    """

    call: RecordedCall
    value: Any
    error: ClocheError | None
    differences: tuple[Difference, ...]


def _size(event: Event) -> int:
    """Bytes that an event takes in memory, about."""
    return 1000 + sum(len(part) for part in event if isinstance(part, (bytes, tuple)))


class ReplaySession(ClosedByWith):
    """A recording that is being replayed, in a runtime that there is. `cloche.replay.Session` describes the arguments.

    Args:
        recording: the recording.
        runtime: the `Runtime`, which imports this module.
        intercept: see `Session`, as the arguments after it.
        deadline_s: likewise.
        on_log: likewise.

    Attributes:
        recording: the argument of that name.
        runtime: the runtime.
        sandbox: see `Session`.
    """

    sandbox: ReplayedInstance
    _calls: NodeCalls

    def __init__(
        self,
        recording: Recording,
        runtime: Any,
        *,
        intercept: Intercept | None = None,
        deadline_s: float | None = DEADLINE_S,
        on_log: Callable[[LogRecord], object] | None = None,
    ) -> None:
        self.recording = recording
        self.runtime = runtime
        self._tape = Tape(_ENDLESS, _REPLAY_BYTES + sum(map(_size, recording.events)))
        self._on_log = on_log
        self.sandbox, self._calls = runtime.replaying(
            recording, self._tape, intercept=intercept, deadline_s=deadline_s, deliver=self._deliver
        )

    @property
    def calls(self) -> NodeCalls:
        """What lets in one call at a time. Cloche's own."""
        return self._calls

    @property
    def at(self) -> int:
        """Number of calls that were made so far."""
        return self.sandbox.steps

    @property
    def is_done(self) -> bool:
        """Whether no call is left, or the guest has broken."""
        return self.sandbox.closed or self.sandbox.pending is None

    @property
    def is_exact(self) -> bool:
        """Whether all calls so far could be replayed bit for bit: none was interrupted in the middle of its code."""
        return all(call.is_exact for call in self.recording.calls[: self.at])

    def run(self, function: Callable[[ReplayedInstance], Any]) -> Any:
        """Call a function with the sandbox, while nothing else uses it."""
        return self._calls.lock.run(lambda: function(self.sandbox))

    def step(self) -> Step | None:
        """Make the next call. Returns it; None: there is none any more, or the guest has broken.

        Raises:
            ClocheError: the recording is malformed.
        """
        index, calls = self.at, self.recording.calls
        if self.is_done or index >= len(calls):
            return None
        recorded = calls[index]
        self._tape.begin(None, follows=False)  # the events of the calls before are not needed any more
        value, error = self.run(lambda sandbox: self._made(sandbox, recorded))
        made = list(calls_of(self._tape.now.events, self.recording.limits))
        replayed = made[0] if made else None
        strayed = index in self.sandbox.strays
        if replayed is None and error is not None and recorded.error == type(error).__name__:
            return Step(recorded, value, error, ())
        return Step(recorded, value, error, tuple(compare(index, recorded, replayed, strayed)))

    def _made(self, sandbox: ReplayedInstance, recorded: RecordedCall) -> tuple[Any, ClocheError | None]:
        op = Op[recorded.op.upper()]
        try:
            reply = sandbox.step()
        except ClocheError as error:
            if recorded.error or sandbox.closed:
                return None, error
            raise
        if reply is None:
            raise ClocheError("the recording has no such call")
        kind, value = reply
        if kind is Reply.FAILURE:
            try:
                sandbox.finish(kind, value, op)
            except ClocheError as error:
                return None, error
        return value, None

    def run_to(self, call: int) -> None:
        """Make calls until so many have been made: then `step` makes the one with that index.

        Raises:
            ClocheError: the recording has fewer calls, or the guest breaks before.
        """
        while self.at < call:
            if self.step() is None:
                raise ClocheError(f"the recording has ended before call {call}")

    def rest(self) -> Recording:
        """The recording of the calls that are still to be made, which begins with the present state.

        A debugger steps back with it: it replays the rest once more, up to a place before.

        Raises:
            ClocheError: the guest has broken, or is not loaded yet.
        """
        if self.recording.state is None:
            raise ClocheError("the node is not loaded yet: there is no state to begin with")
        info = self.recording.state.info
        state, events = self.run(lambda sandbox: (sandbox.snapshot(info), sandbox.events_left))
        return dataclasses.replace(self.recording, state=state, events=events, first=False)

    def _deliver(self, records: list[LogRecord], _name: str) -> None:
        if self._on_log is not None:
            for record in records:
                run_inside(self._calls.lock, None, self._on_log, record)

    def close(self) -> None:
        """Free the sandbox. Calling it again does nothing."""
        self._calls.close()
