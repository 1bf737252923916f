"""Keys that are chosen to collide are refused before a dict or set is built of them; all others are not."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import cbor2
import pytest

from cloche import Limits, ProtocolError
from cloche._codec import Codec
from cloche._floods import SET_LINEAR, check_keys
from cloche_wire import tags

P = (1 << 61) - 1  # the modulus of Python's numeric hash


def one_sequence(size: int) -> list[int]:
    """Integers of different hashes, for a dict of `size` slots: the first fill a sequence of slots, others join it."""
    slots, slot = [], 0
    for _ in range(size // 3):
        slots.append(slot)
        slot = (5 * slot + 1) % size
    taken, start, joining = set(slots), set(slots[: size // 30]), []
    for value in range(size, size << 12):
        slot, perturb = value % size, value
        while slot in taken and perturb:
            perturb >>= 5
            slot = (5 * slot + 1 + perturb) % size
        if slot in start and not perturb:
            joining.append(value)
            if len(joining) == size // 4:
                return slots + joining
    raise AssertionError("too few integers tried")


FLOODS = {
    "equal hashes": [1 + i * P for i in range(200)],
    "equal hashes of fractions": [Fraction(1 + i * P) for i in range(200)],
    "equal hashes of tuples": [(i * P,) for i in range(200)],
    "one sequence of slots": one_sequence(4096),
}


@pytest.mark.parametrize("keys", [pytest.param(keys, id=name) for name, keys in FLOODS.items()])
def test_a_flood_is_refused(keys: list[Any]) -> None:
    """Equal hashes, and different ones that want the same slots."""
    with pytest.raises(ValueError, match="same hash|collide"):
        check_keys(keys)


rng = random.Random(2)
INNOCENT = {
    "counting": list(range(100_000)),
    "counting down": list(range(100_000, 0, -1)),
    "negative": list(range(-50_000, 50_000)),
    "even": list(range(0, 200_000, 2)),
    "page addresses": list(range(0, 4096 * 50_000, 4096)),
    "powers of two": [1 << i for i in range(480)],
    "high bits alone": [i << 50 for i in range(2048)],
    "random ints": [rng.getrandbits(64) for _ in range(50_000)],
    "halves": [i / 2 for i in range(50_000)],
    "fine floats": [i / 1024 for i in range(50_000)],
    "tenths": [i / 10 for i in range(50_000)],
    "random floats": [rng.random() for _ in range(50_000)],
    "pairs": [(i, j) for i in range(200) for j in range(200)],
    "labelled": [("channel", i) for i in range(50_000)],
    "text": [str(i) for i in range(50_000)],
    "fractions": [Fraction(i, 7) for i in range(20_000)],
    "decimals": [Decimal(i) / 8 for i in range(20_000)],
    "dates": [date(2000, 1, 1) + timedelta(i) for i in range(20_000)],
    "mixed": [x for i in range(20_000) for x in (i, str(i), (i,))],
    "few, whatever they are": FLOODS["equal hashes"][:8],
}


@pytest.mark.parametrize("linear", [0, SET_LINEAR], ids=["dict", "set"])
@pytest.mark.parametrize("keys", [pytest.param(keys, id=name) for name, keys in INNOCENT.items()])
def test_keys_of_real_data_pass(keys: list[Any], linear: int) -> None:
    """In whatever order they come."""
    check_keys(keys, linear=linear)
    check_keys(random.Random(3).sample(keys, len(keys)), linear=linear)


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (tags.MAP, "equal hashes"),
        (tags.MAP, "one sequence of slots"),  # harmless to a set, which looks at ten neighbours first
        (tags.SET, "equal hashes"),
        (tags.FROZENSET, "equal hashes"),
    ],
)
def test_the_codec_refuses_a_flood(tag: int, kind: str) -> None:
    """Whichever container it would fill."""
    keys = FLOODS[kind]
    content = [part for key in keys for part in (key, None)] if tag == tags.MAP else keys
    codec = Codec(Limits(), lambda _: 0, lambda *_: memoryview(b""))
    with pytest.raises(ProtocolError, match="same hash|collide"):
        codec.decode(cbor2.dumps([0, cbor2.CBORTag(tag, content)]))


def test_keys_that_cannot_be_hashed() -> None:
    """That is for the caller to report."""
    with pytest.raises(TypeError):
        check_keys([[i] for i in range(100)])
