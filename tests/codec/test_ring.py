"""The log ring: bounded, the oldest record goes first, and a node that scribbles over it hurts itself alone."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from cloche_wire import abi

HEADER = struct.Struct("<8I")
MAGIC, CAPACITY, HEAD, USED, RECORDS, DROPPED = range(6)


class Ring:
    """The ring, read as docs/reference/wire.md says."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self.view: memoryview = native.ring()

    def words(self) -> tuple[int, ...]:
        return HEADER.unpack(self.view[: HEADER.size])

    def set_words(self, **words: int) -> None:
        for name, value in words.items():
            self.view[4 * globals()[name] : 4 * globals()[name] + 4] = value.to_bytes(4, "little")

    def clear(self) -> None:
        self.set_words(HEAD=0, USED=0, RECORDS=0, DROPPED=0)

    def take(self) -> list[bytes]:
        words, data = self.words(), bytes(self.view[HEADER.size : HEADER.size + abi.RING_CAPACITY])
        data = (data + data)[words[HEAD] :][: words[USED]]
        records = []
        while data:
            size = int.from_bytes(data[:4], "little")
            records.append(data[4 : 4 + size])
            data = data[4 + size :]
        assert len(records) == words[RECORDS]
        return records


@pytest.fixture
def ring(native: Any) -> Iterator[Ring]:
    made = Ring(native)
    made.clear()
    yield made
    made.clear()


def test_records_come_out_as_they_went_in(ring: Ring) -> None:
    """The header says what the protocol promises."""
    ring.native.put(b"first")
    ring.native.put(b"")
    assert ring.take() == [b"first", b""]
    assert ring.words()[:2] == (abi.RING_MAGIC, abi.RING_CAPACITY)
    assert len(ring.view) == abi.RING_HEADER_BYTES + abi.RING_CAPACITY + 2 * abi.RING_HELD_BYTES


def test_the_oldest_records_make_room(ring: Ring) -> None:
    """Whatever the sizes, what is left are the newest records, whole, and the others are counted."""
    rng = random.Random(5)
    put: list[bytes] = []
    for _ in range(2000):
        put.append(rng.randbytes(rng.choice([0, 1, 50, 1000, 60_000])))
        ring.native.put(put[-1])
        assert ring.words()[USED] <= abi.RING_CAPACITY
    left = ring.take()
    assert left == put[-len(left) :]
    assert ring.words()[DROPPED] == len(put) - len(left)
    assert sum(map(len, left)) + 4 * len(left) > abi.RING_CAPACITY - 60_004


def test_a_record_that_can_never_fit_is_counted(ring: Ring) -> None:
    """The largest possible one fits; one byte more does not, and takes nothing with it."""
    ring.native.put(b"x")
    ring.native.put(bytes(abi.RING_CAPACITY - 3))
    assert ring.take() == [b"x"]
    assert ring.words()[DROPPED] == 1
    ring.native.put(bytes(abi.RING_CAPACITY - 4))
    assert [len(record) for record in ring.take()] == [abi.RING_CAPACITY - 4]


def test_a_scribbled_ring_stays_in_its_bounds(ring: Ring) -> None:
    """A node can write any header: records may be lost, memory may not be hit (run under a sanitizer by fuzz.py)."""
    rng = random.Random(6)
    for _ in range(3000):
        word = rng.choice(
            [
                0,
                1,
                3,
                abi.RING_CAPACITY - 1,
                abi.RING_CAPACITY,
                abi.RING_CAPACITY + 1,
                2**31,
                2**32 - 1,
                rng.getrandbits(32),
            ]
        )
        ring.set_words(**{rng.choice(["HEAD", "USED", "RECORDS"]): word})
        for _ in range(rng.randrange(4)):
            ring.native.put(rng.randbytes(rng.choice([0, 3, 300, 100_000])))
    ring.clear()
    ring.native.put(b"still works")
    assert ring.take() == [b"still works"]


def test_held_lines_lie_behind_the_ring(ring: Ring) -> None:
    """One for stdout and one for stderr, each replaced by the next; records do not touch them."""
    places = [HEADER.size + abi.RING_CAPACITY + number * abi.RING_HELD_BYTES for number in range(2)]
    assert ring.native.hold(1, b"out, but longer")
    assert ring.native.hold(1, b"out")
    assert ring.native.hold(2, b"e" * abi.RING_HELD_BYTES)
    ring.native.put(b"record")
    lengths = ring.words()[6:]
    assert [bytes(ring.view[at : at + length]) for at, length in zip(places, lengths, strict=True)] == [
        b"out", b"e" * abi.RING_HELD_BYTES,
    ]  # fmt: skip
    assert ring.take() == [b"record"]
    assert [ring.native.hold(stream, b"") for stream in (1, 2)] == [True, True]
    assert ring.words()[6:] == (0, 0)


def test_what_is_too_long_or_no_stream_is_not_held(ring: Ring) -> None:
    """The line before stays, and nothing beyond the place is written."""
    assert ring.native.hold(1, b"kept")
    assert not ring.native.hold(1, bytes(abi.RING_HELD_BYTES + 1))
    assert not any(ring.native.hold(stream, b"x") for stream in (0, 3, 2**32 - 1))
    assert ring.words()[6:] == (4, 0)
    ring.native.hold(1, b"")
