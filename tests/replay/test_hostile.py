"""A recording may be a stranger's: what does not fit is refused, and what it makes a guest do is contained."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche._sandbox import tape as on
from cloche._sandbox.tape_bytes import packed, unpacked
from cloche.replay import Recording, replay

CODE = """
import logging, os, time
from cloche_guest import services
class X:
    def process(self, x):
        logging.warning("%s", time.time())
        return [services.ask(x), os.urandom(4), bytearray(x)]
"""


@pytest.fixture
def recording(load: Callable[..., cloche.Node]) -> Recording:
    node = load(CODE, grants=cloche.Grants(services={"ask": lambda x: x * 2}), record=True)
    for size in (1, 70000, 3):
        node.process(b"x" * size)
    return Recording.from_bytes(node.recording.to_bytes())


def mutated(events: list[on.Event], draw: random.Random) -> list[on.Event]:
    """The events with one thing changed."""
    index = draw.randrange(len(events))
    match draw.randrange(6), events[index]:
        case 0, _:
            del events[index]
        case 1, _:
            other = draw.randrange(len(events))
            events[index], events[other] = events[other], events[index]
        case 2, (kind, bytes(content), *rest):
            changed = bytearray(content or b"\0")
            changed[draw.randrange(len(changed))] = draw.randrange(256)
            events[index] = (kind, bytes(changed), *rest)
        case 3, (kind, int(), *rest):
            events[index] = (kind, draw.randrange(1 << 32), *rest)
        case 4, _:
            events.insert(index, (on.FREED, draw.randrange(1 << 32)))
        case _:
            events.insert(index, (on.WRITTEN, draw.randrange(1 << 26), draw.randbytes(2000)))
    return events


def test_a_damaged_file_is_refused(recording: Recording) -> None:
    data = recording.to_bytes()
    for broken in (b"", data[:-1], data[:100] + b"!" + data[101:], data + b"\0"):
        with pytest.raises(cloche.ClocheError):
            Recording.from_bytes(broken)
    with pytest.raises(cloche.ClocheError, match="max_bytes"):
        Recording.from_bytes(data, max_bytes=1000)


def test_events_that_do_not_fit_are_refused(recording: Recording, thorough: bool) -> None:
    """Every length is checked against what there is, whoever has written it."""
    data = packed(recording.events)
    assert unpacked(data) == list(recording.events)
    draw = random.Random(7)
    for _ in range(3000 if thorough else 200):
        changed = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(min(len(changed), 3000))] = draw.randrange(256)
        try:
            unpacked(bytes(changed[: draw.randrange(len(changed))] if draw.random() < 0.3 else changed))
        except cloche.ClocheError as error:
            assert "cannot be read" in str(error)


def test_what_a_hostile_recording_does_is_contained(
    recording: Recording, runtime: cloche.Runtime, thorough: bool
) -> None:
    """Its replay differs, or is refused. This process and the next replay are as before."""
    for seed in range(300 if thorough else 12):
        draw = random.Random(seed)
        events = list(recording.events)
        for _ in range(draw.randrange(1, 4)):
            events = mutated(events, draw)
        hostile: Any = dataclasses.replace(recording, events=tuple(events))
        try:
            replay(hostile, runtime=runtime, deadline_s=5)
        except cloche.ClocheError:
            pass
    assert replay(recording, runtime=runtime).memory is True


def test_limits_of_a_stranger_do_not_count(recording: Recording, runtime: cloche.Runtime) -> None:
    small = dataclasses.replace(recording, limits=cloche.Limits(memory_bytes=32 << 20))
    with pytest.raises(cloche.ClocheError, match="cannot be replayed"):
        replay(small, runtime=runtime)
