"""Where the time of a call goes: phase by phase, on the host's clock, while someone asks for it.

A node that is not recorded pays nothing: `record` replaces what its one instance calls with timed twins, and puts the
originals back. Phases do not overlap: what is placed in guest memory during encoding is "lower" and not "encode". While the guest
runs, all is "guest", also the copy of the request's frame, and what the host does to answer the guest (services, mounts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cloche._records import LogRecord
from cloche._sandbox.instance import Instance
from cloche._wasm.call_state import Stop
from cloche._wasm.core import Word
from cloche.errors import ClocheError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._runtime.node import Node

__all__ = ["NAMES", "CallPhases", "Phase", "Recorder", "record"]

NAMES: Final = ("encode", "lower", "guest", "lift", "decode", "logs")
"""The phases, in the order in which a call meets them."""

_MAX_SEGMENTS: Final = 400
"""Of one call; a list of a thousand arrays alternates between encode and lower as often. Totals count them all."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of a call, in seconds since the recorder began."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class CallPhases:
    """One exchange with the guest.

    Attributes:
        op: name of the `Op`.
        call: its number on the node.
        start: seconds since the recorder began.
        end: likewise.
        phases: its stretches in order, without overlap; at most 400 of them.
        totals: seconds by name, every one of `NAMES`. What is missing to ``end - start`` is the host's bookkeeping.
        failed: the exception's type, if the guest did not answer, or answered with a failure because it was told to stop; else "".
    """

    op: str
    call: int
    start: float
    end: float
    phases: tuple[Phase, ...]
    totals: dict[str, float]
    failed: str = ""


class Recorder:
    """The calls that were recorded.

    Attributes:
        calls: oldest first.
        dropped: calls after the first `max_calls`, of which nothing is kept.
    """

    def __init__(self, max_calls: int, after: Callable[[Instance, CallPhases], None] | None = None) -> None:
        self.calls: list[CallPhases] = []
        self.dropped = 0
        self.after = after
        self._max_calls = max_calls
        self._zero = perf_counter()
        self._open: list[str] = []
        self._since = self._began = 0.0
        self._segments: list[tuple[str, float, float]] = []
        self._totals = dict.fromkeys(NAMES, 0.0)
        self.under_way = False

    def begin(self) -> None:
        """A call begins."""
        self.under_way = True
        self._open.clear()
        self._segments = []
        self._totals = dict.fromkeys(NAMES, 0.0)
        self._began = perf_counter()

    def end(self, op: int, call: int, failed: str) -> CallPhases:
        """It has ended, and with it every phase that an exception left open."""
        while self._open:
            self.leave()
        ended, zero = perf_counter(), self._zero
        self.under_way = False
        phases = tuple(Phase(name, start - zero, end - zero) for name, start, end in self._segments)
        made = CallPhases(Op(op).name, call, self._began - zero, ended - zero, phases, self._totals, failed)
        if len(self.calls) < self._max_calls:
            self.calls.append(made)
        else:
            self.dropped += 1
        return made

    def enter(self, name: str) -> None:
        """A phase begins; the one around it pauses."""
        now = perf_counter()
        if self._open:
            self._cut(self._open[-1], now)
        self._open.append(name)
        self._since = now

    def leave(self) -> None:
        """The innermost phase ends; the one around it goes on."""
        now = perf_counter()
        self._cut(self._open.pop(), now)
        self._since = now

    def _cut(self, name: str, now: float) -> None:
        self._totals[name] += now - self._since
        if len(self._segments) < _MAX_SEGMENTS:
            self._segments.append((name, self._since, now))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, which counts as phase `name`."""

        def call(*arguments: Any, **options: Any) -> Any:
            if not self.under_way or "guest" in self._open:  # what the guest waits for is its own time
                return function(*arguments, **options)
            self.enter(name)
            try:
                return function(*arguments, **options)
            finally:
                self.leave()

        return call


_STOPPED: Final = {None: "", Stop.DEADLINE: "DeadlineError", Stop.CANCELLED: "Cancelled"}


class _Twin:
    """An object with some methods timed; everything else is the original's."""

    def __init__(self, original: Any, recorder: Recorder, **phases: str) -> None:
        self.original = original
        self.recorder = recorder
        for method, phase in phases.items():
            setattr(self, method, recorder.timed(phase, getattr(original, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _Recorded(Instance):
    """What an instance becomes while it is recorded: same slots, so the same object can be both."""

    __slots__ = ()

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        recorder: Recorder = self._codec.recorder  # type: ignore[attr-defined]  # a _Twin: see record
        failed = ""
        recorder.begin()
        try:
            answer = super().exchange(op, operands, root)
            if answer[0] is Reply.FAILURE:
                failed = _STOPPED[self.told]
            return answer
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            made = recorder.end(op, self.calls, failed)
            if recorder.after is not None:
                words = self._words
                kept = words[Word.TOLD], words[Word.TOOK_NS]
                recorder.after(self, made)
                if not self.closed:  # `after` may have made a call of its own; the caller asks how this one has ended
                    words[Word.TOLD], words[Word.TOOK_NS] = kept

    def _serve(self, status: int) -> int:
        recorder: Recorder = self._codec.recorder  # type: ignore[attr-defined]  # as above
        served: int = recorder.timed("guest", super()._serve)(status)
        return served

    def _drain(self) -> list[LogRecord]:
        recorder: Recorder = self._codec.recorder  # type: ignore[attr-defined]  # as above
        found: list[LogRecord] = recorder.timed("logs", super()._drain)()
        return found

    def close(self, *, keep: bool = False) -> None:
        _restore(self)
        self.close(keep=keep)  # its own, now


@contextmanager
def record(
    node: Node, *, max_calls: int = 10_000, after: Callable[[Instance, CallPhases], None] | None = None
) -> Iterator[Recorder]:
    """Record the phases of every call on `node` in the block. Timing itself adds some 0.3 us to each phase.

    Args:
        node: it lives in a sandbox of this process.
        max_calls: how many calls are kept.
        after: told of each call once it is over; the instance may be closed by then.

    Raises:
        ClocheError: the node is recorded already, or has no instance in this process.
        ClosedError: it is closed.
    """
    recorder = Recorder(max_calls, after)
    instance = node._lock.run(_begin, node, recorder)
    try:
        yield recorder
    finally:
        node._lock.run(_restore, instance)


def _begin(node: Node, recorder: Recorder) -> Instance:
    node._check_free()
    instance = node._instance
    if isinstance(instance, _Recorded):
        raise ClocheError(f"node {node.name!r} is being recorded already")
    if type(instance) is not Instance:
        raise ClocheError(f"node {node.name!r} has no sandbox in this process whose calls could be timed")
    _replace(instance, recorder)
    return instance


def _replace(instance: Any, recorder: Recorder) -> None:
    codec = instance._codec
    instance._codec = twin = _Twin(codec, recorder, encode="encode", decode="decode")
    lifter = codec._lifter
    twin.kept = codec._place, lifter._lift, lifter._pin  # type: ignore[attr-defined]  # for _restore
    codec._place = recorder.timed("lower", codec._place)
    lifter._lift, lifter._pin = recorder.timed("lift", lifter._lift), recorder.timed("lift", lifter._pin)
    instance._memory = _Twin(instance._memory, recorder, allocate="lower", free="lower", place="lower", read="lift")
    twin.kept = (*twin.kept, instance._call)  # type: ignore[attr-defined]
    instance._call = recorder.timed("guest", instance._call)
    instance.__class__ = _Recorded


def _restore(instance: Any) -> None:
    if type(instance) is not _Recorded:
        return
    recorded: Any = instance
    twin = recorded._codec
    codec = twin.original
    codec._place, codec._lifter._lift, codec._lifter._pin, recorded._call = twin.kept
    recorded._codec = codec
    recorded._memory = recorded._memory.original
    recorded.__class__ = Instance
