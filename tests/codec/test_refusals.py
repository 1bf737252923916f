"""What is not of the protocol is refused: by the validator, by the guest's decoder, by the host's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cbor2
import pytest

from cloche import Limits, ProtocolError
from cloche._codec.codec import Codec, UnusableKeys, decode_record

from . import frames


def table(rows: Mapping[str, Any]) -> list[Any]:
    return [pytest.param(value, id=name) for name, value in rows.items()]


@pytest.mark.parametrize("frame", table(frames.MALFORMED | frames.REFUSED))
def test_the_validator_refuses(native: Any, frame: bytes) -> None:
    """It is the one check that a guest cannot get around."""
    assert not native.check(frame, 1_000_000, 64)


@pytest.mark.parametrize(
    "frame", table(frames.REFUSED_BY_HOST | {name: frame for name, (frame, _) in frames.ACCEPTED.items()})
)
def test_the_validator_passes_what_only_its_content_makes_wrong(native: Any, frame: bytes) -> None:
    """Else the tests of the host's decoder would test the validator."""
    assert native.check(frame, 1_000_000, 64)


@pytest.mark.parametrize("frame", table(frames.MALFORMED))
def test_the_guest_refuses(native: Any, frame: bytes) -> None:
    """With an exception, and nothing worse."""
    with pytest.raises((ValueError, TypeError)):
        native.loads(frame)


def host_refuses(name: str) -> bool:
    return name not in frames.HARMLESS_TO_HOST


EVERYTHING = frames.MALFORMED | frames.REFUSED | frames.REFUSED_BY_HOST


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in EVERYTHING])
def test_the_host_refuses(name: str) -> None:
    """Even what the validator would not have let through: ProtocolError, or `UnusableKeys` for what a node's own objects can become."""
    codec = Codec(Limits(), lambda _: 0, lambda *_: memoryview(b"\xff\xff"))
    if name in frames.HARMLESS_TO_HOST:
        codec.decode(EVERYTHING[name])
        return
    with pytest.raises(UnusableKeys if name in frames.NOT_KEYS else ProtocolError):
        codec.decode(EVERYTHING[name])


@pytest.mark.parametrize("row", table(frames.ACCEPTED))
def test_other_spellings_are_read(native: Any, codec: Codec, row: tuple[bytes, Any]) -> None:
    """The profile does not ask for the shortest form."""
    frame, value = row
    assert native.loads(frame) == codec.decode(frame) == value


NOT_RECORDS = {
    "not a list": b"\xa0",
    "two lists": b"\x80\x80",
    "list and a byte": b"\x80\x00",
    "int key": b"\x81\xa1\x01\x02",
    **{f"malformed: {name}": b"\x81" + frame for name, frame in frames.MALFORMED.items() if host_refuses(name)},
    **{name: b"\x81" + frame for name, frame in frames.REFUSED.items() if name != "bytes key"},
    **{name: b"\x81" + frame for name, frame in frames.REFUSED_BY_HOST.items()},
}


@pytest.mark.parametrize("frame", table(NOT_RECORDS))
def test_a_log_record_is_plain_or_refused(frame: bytes) -> None:
    """Nobody has validated it: the guest writes the ring, and the host reads it after a trap too."""
    with pytest.raises(ValueError, match="log record"):
        decode_record(frame)


def test_a_log_record_is_read() -> None:
    """The form that docs/reference/wire.md gives."""
    record = [20, "node", "text", {"extra": [1.5, None, True, b"x"]}, None, 1 << 60]
    assert decode_record(cbor2.dumps(record)) == record
    with pytest.raises(ValueError, match="log record"):
        decode_record(cbor2.dumps([[[[[[[[[[]]]]]]]]]]))
