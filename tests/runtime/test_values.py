"""Values through the real image: the same promises as in tests/codec, where both codecs run natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

import cloche
from tests.codec import strategies as s
from tests.limits import patient

ECHO = "class Echo:\n    def process(self, data):\n        return data\n"
TYPES = """
class Types:
    def process(self, data):
        return [type(item).__qualname__ for item in data]
"""
HOSTILE = """
import _cloche
from cloche_guest import values


class Hostile:
    '''Answers with any tag and content that it is given.'''

    def process(self, data):
        tag, content = data

        class Wish:
            pass

        def encode(value):
            return (tag, content) if isinstance(value, Wish) else values.encode(value)

        from cloche_guest.boot import GUEST, Cancelled, DeadlineExceeded

        fail, recover = GUEST.fail, GUEST.recover
        _cloche.register(GUEST.handle, encode, values.decode, fail, recover, DeadlineExceeded, Cancelled)
        return Wish()
"""

profile = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)


@pytest.fixture(scope="module")
def echo(runtime: cloche.Runtime) -> Any:
    with runtime.load(cloche.Source(ECHO, "echo.py"), "Echo") as node:
        yield node


@profile
@given(s.values)
@example([float("nan"), -0.0, 2**64, -(2**64), -(2**64) - 1, 2**5000])
@example({(1, 2): {frozenset({1}): ["\ud800", "\0", "x" * 4096, "é" * 2048]}})
@example({1: "a", "1": "b", None: "c", b"1": "d", 2.5: "e"})
def test_a_value_arrives_as_it_was_sent(echo: cloche.Node, value: Any) -> None:
    """The codec on wasm32 is the one that tests/codec checks natively; here its pointers have 32 bits."""
    assert s.same(echo.process(value), s.arriving(value))


@profile
@given(s.arrays())
def test_an_array_arrives_as_it_was_sent(echo: cloche.Node, array: np.ndarray) -> None:
    """dtype, shape, order, values, flag: numpy on both sides."""
    arrived = echo.process(array)
    assert s.same(arrived, array)
    assert arrived.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc


def test_what_the_node_sees(load: Callable[..., cloche.Node]) -> None:
    """The types, seen from inside."""
    sent = [
        1,
        True,
        None,
        1.5,
        "a",
        b"b",
        bytearray(1),
        [],
        (),
        {},
        {1: 2},
        set(),
        frozenset(),
        1j,
        np.zeros(2),
        np.float32(1),
    ]
    node = load(TYPES, "Types")
    seen = [
        "int",
        "bool",
        "NoneType",
        "float",
        "str",
        "bytes",
        "bytes",
        "list",
        "tuple",
        "dict",
        "dict",
        "set",
        "frozenset",
    ]
    assert node.process(sent) == [*seen, "complex", "ndarray", "float32"]
    assert node.process([s.Point(1, 2), s.Config("n", 1), s.Color.RED]) == ["Record", "Record", "str"]


def test_an_array_in_a_request_is_the_nodes_own(load: Callable[..., cloche.Node]) -> None:
    """A view of what the host wrote, not a copy of it; writable; the host's array stays as it is."""
    node = load("def f(x):\n    x += 1\n    return [type(x.base).__name__, x.flags.writeable, x]\n", "f")
    sent = np.zeros(10_000, "f4")
    base, writable, array = node.process(sent)
    assert (base, writable) == ("Block", True)
    assert array.sum() == 10_000
    assert sent.sum() == 0


def test_large_values_leave_nothing_behind(load: Callable[..., cloche.Node]) -> None:
    """Blocks of requests are freed by their arrays, bodies of replies by the next call. In a node that no other test has used."""
    echo = load(ECHO, "Echo")
    value = [np.zeros(1 << 18, "f4"), "x" * (1 << 20), bytes(1 << 20), {"a": np.zeros((64, 64, 64), "f8")}]
    for _ in range(10):  # the allocator has found places for all of it after five
        echo.process(value)
    before = echo.stats.memory_bytes
    for _ in range(50):
        echo.process(value)
    assert echo.stats.memory_bytes == before


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "{'filters': [0, {'fn': print}]}",
            "TypeError: result.filters[1].fn: cannot encode builtin_function_or_method: pass its result: x(...)",
        ),
        ("(lambda l: (l.append(l), l)[1])([])", "ValueError: result[0]: a cycle: this list contains itself"),
        ("[object()]", "TypeError: result[0]: cannot encode object"),
    ],
)
def test_a_result_that_cannot_be_sent(load: Callable[..., cloche.Node], expression: str, message: str) -> None:
    """The node's mistake: it hears of it by the caller's exception, and goes on."""
    node = load(f"def f(x):\n    return {expression} if x else 'fine'\n", "f")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(1)
    assert f"{caught.value.exc_type}: {caught.value.message}" == message
    assert node.process(0) == "fine"


def test_a_reply_over_the_limit(load: Callable[..., cloche.Node]) -> None:
    """Refused inside, so that the node stays usable."""
    node = load("def f(n):\n    return ['x', bytes(n)]\n", "f", limits=patient(reply_bytes=100_000))
    with pytest.raises(
        cloche.NodeRaisedError,
        match=r"result\[1\]: the value takes 2000\d\d bytes or more; the limit reply_bytes is 100000",
    ):
        node.process(200_000)
    assert node.process(5) == ["x", bytes(5)]


@pytest.mark.parametrize(
    ("tag", "content"),
    [
        pytest.param(12345, 0, id="foreign tag"),
        pytest.param(0, "2013-03-21T20:04:00Z", id="cbor2's own tag"),
        pytest.param(4, [1_000_000_000, 1], id="decimal fraction"),
        pytest.param(49604, [0xFFFF_FFF0, 100], id="bytes beyond memory"),
        pytest.param(49604, [0, 100], id="bytes at null"),
        pytest.param(49604, [1 << 40, 1], id="bytes at 64 bits"),
        pytest.param(49605, [65536, 1 << 31], id="text that is too long"),
        pytest.param(49606, ["|O", [1], "C", b"12345678"], id="object array"),
        pytest.param(49606, ["|b1", [3], "C", b"\0\1\2"], id="bool of two"),
        pytest.param(40, [[1000, 1000], 5], id="matrix of nothing"),
        pytest.param(49614, ["P", ["x"], []], id="record without value"),
        pytest.param(49615, [b"d", "text"], id="opaque text"),
    ],
)
def test_a_hostile_reply_breaks_its_own_instance_alone(
    load: Callable[..., cloche.Node], echo: cloche.Node, tag: int, content: Any
) -> None:
    """A node that owns the guest's interpreter can write any reply: it gets as far as the validator or the host's decoder."""
    node = load(HOSTILE, "Hostile")
    with pytest.raises((cloche.ProtocolError, cloche.NodeRaisedError)) as caught:
        node.process([tag, content])
    if caught.type is cloche.NodeRaisedError:
        assert "buffer" in str(caught.value) or "bytes-like" in str(
            caught.value
        )  # the codec itself refused the content
    else:
        assert node.broken
    assert echo.process(1) == 1
