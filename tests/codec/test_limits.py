"""Budgets: each is kept to the byte, and says which one it was."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import cbor2
import numpy as np
import pytest

from cloche import EncodeError, Limits, ProtocolError
from cloche._codec.codec import Codec
from cloche_wire import tags

from .conftest import DEPTH, NODES


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda value: [value],
    "dict": lambda value: {"a": value},
    "tuple": lambda value: (value,),
    "map": lambda value: {1: value},
    "frozenset": lambda value: frozenset([value]),
}


@pytest.mark.parametrize("wrap", [pytest.param(wrap, id=name) for name, wrap in WRAPS.items()])
def test_depth_is_the_same_for_all(native: Any, codec: Codec, wrap: Callable[[Any], Any]) -> None:
    """The message itself is one level. What one side may send, the others take: no reply breaks by depth alone."""
    fits, deep = nested(DEPTH - 1, wrap), nested(DEPTH, wrap)
    assert native.request(codec.encode([2, 7, fits], "data"))[2] == fits
    frame = native.reply([0, fits])
    assert native.check(frame, 1000, DEPTH)
    assert not native.check(frame, 1000, DEPTH - 1)
    assert codec.decode(frame)[1] == fits
    with pytest.raises(EncodeError, match=f"nested more than {DEPTH} containers deep"):
        codec.encode([2, 7, deep], "data")
    with pytest.raises(ValueError, match=f"nested more than {DEPTH} containers deep"):
        native.reply([0, deep])


def test_endless_depth_ends(native: Any, codec: Codec) -> None:
    """Deeper than any stack."""
    deep = nested(100_000, lambda value: [value])
    with pytest.raises(EncodeError, match="nested more than"):
        codec.encode([2, 7, deep], "data")
    with pytest.raises(ValueError, match="nested more than"):
        native.reply([0, deep])
    while deep:  # taken apart by hand: dealloc is not what is tested
        deep = deep[0]


def test_nodes_are_counted(native: Any) -> None:
    """Each item is one, a tag as well."""
    frame = cbor2.dumps([[1, 2], {"a": "b"}, cbor2.CBORTag(tags.TUPLE, [])])
    assert native.check(frame, 9, DEPTH)
    assert not native.check(frame, 8, DEPTH)
    assert not native.check(b"\x9a\x00\x0f\x42\x40" + bytes(1_000_000), 1_000_000, DEPTH)
    assert native.check(b"\x9a\x00\x0f\x42\x40" + bytes(1_000_000), 1_000_001, DEPTH)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        pytest.param(b"x" * 2000, 2000, id="inline"),
        pytest.param([b"x" * 5000, "y" * 5000], 10_000, id="out of line"),
        pytest.param(np.zeros(1000), 8000, id="array"),
        pytest.param("é" * 3000, 6000, id="text"),
        pytest.param([1.5] * 1000, 9000, id="floats"),
        pytest.param(1 << 8000, 1001, id="bignum"),
    ],
)
def test_the_guest_keeps_reply_bytes(native: Any, value: Any, size: int) -> None:
    """To the byte, what stays out of line included."""
    native.limits(1 << 20, NODES, DEPTH)
    whole = len(native.reply([0, value]))
    out_of_line = size if whole < 100 else 0
    native.limits(whole + out_of_line, NODES, DEPTH)
    native.reply([0, value])
    native.limits(whole + out_of_line - 1, NODES, DEPTH)
    with pytest.raises(
        ValueError,
        match=f"result.*: the value takes [0-9]+ bytes or more; the limit reply_bytes is {whole + out_of_line - 1}",
    ):
        native.reply([0, value])


@pytest.mark.parametrize(
    "value", [pytest.param(b"x" * 900, id="inline"), pytest.param(np.zeros(1000), id="out of line")]
)
def test_the_host_keeps_request_bytes(native: Any, value: Any) -> None:
    """And nothing stays allocated in the guest for a message that is not sent."""
    codec = Codec(Limits(request_bytes=1024), native.place, native.lift, native.drop)
    codec.encode([2, 7, b"x" * 900], "data")
    with pytest.raises(EncodeError, match=r"data: [0-9]+ bytes are more than Limits.request_bytes=1024") as caught:
        codec.encode([2, 7, [value, value if type(value) is bytes else 0]], "data")
    assert caught.value.path == "data"


def test_a_message_that_cannot_be_placed_leaves_nothing(native: Any) -> None:
    """The guest may run out of memory at the second body."""
    placed = []

    def place(data: Any) -> int:
        if placed:
            raise EncodeError("the guest has no memory left")
        placed.append(native.place(data))
        return placed[0]

    codec = Codec(Limits(), place, native.lift, native.drop)
    with pytest.raises(EncodeError, match="no memory"):
        codec.encode([2, 7, [bytes(5000), bytes(5000)]], "data")
    assert placed
    assert native.live() == 0


def test_what_a_reply_points_to_counts_in_full(native: Any) -> None:
    """A guest could name one large range a million times."""
    block = memoryview(bytes(1 << 20))
    codec = Codec(Limits(reply_bytes=10 << 20), lambda _: 0, lambda address, length: block[:length])
    at = cbor2.CBORTag(tags.BYTES_AT, [4096, 1 << 20])
    assert len(codec.decode(cbor2.dumps([0, [at] * 9]))[1]) == 9
    with pytest.raises(ProtocolError, match="reply_bytes"):
        codec.decode(cbor2.dumps([0, [at] * 10]))
    assert len(codec.decode(cbor2.dumps([0, [at] * 9]))[1]) == 9  # each reply has its own budget


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x9a\xff\xff\xff\xff" + bytes(1000), id="one claim"),
        pytest.param((b"\x9a\x00\x00\x03\x00" * 60) + bytes(1000), id="claims within claims"),
        pytest.param(b"\xd9\xc1\xc0\x9a\x00\x00\x0f\xff" * 30 + bytes(5000), id="tuples within tuples"),
        pytest.param(b"\xbb" + b"\x00\x00\x00\x01" + bytes(4), id="pairs"),
        pytest.param(b"\x5b\x00\x00\x00\x01" + bytes(4), id="bytes"),
    ],
)
def test_the_guest_allocates_nothing_for_a_claim(native: Any, frame: bytes) -> None:
    """No more than the bytes that are there could fill."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="end too early|nested too deep"):
            native.loads(frame)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(frame) + 10_000
    finally:
        tracemalloc.stop()


def test_a_failed_request_frees_its_blocks(native: Any, codec: Codec) -> None:
    """Whatever fails, wherever: the `native` fixture counts what is left."""
    body = bytes(5000)
    value = [
        body,
        np.zeros(1000),
        "x" * 5000,
        {"a": (body, {1: body})},
        np.zeros((50, 50), "c16"),
        [np.zeros(600)],
        list(range(2000)),
    ]
    frame = codec.encode([2, 7, value], "data")
    native.request(frame)
    assert native.live() == 0
    for failing in range(8):
        frame = codec.encode([2, 7, [*value[:failing], FAILING, *value[failing:]]], "data")
        with pytest.raises(ValueError, match="not of the protocol"):
            native.request(frame.replace(b"\xd9\xc1\xc9\x6a2000-01-01", b"\xd9\xff\xff\x6a2000-01-01"))
        assert native.live() == 0


from datetime import date  # noqa: E402

FAILING = date(2000, 1, 1)


def test_creating_a_codec_is_cheap_and_leaves_no_cycle(native: Any) -> None:
    """One is made for each instance, and must not keep it alive."""
    import gc
    import weakref

    class Owner:
        def lift(self, address: int, length: int) -> memoryview:
            raise AssertionError

    owner = Owner()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        codec = Codec(Limits(), native.place, owner.lift)
        codec.encode([1, 2, [3]], "data")
        del codec, owner
        assert gone() is None
    finally:
        gc.enable()
