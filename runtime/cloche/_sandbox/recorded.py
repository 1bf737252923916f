"""`RecordedInstance`: an instance whose node's `Tape` gets all that goes into and comes out of its guest.

Everything that can make two runs of a guest differ is noted. The core notes frames and what the imports answer, where they pass;
Python adds long values, in the order in which they are placed in guest memory, and buffers that the host shares with the guest.
With all of that given again, guest memory is equal to the byte (`replayed`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from cloche._sandbox import tape as on
from cloche._sandbox.instance import Instance
from cloche._sandbox.reel import CountedRecordingCodec, RecordingCodec, Reel
from cloche._sandbox.replies import CheckedSandbox
from cloche._sandbox.watched import Watched
from cloche._wasm import NoRoomError, State, Word
from cloche.errors import ClocheError, ClosedError
from cloche_wire import Op

if TYPE_CHECKING:
    from cloche._codec import Codec
    from cloche._records import LogRecord
    from cloche._requests import RequestHandler
    from cloche._sandbox.interface import Recorded, Recorder, Sandbox
    from cloche._sandbox.snapshot import Snapshot
    from cloche._sandbox.tape import Kept
    from cloche._wasm import CallState, Engine
    from cloche.errors import ProtocolError
    from cloche.limits import Limits
    from cloche_wire import Reply

__all__ = ["RecordedInstance", "ReportsFailures", "WatchedRecordedInstance", "note_failure"]

_STATE, _WANTS, _AT_REST = int(Word.STATE), int(Word.TAPE_WANTS), int(State.AT_REST)


class ReportsFailures(CheckedSandbox):
    """Mixin: has the node's recorder know of each failure that a guest has reported.

    Attributes:
        recorder: the node's.
    """

    __slots__ = ()
    recorder: Recorder

    def finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """See `Sandbox`."""
        try:
            super().finish(kind, value, op)
        except ClocheError as error:
            if op is not Op.STREAM_TAKE:  # the caller asks for the items' own outcomes, one by one
                self.recorder.failed(self.recorded, error)
            raise

    @property
    @abstractmethod
    def recorded(self) -> Recorded:
        """See `Sandbox`."""


class RecordedInstance(ReportsFailures, Instance):
    """An instance that is recorded.

    Args:
        recorder: the node's.
        engine: see `Instance`, as the others.

    Attributes:
        recorder: the argument of that name.
        info: the guest's description of the node, for checkpoints; None: it is being loaded.
        is_granted: whether the guest may make requests.
    """

    __slots__ = (
        "_is_leased",
        "_is_live",
        "_is_odd",
        "_live_records",
        "_noted",
        "_reel",
        "_written",
        "info",
        "is_granted",
        "recorder",
    )
    codec: type[Codec] = RecordingCodec

    def __init__(
        self,
        recorder: Recorder,
        engine: Engine,
        limits: Limits,
        host: CallState | str,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        handlers: Sequence[RequestHandler] = (),
    ) -> None:
        self.recorder = recorder
        recorder.tape.begin(snapshot, follows=False)
        self.info: dict[str, Any] | None = None if snapshot is None else snapshot.info
        self._reel: Reel | None = None
        self._live_records: tuple[list[bytes], int] = [], 0
        self._written: dict[int, bytes] = {}
        self._noted: dict[int, int] = {}
        self._is_leased = self._is_live = self._is_odd = False
        self.is_granted = bool(handlers)
        super().__init__(engine, limits, host, on_records, snapshot, handlers)
        self.reel.journal.record(recorder.tape.most_calls)

    @property
    def reel(self) -> Reel:
        """What brings the events to the tape."""
        if self._reel is None:
            self._reel = Reel(self.recorder.tape, self._words)
        return self._reel

    def _new_codec(self, place: Any, lift: Any, free: Any, shared: Any, pin: Any) -> Codec:
        kind: Any = self.codec
        made: Codec = kind(self.limits, place, lift, free, shared, pin, self.reel)
        return made

    def begin(self, info: dict[str, Any]) -> None:
        """See `Recorded`."""
        self.info = info
        self._take_state()

    def flush(self) -> None:
        """Bring everything to the tape that has happened so far."""
        self.reel.flush()

    def kept(self) -> Kept:
        """See `Recorded`."""
        if self.closed:
            return self.recorder.tape.kept(None)
        self.flush()
        return self.recorder.tape.kept(self.state_now())

    def _take_state(self) -> None:
        """Begin a new generation with the present state."""
        tape = self.recorder.tape
        self.flush()
        if self.info is None:
            tape.is_due = False
            return
        is_loaded = tape.now.state is not None
        tape.begin(self.snapshot(self.info), follows=is_loaded, is_first=not is_loaded)
        words, add = self._words, tape.now.add
        words[_WANTS] = 0
        self._noted = {on.DEADLINE: int(words[Word.DEADLINE_NS]), on.ITEMS: int(words[Word.ITEMS])}
        for what, number in self._noted.items():
            add((on.SET, what, number))
        if self._is_leased:
            add((on.SET, on.DEPTH, int(words[Word.MAX_DEPTH])))
        if self._most_bytes != self.limits.memory_bytes:
            self._noted[on.MEMORY] = self._most_bytes
            add((on.SET, on.MEMORY, self._most_bytes))
        if self._is_live:
            add((on.SET, on.LIVE, 1))

    def state_now(self) -> Snapshot:
        """The guest's present state, at rest."""
        return self.snapshot(self.info or {})

    @property
    def recorded(self) -> RecordedInstance:
        """See `Sandbox`."""
        return self

    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        if self._is_odd or self.on_record is not None:
            self._before_call()
        try:
            reply = Instance._reply_to(self, op, operands, root)  # noqa: SLF001  # of its base; `super()` would cost a hundredth of a call
        except BaseException as error:
            self._note_failure(error)
            raise
        if self._words[_WANTS]:
            self._after_call()
        return reply

    def _before_call(self) -> None:
        """Take a checkpoint if one is due; note what the host has written into shared blocks, a lease, and who wants records."""
        if self.closed or self._words[_STATE] != _AT_REST:
            return
        self.flush()
        if self.recorder.tape.is_due:
            self._take_state()
        for address, before in self._written.items():
            content = bytes(self._memory.view(address, len(before), len(before)))
            if content != before:
                self._written[address] = content
                self.reel.add((on.WRITTEN, address, content), len(content))
        if self._is_leased != self._lease:
            self._is_leased = self._lease
            self.reel.add((on.SET, on.DEPTH, int(self._words[Word.MAX_DEPTH])))
        if self._is_live != (self.on_record is not None):
            self._is_live = not self._is_live
            self.reel.add((on.SET, on.LIVE, int(self._is_live)))
        self._is_odd = bool(self._written) or self._is_leased or self._is_live

    def _after_call(self) -> None:
        """Empty the core's buffers, which are filling, or have a call that cannot be replayed."""
        self.flush()
        if self.recorder.tape.is_due:
            self._is_odd = True

    def _note_failure(self, error: BaseException) -> None:
        """Note that a call has ended with an exception, if it had begun."""
        was_noted = self.reel.journal.is_empty
        self.flush()
        if self.closed:
            self.reel.amend_end(error=type(error).__name__)
            if isinstance(error, ClocheError) and not isinstance(error, ClosedError):
                self.recorder.failed(self, error)
        elif not was_noted:
            # the guest had no room for the message; or the host has ended the call, nobody knows where
            self.reel.amend_end(error=type(error).__name__, is_exact=isinstance(error, NoRoomError))
            self._is_odd = True
        self._is_odd |= self.recorder.tape.is_due

    def fail(self, error: ProtocolError) -> ProtocolError:
        """See `CheckedSandbox`."""
        failed = super().fail(error)
        self.reel.amend_end(error=type(error).__name__)
        self.recorder.failed(self, failed)
        return failed

    def _taken_records(self) -> tuple[list[bytes], int]:
        frames, dropped = super()._taken_records()
        (earlier, lost), self._live_records = self._live_records, ([], 0)
        self.reel.amend_end(records=[*earlier, *frames], lost=lost + dropped)
        self._is_odd |= self.recorder.tape.is_due
        return frames, dropped

    def _drained_live(self) -> tuple[list[bytes], int]:
        frames, dropped = super()._drained_live()
        earlier, lost = self._live_records
        self._live_records = [*earlier, *frames], lost + dropped
        return frames, dropped

    def share(self, length: int) -> memoryview:
        """See `Sandbox`."""
        try:
            view = super().share(length)
        except BaseException as error:
            self._note_failure(error)
            raise
        address = self._memory.shared(view)
        self.reel.add((on.SHARED, address, length))
        self._written[address] = bytes(view)
        self._is_odd = True
        return view

    def expect_items(self, items: int) -> None:
        """See `Sandbox`."""
        super().expect_items(items)
        self._note_setting(on.ITEMS, items)

    def bound_memory(self, size: int) -> None:
        """See `CheckedSandbox`."""
        if size != self._most_bytes:
            self._note_setting(on.MEMORY, size)
        super().bound_memory(size)

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """See `Sandbox`."""
        super().limit_next_calls(seconds, field)
        self._note_setting(on.DEADLINE, int(self._words[Word.DEADLINE_NS]))

    def _note_setting(self, what: int, number: int) -> None:
        if not self.closed and self._noted.get(what) != number:
            self.reel.add((on.SET, what, number))
            self._noted[what] = number

    def _lease_replies(self, lease: bool) -> None:
        super()._lease_replies(lease)
        self._is_odd = True

    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`."""
        if not self.closed and self._reel is not None:
            self._reel.flush()
            self._reel.journal.off()  # first: the store may become another guest's
        super().close(keep=keep)


def note_failure(sandbox: Sandbox, error: ClocheError) -> None:
    """Have the recorder of a sandbox know, if it is recorded, of a failure that shows only outside of it. Needs the node's lock."""
    recorded = sandbox.recorded
    if recorded is not None:
        recorded.recorder.failed(recorded, error)


class WatchedRecordedInstance(Watched, RecordedInstance):
    """A recorded instance whose calls go through its watch."""

    __slots__ = ()
    codec = CountedRecordingCodec
