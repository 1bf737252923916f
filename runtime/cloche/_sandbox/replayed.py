"""`ReplayedInstance`: an instance that makes recorded calls again, and gets from a `Tape` all that its guest asks of the world.

It is recorded as well, so that the two tapes can be compared: the one that it plays, and the one that it writes. The tape that it
plays may be a stranger's. What is on it goes to the guest alone, through the same checks as a message of a caller's.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import Codec
from cloche._requests import Debugged, GuestRequestRouter
from cloche._sandbox import tape as on
from cloche._sandbox.addresses import moved
from cloche._sandbox.recorded import RecordedInstance
from cloche._sandbox.reel import RecordingCodec, Reel
from cloche._wasm import CallState, NoRoomError, Reason, Word
from cloche._wasm.core import core
from cloche.errors import ClocheError
from cloche_wire import Ask, Op, abi

if TYPE_CHECKING:
    from cloche._records import LogRecord
    from cloche._requests import DebugHandler
    from cloche._sandbox.interface import Recorded
    from cloche._sandbox.snapshot import Snapshot
    from cloche._sandbox.tape import Event, Tape
    from cloche._wasm import Engine, Memory
    from cloche.limits import Limits
    from cloche_wire import Reply

__all__ = ["ELSEWHERE", "Intercept", "ReplayedInstance", "call_of"]

Intercept = Callable[[list[Any]], Any]
"""Gets each request of a guest (``[ask, *operands]``) first. It returns the answer's value, or `ELSEWHERE`."""
ELSEWHERE: Final = object()
"""What an `Intercept` returns for a request that the recording answers."""

_OPS: Final = frozenset(map(int, Op))
_NO_FRAME: Final = frozenset((on.ANSWERED, on.CAME, on.ENDED))
_ENDLESS_FUEL: Final = (1 << 63) - 1


def call_of(frame: bytes) -> tuple[int, int]:
    """The number of the `Op` and of the call that a message is for.

    Raises:
        ClocheError: the frame is no message of a host.
    """
    head = frame[:11]
    if len(head) >= 3 and 0x80 < head[0] < 0x98 and head[1] in _OPS:
        length = head[2] - 0x18
        if -0x18 <= length < 0:
            return head[1], head[2]
        if 0 <= length <= 3 and len(head) >= 3 + (1 << length):
            return head[1], int.from_bytes(head[3 : 3 + (1 << length)])
    raise ClocheError("the recording has a message that is none")


class Script:
    """The events that are to happen again, and how far they have.

    Attributes:
        at: number of the next event.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self.at = 0

    @property
    def next(self) -> Event | None:
        """The next event; None: the recording has ended."""
        return self._events[self.at] if self.at < len(self._events) else None

    def next_call(self) -> tuple[bytes, Event] | None:
        """The message of the next call and its `ENDED`; None: there is no call any more."""
        frame: bytes | None = None
        for event in self.left:
            if event[0] == on.SENT and frame is None:
                frame = event[1]
            elif event[0] == on.ENDED and frame is not None:
                return frame, event
        return None

    @property
    def left(self) -> Iterator[Event]:
        """The events that have not happened yet."""
        return itertools.islice(self._events, self.at, None)

    def skip_request(self) -> None:
        """Go behind the next request of the guest, unless the call has no more of them."""
        for at in range(self.at, len(self._events)):
            if self._events[at][0] == on.CAME:
                self.at = at + 1
            if self._events[at][0] in (on.CAME, on.ENDED):
                return

    def skip_call(self) -> None:
        """Go behind the end of the call under way, whatever has become of it."""
        while (event := self.next) is not None:
            self.at += 1
            if event[0] == on.ENDED:
                return


class _Keeper:
    """The recorder of a replay: it keeps the tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def failed(self, sandbox: Recorded, error: ClocheError) -> None:
        """Nothing is written: what fails here has been recorded before."""


class _Coded(Exception):
    """The recording has no value for the request, but one of ``abi.ANSWER_*``."""


class ReplayCodec(RecordingCodec):
    """A codec that sends what the script has, instead of the messages and answers that it gets to encode."""

    __slots__ = ("_put", "_put_back", "apply", "is_own", "script", "where")

    def __init__(self, limits: Limits, place: Any, lift: Any, free: Any, shared: Any, pin: Any, reel: Reel) -> None:
        super().__init__(limits, place, lift, free, shared, pin, reel)
        self._put, self._put_back = place, free
        self.script = Script(())
        self.apply: Callable[[Event], None] = _ignore
        self.where: dict[int, tuple[int, int]] = {}
        self.is_own = False

    def encode(self, message: list[Any], root: str) -> bytes:
        """The next frame of the script.

        Raises:
            _Coded: the script has none here.
        """
        if self.is_own:
            return self.encode_own(message)
        script = self.script
        while (event := script.next) is not None and event[0] not in _NO_FRAME:
            script.at += 1
            match event[0]:
                case on.PLACED:
                    self._replace(event[1], event[2])
                case on.FREED:
                    self._put_back(self._address(event[1]))
                case on.SENT:
                    frame: bytes = moved(event[1], self.where) if self.where else event[1]
                    return frame
                case _:
                    self.apply(event)
        raise _Coded

    def encode_own(self, message: list[Any]) -> bytes:
        """Encode an answer that is not the script's."""
        return Codec.encode(self, message, "answer")

    def place_at(self, recorded: int, address: int, length: int) -> None:
        """Note where a block lies now."""
        if address != recorded:
            self.where[recorded] = address, length

    def _address(self, recorded: int) -> int:
        return self.where.get(recorded, (recorded, 0))[0]

    def _replace(self, recorded: int, content: bytes) -> None:
        self.reel.add((on.PLACED, recorded, content))
        try:
            self.place_at(recorded, self._put(content), len(content))
        except NoRoomError:
            if recorded:
                raise


def _ignore(_: Event) -> None: ...


class _ReplayRouter(GuestRequestRouter):
    """Answers the requests of the guest as the script has it.

    Args:
        memory: see `GuestRequestRouter`.
        codec: the instance's.
        limits: see `GuestRequestRouter`.
        intercept: see `Intercept`; None: nobody is asked first.

    Attributes:
        before: place in the script before the request.
    """

    def __init__(self, memory: Memory, codec: ReplayCodec, limits: Limits, intercept: Intercept | None) -> None:
        super().__init__(memory, codec, limits, ())
        self._replayed = codec
        self._intercept = intercept
        self.before = 0

    def reply(self, request: list[Any], send: Callable[[list[Any], str], Any]) -> Any:
        """See `RequestRouter`."""
        if self._intercept is not None and (value := self._intercept(request)) is not ELSEWHERE:
            self._replayed.script.at = self.before  # this request is none of the recorded ones
            return self._replayed.encode_own([True, value])
        return send([], "answer")


class _DebuggedReplayRouter(Debugged, _ReplayRouter):
    """Answers the requests of the guest's debugger, and all others as the script has it.

    Args:
        memory: see `GuestRequestRouter`.
        codec: the instance's.
        limits: see `GuestRequestRouter`.
        debugger: answers the debugger's.
    """

    def __init__(self, memory: Memory, codec: ReplayCodec, limits: Limits, debugger: DebugHandler) -> None:
        operation = debugger.operations[int(Ask.DEBUG)]

        def intercept(request: list[Any]) -> Any:
            return operation(request[1:]) if request[0] == Ask.DEBUG else ELSEWHERE

        super().__init__(memory, codec, limits, intercept)
        self.debugger = debugger


class ReplayedInstance(RecordedInstance):
    """An instance that plays a tape. `step` makes the next call.

    Args:
        events: the events since `snapshot`.
        tape: the tape to write.
        engine: see `Instance`.
        limits: those under which the calls were recorded.
        name: the node's name.
        on_records: see `Instance`.
        snapshot: the state to begin with; None: the image's.
        granted: whether the guest could make requests.
        intercept: gets the requests first, see `Intercept`.
        deadline_s: seconds that each call may take; None: as long as it takes. A call that was stopped at its deadline in the
            middle of its code is stopped at that deadline again; one that was interrupted there, or whose budget ended it, after
            the time that it took.

    Attributes:
        strays: for each call that has asked the imports for other answers than were recorded, or for fewer: its number, from 0.
        steps: number of calls made so far.
    """

    __slots__ = ("_deadline_s", "_recorded_ns", "_script", "steps", "strays")
    codec = ReplayCodec

    def __init__(
        self,
        events: Sequence[Event],
        tape: Tape,
        engine: Engine,
        limits: Limits,
        name: str,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        granted: bool = False,
        intercept: Intercept | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self._script = script = Script(events)
        self._deadline_s = deadline_s
        self._recorded_ns = 0
        self.steps = 0
        self.strays: list[int] = []
        super().__init__(_Keeper(tape), engine, limits, CallState(name), on_records, snapshot)
        self._words[Word.FUEL] = _ENDLESS_FUEL
        codec = self._codec
        assert isinstance(codec, ReplayCodec)
        this = weakref.ref(self)
        codec.script = script
        codec.apply = lambda event: _apply(this, event)
        if granted or intercept is not None:
            self._words[Word.GRANTED] = 1
            self.host.router = _ReplayRouter(self._memory, codec, limits, intercept)

    def _debug_router(self, debugger: DebugHandler) -> Any:
        assert isinstance(self._codec, ReplayCodec)
        return _DebuggedReplayRouter(self._memory, self._codec, self.limits, debugger)

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """See `Sandbox`. The message is the caller's, not the script's."""
        codec = self._codec
        assert isinstance(codec, ReplayCodec)
        codec.is_own = True
        try:
            return super().aside(op, operands)
        finally:
            codec.is_own = False

    @property
    def pending(self) -> tuple[bytes, Event] | None:
        """The message of the next call, and its `ENDED`; None: all have been made."""
        return self._script.next_call()

    def _take_state(self) -> None:
        """Nothing: the tape of a replay is one generation."""

    @property
    def events_left(self) -> Sequence[Event]:
        """The events of the calls that are still to be made."""
        return tuple(self._script.left)

    def step(self) -> tuple[Reply, Any] | None:
        """Make the next call. Returns the reply, as `exchange` does; None: there is no call any more.

        Raises:
            ClocheError: as `exchange`; or the recording is malformed.
        """
        found = self._script.next_call()
        if found is None:
            return None
        frame, ending = found
        op, self.host.calls = call_of(frame)
        self.host.calls -= 1
        self._limit(ending)
        journal = self.reel.journal
        journal.replay(ending[1])
        try:
            return self.exchange(op, (), "")
        except _Coded:
            raise ClocheError("the recording has a call without a message") from None
        finally:
            if not self.closed:
                self.flush()
                if not journal.is_followed:
                    self.strays.append(self.steps)
            self.steps += 1
            self._script.skip_call()

    def _limit(self, ending: Event) -> None:
        """Set the deadline of the next call."""
        took_ns, has_begun = 0, False
        for event in self._script.left:
            if event[0] == on.ENDED:
                break
            has_begun |= event[0] == on.SENT
            if event[:2] == (on.SET, on.DEADLINE) and not has_begun:
                self._recorded_ns = event[2]
            elif event[:2] == (on.SET, on.TOOK):
                took_ns = event[2]
        seconds = self._deadline_s
        if not ending[6] and ending[2]:
            told_ns = self._recorded_ns if ending[2] == Reason.DEADLINE and self._recorded_ns else took_ns
            if told_ns:
                seconds = told_ns / 1e9 if seconds is None else min(seconds, told_ns / 1e9)
        super().limit_next_calls(math.inf if seconds is None else seconds)

    def apply(self, event: Event) -> None:
        """Do again what the host has done between two calls."""
        what, number, content = (*event, b"")[:3]
        codec, memory = self._codec, self._memory
        assert isinstance(codec, ReplayCodec)
        match what:
            case on.SHARED:
                codec.place_at(number, memory.allocate(content), content)
            case on.WRITTEN:
                memory.write(codec.where.get(number, (number, 0))[0], content)
            case on.SET:
                self._set(number, content)

    def _set(self, what: int, number: int) -> None:
        match what:
            case on.DEPTH:
                self._words[Word.MAX_DEPTH] = self.limits.value_depth | number & abi.HOLD_REPLY
            case on.ITEMS:
                self._words[Word.ITEMS] = number
            case on.MEMORY:
                super().bound_memory(min(number, self.limits.memory_bytes))
            case on.LIVE:
                self.on_record = _ignore_record if number else None

    def _answer(self) -> bytes | int:
        router = self.host.router
        if not isinstance(router, _ReplayRouter):
            return abi.ANSWER_NONE
        router.before = self._script.at
        self._script.skip_request()
        try:
            return router.answer(self._words[Word.ADDRESS], self._words[Word.LENGTH])
        except _Coded:
            event = self._script.next
        if event is None or event[0] != on.ANSWERED:
            return abi.ANSWER_NONE  # it asks for more than it did
        self._script.at += 1
        _, code, reason = event
        if reason and not self._words[Word.TOLD]:
            why = Reason.DEADLINE if reason == Reason.DEADLINE else Reason.CANCELLED
            core().cancel(self._handle, 0, int(why), 0)
        return int(code)


def _apply(this: weakref.ref[ReplayedInstance], event: Event) -> None:
    """A codec applies events to its instance, to which it has no reference of its own: the two would be a circle."""
    instance = this()
    if instance is not None:
        instance.apply(event)


def _ignore_record(_: LogRecord) -> None: ...
