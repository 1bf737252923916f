"""`Channel`: a bounded queue of packets from one thread to another; `Joined`: several channels, read as one.

Every channel of a pipeline carries the same item numbers in the same order, those without outputs as well. So channels can be
joined in an order that does not depend on time, and a marker means the same place in all of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Barrier", "Channel", "End", "Failed", "Inbox", "Joined", "Marker", "Packet"]

Packet: TypeAlias = tuple[int, list[Any]]
"""Number of an item of the pipeline's input, and the values on this channel that were made of it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The pipeline ends here with this error. What came before is complete."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class End:
    """There are no more items.

    Attributes:
        values: what the nodes gave at the end of their input.
    """

    values: list[Any]


@dataclass(frozen=True, slots=True)
class Barrier:
    """A place at which every node saves its state.

    Attributes:
        items: number of items before it.
        states: id of a node, or of a copy -> its state; each node adds its own before it passes the barrier on.
    """

    items: int
    states: dict[str, Any] = field(default_factory=dict)


Marker: TypeAlias = Failed | End | Barrier
_MARKERS = (Failed, End, Barrier)


class Channel:
    """A queue of packets and markers. One thread puts, another one takes, and any thread may close it.

    Neither takes a lock unless the other waits: a lock that is held while the interpreter changes threads makes both change at each
    item. Whoever waits for room waits until half of it is free, for the same reason.

    Args:
        room: packets that it holds. Whoever puts more of them waits.
        select: makes the values on this channel from those that were put; None: they are the same.
    """

    def __init__(self, room: int, select: Callable[[list[Any]], list[Any]] | None = None) -> None:
        self._room = room
        self._select = select
        self._waiting: deque[Packet | list[Packet] | Marker] = deque()
        """Packets that were put together stay together: that is one step, not one for each. The lists are this channel's."""
        self._come = self._gone = 0
        """Packets that were put, a count of the one thread; and taken, of the other."""
        self._condition = threading.Condition(threading.Lock())
        self._is_closed = False
        self._is_awaited = False
        """Whether somebody waits for a packet. It is set before the last look for one, so that no wake-up is lost."""
        self._is_full = False
        """Whether somebody waits for room. It is set before the last look for it."""

    def __len__(self) -> int:
        return 0 if self._is_closed else self._come - self._gone

    def put(self, packets: Sequence[Packet]) -> bool:
        """Add packets, in order; wait while there is no room. Returns False if nobody wants more."""
        if self._select is not None:
            select = self._select
            packets = [(number, select(values)) for number, values in packets]
        while packets and not self._is_closed:
            free = self._room - self._come + self._gone
            if free >= len(packets):
                self._add(packets)
                break
            if free > 0:
                self._add(packets[:free])
                packets = packets[free:]
            self._wait_for_room()
        return not self._is_closed

    def _add(self, packets: Sequence[Packet]) -> None:
        self._come += len(packets)
        self._append(packets[0] if len(packets) == 1 else list(packets))

    def mark(self, marker: Marker) -> bool:
        """Add a marker, for which there is always room. Returns False if nobody wants it."""
        if type(marker) is End and self._select is not None:
            marker = End(self._select(marker.values))
        if not self._is_closed:
            self._append(marker)
        return not self._is_closed

    def _append(self, added: Packet | list[Packet] | Marker) -> None:
        self._waiting.append(added)
        if self._is_awaited:
            with self._condition:
                self._condition.notify_all()

    def _wait_for_room(self) -> None:
        with self._condition:
            self._is_full = True
            while 2 * (self._come - self._gone) > self._room and not self._is_closed:
                self._condition.wait()
            self._is_full = False

    def take(self, most: int) -> list[Packet] | Marker | None:
        """The next packets, as many as there are, `most` at most; or the marker that comes next; None once it is closed."""
        if not self._waiting:
            with self._condition:
                self._is_awaited = True
                while not self._waiting and not self._is_closed:
                    self._condition.wait()
                self._is_awaited = False
        if self._is_closed:
            return None
        try:
            got = self._taken(most)
        except IndexError:  # closed meanwhile
            return None
        if self._is_full and 2 * (self._come - self._gone) <= self._room:
            with self._condition:
                self._condition.notify_all()
        return got

    def _taken(self, most: int) -> list[Packet] | Marker:
        waiting = self._waiting
        first = waiting[0]
        if isinstance(first, _MARKERS):
            return waiting.popleft()  # type: ignore[return-value]  # a marker
        packets: list[Packet] = []
        while waiting and (room := most - len(packets)) > 0:
            head = waiting[0]
            if type(head) is tuple:
                packets.append(head)
                waiting.popleft()
            elif type(head) is not list:
                break
            elif len(head) > room:
                packets += head[:room]
                del head[:room]
            else:
                packets = packets + head if packets else head
                waiting.popleft()
        self._gone += len(packets)
        return packets

    def close(self) -> None:
        """Want no more: what is in the channel is dropped, and whoever waits for it goes on."""
        with self._condition:
            self._is_closed = True
            self._waiting.clear()
            self._condition.notify_all()


class Joined:
    """Several channels, read as one: of each item the values of the first channel, then those of the second, and so on.

    Args:
        channels: the channels.
        combine: makes the values of an item from those of each channel and the item's number, None for what came at the end; None:
            one list after the other.
    """

    def __init__(
        self, channels: Sequence[Channel], combine: Callable[[list[list[Any]], int | None], list[Any]] | None = None
    ) -> None:
        self._channels = list(channels)
        self._combine = combine or _chain
        self._held: list[deque[Packet]] = [deque() for _ in self._channels]
        """Packets that have been taken from each channel, and not from this one."""
        self._marked: list[Marker | None] = [None] * len(self._channels)
        """The marker that comes next on each channel, if it has come to one."""

    def __len__(self) -> int:
        return max(map(len, self._channels))

    def take(self, most: int) -> list[Packet] | Marker | None:
        """As `Channel.take`."""
        for index, channel in enumerate(self._channels):
            if not self._held[index] and self._marked[index] is None:
                got = channel.take(most)
                if got is None:
                    return None
                if isinstance(got, list):
                    self._held[index].extend(got)
                else:
                    self._marked[index] = got
        ended = [isinstance(marker, End) for marker in self._marked]
        going_on = [len(held) for held, has_ended in zip(self._held, ended, strict=True) if not has_ended]
        count = min(going_on) if going_on else max(map(len, self._held))
        return [self._next() for _ in range(min(count, most))] if count else self._passed()

    def _next(self) -> Packet:
        """The next item; a channel that has ended before it has no values of it."""
        packets = [held.popleft() if held else None for held in self._held]
        number = next(packet[0] for packet in packets if packet is not None)
        return number, self._combine([[] if packet is None else packet[1] for packet in packets], number)

    def _passed(self) -> Marker:
        """The marker to which the channels have come."""
        failed = next((marker for marker in self._marked if isinstance(marker, Failed)), None)
        if failed is not None:
            return failed
        barrier = next((marker for marker in self._marked if isinstance(marker, Barrier)), None)
        if barrier is not None:
            self._marked = [None if isinstance(marker, Barrier) else marker for marker in self._marked]
            return barrier
        return End(self._combine([marker.values for marker in self._marked if isinstance(marker, End)], None))

    def close(self) -> None:
        """As `Channel.close`."""
        for channel in self._channels:
            channel.close()


Inbox: TypeAlias = Channel | Joined


def _chain(lists: list[list[Any]], _number: int | None) -> list[Any]:
    return [value for values in lists for value in values]
