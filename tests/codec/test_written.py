"""Outputs of a batch that are encoded when the node gives them: what stands for them is what they were, wherever it is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

LARGE = 8192
"""Bytes of a body that stays beside its message."""


def values() -> dict[str, Any]:
    return {
        "atom": 7,
        "list": [1, [2.5, "text"], None],
        "numbers": list(range(100)),
        "dict": {"a": [1], 2: (3, b"4")},
        "set": {1, "two"},
        "bytes": b"x" * LARGE,
        "text": "z" * LARGE,
        "wide text": "ü" * LARGE,
        "array": np.arange(LARGE, dtype="f4"),
        "nested": {"array": np.ones((3, LARGE), "i2"), "same": [b"x" * LARGE, "t" * LARGE]},
        "small array": np.arange(3),
    }


def test_it_arrives_as_what_it_was(native: Any, codec: Any) -> None:
    """Twice in one reply, and again in a later one: bodies beside the message live as long as what stands for them."""
    given = values()
    written = {
        name: native.written(native.request(codec.encode([2, 7, value], "data"))[2]) for name, value in given.items()
    }
    for _ in range(2):
        frame = native.reply([0, [list(written.values()), *written.values()]])
        assert native.check(frame, 1_000_000, 64)
        _, (together, *single) = codec.decode(frame)
        for found in (together, single):
            for value, expected in zip(found, given.values(), strict=True):
                np.testing.assert_equal(value, expected)
                assert type(value) is type(expected)


@pytest.mark.parametrize("size", [3, LARGE])
def test_what_is_changed_later_is_not_changed_in_it(native: Any, codec: Any, size: int) -> None:
    array, data, outer = np.zeros(size), bytearray(size), {"list": [1]}
    inside = {"array": array, "data": data, "outer": outer}
    written = native.written(inside)
    array[:] = 5
    data[:] = b"5" * size
    outer["list"].append(2)
    inside.clear()
    del array, data
    _, value = codec.decode(native.reply([0, written]))
    assert not value["array"].any()
    assert value["data"] == bytearray(size)
    assert value["outer"] == {"list": [1]}


def test_limits_hold_for_it_and_for_a_reply_of_several(native: Any) -> None:
    native.limits(1 << 20, 10, 8)
    with pytest.raises(ValueError, match="value_nodes is 10"):
        native.written(["a"] * 11)
    part = native.written(["a"] * 6)
    native.reply([0, part])
    with pytest.raises(ValueError, match="value_nodes is 10"):
        native.reply([0, [part, part]])
    native.limits(1 << 14, 100, 8)
    with pytest.raises(ValueError, match="reply_bytes is 16384"):
        native.written(bytearray(1 << 14))
    part = native.written(bytearray(LARGE + 1000))
    with pytest.raises(ValueError, match="reply_bytes is 16384"):
        native.reply([0, [part, part]])
    native.limits(1 << 20, 100, 4)
    native.written([1])
    with pytest.raises(ValueError, match="value_depth"):
        native.written([[1]])
    with pytest.raises(TypeError, match=r"output\[1\]: cannot encode"):
        native.written([1, object()])
