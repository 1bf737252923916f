"""`Reel`: brings what the native core has noted of a recorded guest to the tape of its node, in order with what Python adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import Codec, Counted
from cloche._sandbox import tape as on
from cloche._wasm import Journal, Word
from cloche._wasm.artifacts import checksum

if TYPE_CHECKING:
    from cloche._sandbox.tape import Event, Tape
    from cloche.limits import Limits

__all__ = ["CountedRecordingCodec", "RecordingCodec", "Reel"]

_EVENT_BYTES: Final = 100
"""What an event takes in memory beside its content, about."""


class Reel:
    """The way of events to a tape.

    Args:
        tape: the node's tape.
        words: the guest's words.

    Attributes:
        tape: the argument of that name.
        journal: the buffers that the core fills.
    """

    __slots__ = ("_has_dropped", "_was_in_call", "_words", "journal", "tape")

    def __init__(self, tape: Tape, words: Any) -> None:
        self.tape = tape
        self._was_in_call = self._has_dropped = False
        self._words = words
        self.journal = Journal(words)

    def flush(self) -> None:
        """Take what the core has noted so far."""
        noted = self.journal.take()
        if noted is None:
            return
        tape = self.tape
        is_middle = self._was_in_call and not noted.calls
        self._was_in_call = self.journal.is_in_call
        if is_middle and tape.is_full:
            self._drop()
            return
        tape.now.add(noted)
        self._grow(len(noted.tape) + len(noted.journal), noted.calls)
        if not noted.is_exact:
            self._note_time()
            tape.part()
        if self._has_dropped:
            self._drop()

    def _note_time(self) -> None:
        """Note how long the last call took, if it was told to stop somewhere in its code: a replay of it has to end as well."""
        now = self.tape.now
        last = now.last(1)
        if last and last[0][0] == on.ENDED and last[0][2]:
            now.replace_last((on.SET, on.TOOK, int(self._words[Word.TOOK_NS])))
            now.add(last[0])

    def _drop(self) -> None:
        """Note that something of a call is not kept, because a generation is full: the call cannot be replayed."""
        self._has_dropped = True
        self.journal.want()
        last = self.tape.now.last(1)
        if last and last[0][0] == on.ENDED:
            self._has_dropped = False
            self.tape.now.replace_last((*last[0][:-1], False))
            self.tape.part()

    def _grow(self, size: int, calls: int = 0) -> None:
        self.tape.grow(size, calls)
        if self.tape.is_due:
            self.journal.want()

    def add(self, event: Event, size: int = 0) -> None:
        """Add an event of Python's own.

        Args:
            event: the event.
            size: bytes that it takes, about.
        """
        self.flush()
        if size and self.tape.is_full:
            self._drop()
            return
        self.tape.now.add(event)
        self._grow(size + _EVENT_BYTES)

    def placing(self, place: Callable[[Any], int]) -> Callable[[Any], int]:
        """A function that places a value in guest memory by `place`, and notes it."""

        def place_noted(body: Any) -> int:
            address = 0
            try:
                address = place(body)
            finally:
                content = bytes(memoryview(body).cast("B"))
                self.add((on.PLACED, address, content), len(content))
            return address

        return place_noted

    def freeing(self, free: Callable[[int], object]) -> Callable[[int], object]:
        """A function that frees such a value by `free`, and notes it."""

        def free_noted(address: int) -> None:
            free(address)
            self.add((on.FREED, address))

        return free_noted

    def note_body(self, address: int, view: memoryview) -> None:
        """Note a value that the last frame of the guest has out of line."""
        self.flush()
        bodies = next((event[2] for event in reversed(self.tape.now.last(3)) if event[0] == on.CAME), None)
        if bodies is None:
            return
        if self.tape.is_full:
            self._drop()
            return
        kept = len(view) <= on.KEPT_BYTES
        bodies.append((address, bytes(view), 0) if kept else (address, len(view), checksum(view)))
        self._grow(len(view) if kept else 0)

    def amend_end(
        self, *, records: Sequence[bytes] = (), lost: int = 0, error: str = "", is_exact: bool = True
    ) -> None:
        """Add to the end of the last call what the core does not know.

        Args:
            records: its log records.
            lost: how many more are missing.
            error: name of the error's type, if the guest broke, or the host ended the call.
            is_exact: False: it cannot be replayed.
        """
        self.flush()
        tape = self.tape
        last = tape.now.last(1)
        if not last or last[0][0] != on.ENDED:
            return
        kind, journal, told, before, missing, name, exact = last[0]
        tape.now.replace_last(
            (kind, journal, told, (*before, *records), missing + lost, error or name, exact and is_exact)
        )
        self._grow(sum(map(len, records)))
        if not is_exact:
            tape.part()


class RecordingCodec(Codec):
    """A codec that notes what it places in guest memory and frees there, and what it takes from there besides the frames."""

    __slots__ = ("reel",)

    def __init__(
        self,
        limits: Limits,
        place: Callable[[Any], int],
        lift: Callable[[int, int], memoryview],
        free: Callable[[int], object],
        shared: Callable[[memoryview], int],
        pin: Callable[[int, int], memoryview],
        reel: Reel,
    ) -> None:
        def lift_noted(address: int, length: int) -> memoryview:
            view = lift(address, length)
            reel.note_body(address, view)
            return view

        def pin_noted(address: int, length: int) -> memoryview:
            reel.note_body(address, lift(address, length))
            return pin(address, length)

        super().__init__(limits, reel.placing(place), lift_noted, reel.freeing(free), shared, pin_noted)
        self.reel = reel


class CountedRecordingCodec(Counted, RecordingCodec):
    """A `RecordingCodec` that counts bytes."""

    __slots__ = ()
