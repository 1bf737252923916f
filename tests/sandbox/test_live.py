"""The records of a call that goes on: the same ones as after it, however they are cut into messages."""

from __future__ import annotations

import cbor2
import pytest

from cloche import LogRecord
from cloche._sandbox import LiveRecords, logs
from cloche_wire import abi

FRAMES = [
    cbor2.dumps([20, "stdout", "first", None, None, 5]),
    cbor2.dumps([1, b"a pie"]),
    cbor2.dumps([1, b"ce\nand "]),
    cbor2.dumps([abi.RING_ITEM, 0]),
    cbor2.dumps([30, "t", "of item 0", {"k": 1}, None, 6]),
    cbor2.dumps(["forged"]),
    cbor2.dumps([abi.RING_ITEM, 1]),
    cbor2.dumps([2, b"of item 1"]),
]


@pytest.mark.parametrize("size", range(1, len(FRAMES) + 1))
def test_records_are_the_same_however_they_come(size: int) -> None:
    """Lines in pieces, and the items of a batch, go over from one message to the next."""
    came: list[LogRecord] = []
    live = LiveRecords(came.append, 100, 3)
    for start in range(0, len(FRAMES), size):
        live.take(FRAMES[start : start + size], 0)
    assert live.end() == logs.collect(FRAMES, 0, 100, 3)
    assert came == logs.collect(FRAMES, 0, 100, 3)[0]
    assert [(record.message, record.item) for record in came[:-1]] == [
        ("first", None), ("a piece", None), ("and ", None), ("of item 0", 0), ("of item 1", 1),
    ]  # fmt: skip
