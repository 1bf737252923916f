"""The guest's codec against the RFC and against cbor2."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import strategies as s
from .vectors import VECTORS, Refused

profile = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize(("frame", "value"), [pytest.param(bytes.fromhex(f), v, id=f[:20]) for f, v in VECTORS])
def test_rfc_8949_appendix_a(native: Any, frame: bytes, value: Any) -> None:
    """Each example is read as the RFC says, or is one that the protocol leaves out."""
    if isinstance(value, Refused):
        assert not native.check(frame, 1000, 64), value.why
        with pytest.raises(ValueError, match="cbor|tag"):
            native.loads(frame)
        return
    assert native.check(frame, 1000, 64)
    assert s.same(native.loads(frame), value)
    assert s.same(cbor2.loads(frame), value)


@profile
@given(s.plain_values)
def test_the_guest_reads_what_cbor2_writes(native: Any, value: Any) -> None:
    """The host writes with cbor2."""
    frame = cbor2.dumps(value)
    assert s.same(native.loads(frame), value)
    assert native.check(frame, 100_000, 64)


@profile
@given(s.plain_values)
def test_cbor2_reads_what_the_guest_writes(native: Any, value: Any) -> None:
    """The host reads with cbor2."""
    frame = native.dumps(value)
    assert s.same(cbor2.loads(frame), value)
    assert native.check(frame, 100_000, 64)


@profile
@given(s.plain_values.filter(lambda value: "float" not in repr(type(value))))
def test_both_write_the_same_bytes(native: Any, value: Any) -> None:
    """But for the width of floats there is one shortest form, and both use it."""
    frame = native.dumps(value)
    assert len(frame) >= len(cbor2.dumps(value, canonical=True))
    assert native.dumps(native.loads(frame)) == frame


@profile
@given(st.binary(max_size=60))
def test_guest_and_cbor2_agree_on_any_bytes(native: Any, frame: bytes) -> None:
    """What the guest reads, cbor2 reads as the same; what the validator passes, the guest reads."""
    try:
        value = native.loads(frame)
    except (ValueError, TypeError):
        value = Ellipsis
    if native.check(frame, 1000, 64) and b"\xc1" not in frame and b"\xd8" not in frame and b"\xd9" not in frame:
        assert value is not Ellipsis
    if value is not Ellipsis and s.is_plain(value):
        assert s.same(cbor2.loads(frame), value)


def test_floats_are_written_in_64_bits(native: Any) -> None:
    """The price of searching for a shorter form is paid by every float, the profit is small."""
    assert native.dumps(1.5) == b"\xfb" + b"\x3f\xf8" + bytes(6)
