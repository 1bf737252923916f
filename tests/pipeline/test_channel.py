"""Channels keep the order, wait when they are full, and can be joined in an order that does not depend on time."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from cloche.pipeline._channel import Barrier, Channel, End, Failed, Inbox, Joined


def packets(*numbers: int) -> list[tuple[int, list[Any]]]:
    return [(number, [f"v{number}"]) for number in numbers]


def everything(inbox: Inbox, most: int = 3) -> list[Any]:
    """All that comes, up to the end or an error."""
    found: list[Any] = []
    while True:
        got = inbox.take(most)
        if isinstance(got, list):
            found += got
            continue
        found.append(got)
        if not isinstance(got, Barrier):
            return found


def test_a_marker_keeps_its_place() -> None:
    channel, barrier = Channel(10), Barrier(2)
    channel.put(packets(0, 1))
    channel.mark(barrier)
    channel.put(packets(2))
    channel.mark(End(["last"]))
    assert channel.take(10) == packets(0, 1)
    assert channel.take(10) is barrier
    assert channel.take(10) == packets(2)
    assert channel.take(10) == End(["last"])


def test_whoever_puts_waits_for_room() -> None:
    channel, results = Channel(2), []
    thread = threading.Thread(target=lambda: results.append(channel.put(packets(0, 1, 2, 3, 4))))
    thread.start()
    found: list[Any] = []
    while len(found) < 5:
        got = channel.take(1)
        assert isinstance(got, list)
        assert len(channel) <= 2
        found += got
    thread.join()
    assert found == packets(0, 1, 2, 3, 4)
    assert results == [True]


def test_closing_ends_all_waiting() -> None:
    channel, results = Channel(1), []
    channel.put(packets(0))
    threads = [
        threading.Thread(target=lambda: results.append(channel.put(packets(1)))),
        threading.Thread(target=lambda: results.append(channel.put(packets(2)))),
    ]
    for thread in threads:
        thread.start()
    channel.close()
    for thread in threads:
        thread.join()
    assert results == [False, False]
    assert channel.take(1) is None
    assert not channel.put(packets(3))
    assert not channel.mark(End([]))


def test_a_selection_is_made_of_every_value() -> None:
    channel = Channel(10, lambda values: [value["a"] for value in values if "a" in value])
    channel.put([(0, [{"a": 1}, {"b": 2}]), (1, [{"b": 3}])])
    channel.mark(End([{"a": 4}]))
    assert channel.take(10) == [(0, [1]), (1, [])]
    assert channel.take(10) == End([4])


@pytest.mark.parametrize("seed", range(40))
def test_channels_are_joined_in_the_same_order_however_they_are_filled(seed: int) -> None:
    """Packets, barriers, an early end of one channel: the result is that of a plain loop."""
    random_ = random.Random(seed)
    count, width = random_.randrange(30), random_.randrange(1, 4)
    ends = [count if random_.random() < 0.7 else random_.randrange(count + 1) for _ in range(width)]
    ends[random_.randrange(width)] = count  # one goes on to the end
    at = sorted(random_.sample(range(count + 1), min(count, random_.randrange(3))))
    barriers = {number: Barrier(number) for number in at}
    channels = [Channel(1 + random_.randrange(5)) for _ in range(width)]

    def fill(index: int) -> None:
        own = random.Random(seed * 10 + index)
        waiting: list[Any] = []
        for number in range(ends[index]):
            if number in barriers:
                channels[index].put(waiting)
                waiting = []
                channels[index].mark(barriers[number])
            waiting.append((number, [(index, number)] * own.randrange(3)))
            if own.random() < 0.5:
                channels[index].put(waiting)
                waiting = []
        channels[index].put(waiting)
        if ends[index] == count and count in barriers:
            channels[index].mark(barriers[count])
        channels[index].mark(End([("end", index)]))

    threads = [threading.Thread(target=fill, args=(index,)) for index in range(width)]
    for thread in threads:
        thread.start()
    found = everything(Joined(channels), 1 + random_.randrange(6))
    for thread in threads:
        thread.join()

    values = {index: random.Random(seed * 10 + index) for index in range(width)}
    wanted: list[Any] = []
    made: dict[int, list[list[Any]]] = {}
    for index, own in values.items():
        made[index] = []
        for number in range(ends[index]):
            made[index].append([(index, number)] * own.randrange(3))
            own.random()
    for number in range(count):
        if number in barriers:
            wanted.append(barriers[number])
        wanted.append(
            (number, [value for index in range(width) for value in (made[index][number : number + 1] or [[]])[0]])
        )
    if count in barriers:
        wanted.append(barriers[count])
    wanted.append(End([("end", index) for index in range(width)]))
    assert found == wanted


def test_an_error_comes_at_its_place() -> None:
    """What the other channels have beyond it is dropped."""
    one, other, failed = Channel(10), Channel(10), Failed(ValueError("five"))
    one.put(packets(0, 1, 2, 3))
    other.put(packets(0, 1))
    other.mark(failed)
    assert everything(Joined([one, other])) == [(0, ["v0", "v0"]), (1, ["v1", "v1"]), failed]
