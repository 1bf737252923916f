"""`native`: the guest's C codec as an extension module. `crossing`: a value's way into the guest and back, natively."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloche import Limits
from cloche._codec.codec import Codec

from .native import build

REPLY_BYTES = 1 << 26
DEPTH = 64
NODES = 1_000_000


@pytest.fixture(scope="session")
def native_module() -> Any:
    try:
        return build.load(build.build())
    except build.Unavailable as reason:
        pytest.skip(f"the codec cannot be built natively: {reason}")


@pytest.fixture
def native(native_module: Any) -> Iterator[Any]:
    """The module with its usual limits; at the end no block of a request may be left."""
    native_module.limits(REPLY_BYTES, NODES, DEPTH)
    yield native_module
    native_module.release()
    assert native_module.live() == 0, "blocks of a request were leaked"


@pytest.fixture
def codec(native: Any) -> Codec:
    """A host codec whose guest memory is the native module's."""
    return Codec(
        Limits(value_depth=DEPTH), native.place, lambda address, length: native.lift(address, length), native.drop
    )


@pytest.fixture
def crossing(native: Any, codec: Codec) -> Callable[[Any], Any]:
    """Host encodes, guest decodes; guest encodes, validator checks, host decodes."""

    def cross(value: Any) -> Any:
        op, call, inside = native.request(codec.encode([2, 7, value], "data"))
        assert (op, call) == (2, 7)
        frame = native.reply([0, inside])
        assert native.check(frame, 1_000_000, DEPTH), "the validator refused the guest's own reply"
        reply, outside = codec.decode(frame)
        assert reply == 0
        return outside

    return cross
