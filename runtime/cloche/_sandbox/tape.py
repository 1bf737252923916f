"""`Tape`: what went into and came out of one node's guest since a state, so that it can be replayed. Plain data, no guest.

An event is a tuple whose first item is its number here. Events are in the order in which they happened, and
docs/reference/recordings.md says what each one has. `recorded` writes them while a node runs, `replayed` makes them happen again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cloche._wasm.core import Taped
from cloche._wasm.journal import Noted

if TYPE_CHECKING:
    from cloche._sandbox.snapshot import Snapshot

__all__ = [
    "ANSWERED",
    "CAME",
    "DEADLINE",
    "DEPTH",
    "ENDED",
    "FREED",
    "ITEMS",
    "KEPT_BYTES",
    "LIVE",
    "MEMORY",
    "MOST_NUMBER",
    "PLACED",
    "SENT",
    "SET",
    "SHARED",
    "TOOK",
    "WRITTEN",
    "Event",
    "Generation",
    "Kept",
    "Tape",
]

Event = tuple[Any, ...]

PLACED: Final = 1
"""(address, bytes) the host has put a long value into a new block of the guest; address 0: there was no room."""
FREED: Final = 2
"""(address) and given such a block back, because the message was not sent after all"""
SHARED: Final = 3
"""(address, length) a block of guest memory that the host may write to at any time (`Node.buffer`)"""
WRITTEN: Final = 4
"""(address, bytes) it has written there"""
SET: Final = 5
"""(what, number) from here on: DEPTH, ITEMS, MEMORY, DEADLINE or LIVE; TOOK: before the ENDED of a call that was told to stop,
nobody knows where: nanoseconds that it took"""
SENT: Final = int(Taped.SENT)
"""(frame) of a message, or of an answer to a request"""
CAME: Final = int(Taped.CAME)
"""(frame, bodies) of a request of the guest, or of its reply; bodies: (address, bytes or their length, checksum)"""
ANSWERED: Final = int(Taped.ANSWERED)
"""(code, reason) a request was answered by one of ``abi.ANSWER_*``, and the guest was told to stop for that reason, or 0"""
ENDED: Final = int(Taped.ENDED)
"""(journal, told, records, lost, error, is_exact) the call has ended: what the imports answered; why the guest was told to stop, or
0; its log records, and how many are missing; name of the error if the guest broke, or ""; whether all that matters is here"""

DEPTH, ITEMS, MEMORY, DEADLINE, LIVE, TOOK = range(6)

MOST_NUMBER: Final = (1 << 63) - 1
"""The largest number of nanoseconds."""
KEPT_BYTES: Final = 64 * 1024
"""A body of a reply up to this size is kept; of a larger one only length and checksum."""


_MOST_OF_CALL: Final = 4
"""So many times `Tape.most_bytes` one generation may take: its last call may be long, and checkpoints are taken between calls."""


class Generation:
    """A state, and the events since then.

    Args:
        state: the state; None: a new guest, as the image has it.
        is_first: whether these are the node's first calls after it was loaded.

    Attributes:
        state: the argument of that name.
        calls: number of calls that have ended.
        size: bytes of the events, about.
        is_first: the argument of that name.
    """

    __slots__ = ("_events", "calls", "is_first", "size", "state")

    def __init__(self, state: Snapshot | None, is_first: bool = False) -> None:
        self.state = state
        self._events: list[Event | Noted] = []
        self.calls = 0
        self.size = 0
        self.is_first = is_first

    def add(self, event: Event | Noted) -> None:
        """Add an event, or some that the core has noted."""
        self._events.append(event)

    def last(self, count: int) -> list[Event]:
        """The last events, so many at most. Change one only by `replace_last`."""
        if self._events and isinstance(self._events[-1], Noted):
            self._events += _events_of(self._events.pop())
        found: list[Any] = self._events[-count:]
        return [event for event in found if not isinstance(event, Noted)]

    def replace_last(self, event: Event) -> None:
        """Put another event in place of the last one, which `last` has returned."""
        self._events[-1] = event

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        found: list[Event] = []
        for one in self._events:
            if isinstance(one, Noted):
                found += _events_of(one)
            else:
                found.append(one)
        self._events = [*found]
        return found


def _events_of(noted: Any) -> list[Event]:
    """The events that the core has noted."""
    found: list[Event] = []
    for entry in noted.entries():
        match entry:
            case (kind, frame) if kind == CAME:
                found.append((CAME, frame, []))
            case (kind, journal, told, is_exact) if kind == ENDED:
                found.append((ENDED, journal, told, (), 0, "", is_exact))
            case _:
                found.append(entry)
    return found


class Kept(NamedTuple):
    """The last calls of one node, as data.

    Attributes:
        state: the state before the first of them; None: a new guest.
        events: what has happened since.
        after: the state now; None: the guest has broken.
        is_first: whether the first call is the first one after the node was loaded.
    """

    state: Snapshot | None
    events: tuple[Event, ...]
    after: Snapshot | None
    is_first: bool


class Tape:
    """The last calls of one node: those since the last checkpoint, and those between the two last ones.

    Args:
        most_calls: number of calls after which a checkpoint is due.
        most_bytes: bytes of events after which one is due.

    Attributes:
        now: the generation that grows.
        before: the one before it, which leads to its state; None: there is none.
        is_due: whether a checkpoint has to be taken before the next call.
        is_exact: whether replaying `now` leads to the guest's present state.
    """

    __slots__ = ("before", "is_due", "is_exact", "most_bytes", "most_calls", "now")

    def __init__(self, most_calls: int, most_bytes: int) -> None:
        self.most_calls = most_calls
        self.most_bytes = most_bytes
        self.now = Generation(None)
        self.before: Generation | None = None
        self.is_due = False
        self.is_exact = True

    def begin(self, state: Snapshot | None, *, follows: bool, is_first: bool = False) -> None:
        """Begin a new generation.

        Args:
            state: the state of the guest now.
            follows: whether `now` belongs to the same guest, and is worth keeping.
            is_first: see `Generation`.
        """
        self.before = self.now if follows and self.is_exact else None
        self.now = Generation(state, is_first)
        self.is_due = False
        self.is_exact = True

    def grow(self, size: int, calls: int = 0) -> None:
        """Note that `now` has got so many bytes and calls more."""
        now = self.now
        now.size += size
        now.calls += calls
        if now.calls >= self.most_calls or now.size >= self.most_bytes:
            self.is_due = True
        if self.is_full:
            self.before = None

    @property
    def is_full(self) -> bool:
        """Whether `now` may not get anything more than the end of the call under way: a guest could fill the host's memory."""
        return self.now.size > _MOST_OF_CALL * self.most_bytes

    def continue_from(self, other: Tape, state: Snapshot) -> None:
        """Begin with the calls of another tape, unless these are too many: from `state` on, they have led to the present state."""
        older = other.generations
        calls, size = sum(one.calls for one in older), sum(one.size for one in older)
        if calls > 2 * self.most_calls or size > 2 * self.most_bytes:
            return
        before = Generation(state, is_first=True)
        for event in (event for one in older for event in one.events):
            before.add(event)
        before.calls, before.size = calls, size
        self.before = before

    def part(self) -> None:
        """Note that the guest has done something that cannot be replayed: a checkpoint is due."""
        self.is_exact = False
        self.is_due = True

    def kept(self, after: Snapshot | None) -> Kept:
        """What there is, with the present state."""
        generations = self.generations
        first = generations[0]
        events = tuple(event for generation in generations for event in generation.events)
        return Kept(first.state, events, after, first.is_first or first.state is None)

    @property
    def generations(self) -> list[Generation]:
        """What there is, in order."""
        return [self.now] if self.before is None else [self.before, self.now]
