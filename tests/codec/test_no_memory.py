"""Memory runs out at every allocation in turn: a MemoryError, never a crash, a leak of a block, or a wrong value.

A node reaches this by itself: ``memory_bytes`` is a limit that it may come near, and catch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cloche._codec.codec import Codec
from cloche_guest import values

from . import strategies as s

testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its own tests")

VALUE = {
    "n": [1, 2**100, -(2**100), 1.5, None],
    "t": (1, {2, 3}, frozenset([4]), {5: (6,)}),
    "s": ["\ud800", "\u20ac" * 3000, "x" * 5000, bytes(5000), bytearray(b"ab")],
    "l": [[5] * 1000, [0.5] * 64],
    "a": [np.zeros(2000), np.zeros(1000), [np.zeros(4)]],
}
MOST = 3000


@pytest.fixture(autouse=True)
def shortest_hooks(native: Any) -> Iterator[None]:
    """C is what is tested: the interpreter itself does not survive every failure (CPython 3.13.0 crashes in `re`)."""
    native.hooks(lambda value: (86, value), lambda _, content: bytes(content))
    yield
    native.hooks(values.encode, values.decode)


def until_it_succeeds(run: Callable[[], Any]) -> Any:
    """Run with the first allocation failing, then with the second ... until all succeed; the result."""
    for number in range(1, MOST):
        testcapi.set_nomemory(number, number + 1)
        try:
            result = run()
        except MemoryError:
            continue
        finally:
            testcapi.remove_mem_hooks()
        assert number > 10, "too few allocations to have tested anything"
        return result
    raise AssertionError(f"still no memory after {MOST} allocations")


def test_decoding_without_memory(native: Any, codec: Codec) -> None:
    """Every block of a request is owned or freed, wherever it ends: the `native` fixture counts them."""
    frames = iter([codec.encode([2, 7, VALUE], "data") for _ in range(MOST // 6)])  # each one's blocks are used up
    message = until_it_succeeds(lambda: native.request(next(frames)))
    assert s.same(message[2], native.request(codec.encode([2, 7, VALUE], "data"))[2])
    for frame in frames:
        native.request(frame)


def test_encoding_without_memory(native: Any) -> None:
    """The frame is whole or there is none, and the next encode is as good as any."""
    expected = native.dumps(VALUE)
    assert until_it_succeeds(lambda: native.dumps(VALUE)) == expected
    until_it_succeeds(lambda: native.reply([0, VALUE]))
    assert native.dumps(VALUE) == expected


def test_refusing_without_memory(native: Any) -> None:
    """The path may be lost, the refusal is not."""
    native.hooks(lambda value: None, lambda _, content: content)
    for number in range(1, MOST):
        testcapi.set_nomemory(number, number + 1)
        try:
            native.reply([0, {"x": [0, until_it_succeeds]}])
        except TypeError as error:
            text = str(error)
        except MemoryError:
            text = ""
        finally:
            testcapi.remove_mem_hooks()
        if text == "result.x[1]: cannot encode function":
            break
    assert text == "result.x[1]: cannot encode function", "never refused in full"
