"""The codec of a guest in a worker process. It runs in the host; the worker fills in the addresses of bodies sent out of line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import Codec, Counted, check_items, write_cbor
from cloche.errors import InternalError, ProtocolError
from cloche_wire import tags

if TYPE_CHECKING:
    from cloche._codec import Lowering
    from cloche.limits import Limits

__all__ = ["CountedRemoteCodec", "RemoteCodec"]

_FIRST: Final = 0x4000_0000
"""Placeholder for the address of the first body. The placeholder and its complement take five bytes, as a real address does."""

_ALL: Final = 0xFFFF_FFFF
_ADDRESS: Final = re.compile(b"\xff{4}")


class RemoteCodec(Codec):
    """`Codec` for a guest whose memory this process cannot reach, and whose worker may have skipped the validator.

    Args:
        limits: the instance's.
        lift: address, length -> bytes of guest memory, as the worker sent them. The bytes may change while they are read.
        shared: as for `Codec`.

    Attributes:
        bodies: bodies sent out of line with the last encoded message: (offset in the frame of its address, content).
    """

    __slots__ = ("_nodes", "bodies")

    def __init__(
        self, limits: Limits, lift: Callable[[int, int], memoryview], shared: Callable[[memoryview], int]
    ) -> None:
        super().__init__(limits, _nowhere, lift, None, shared, lambda a, n: memoryview(bytes(lift(a, n))))
        self._nodes = limits.value_nodes
        self._decoders[tags.TEXT_AT] = self._text
        self.bodies: Sequence[tuple[int, memoryview]] = ()

    def encode(self, message: list[Any], root: str) -> bytes:
        """As `Codec.encode`; sets `bodies`."""
        self.bodies = ()
        return super().encode(message, root)

    def decode(self, frame: bytes, *, lease: bool = False) -> Any:
        """As `Codec.decode`, for a frame that no validator has passed."""
        if len(frame) > self._reply_bytes:
            raise ProtocolError(f"a reply of {len(frame)} bytes (reply_bytes {self._reply_bytes})")
        if len(frame) > self._nodes:  # each item takes at least one byte
            check_items(frame, self._nodes)
        return super().decode(frame, lease=lease)

    def _write(self, lowered: list[Any], lowering: Lowering, root: str) -> bytes:
        """Write the frame twice, with complementary placeholders: exactly the addresses of bodies differ between the two."""
        places = [place for _, place in lowering.bodies]
        for index, place in enumerate(places):
            place[0] = _FIRST + index
        frame = self._written(lowered, lowering)
        if not places:
            return frame
        for place in places:
            place[0] ^= _ALL
        other = write_cbor(lowered)
        difference = int.from_bytes(frame) ^ int.from_bytes(other)
        found = [match.start() for match in _ADDRESS.finditer(difference.to_bytes(len(frame)))]
        if len(found) != len(places) or len(frame) != len(other):
            raise InternalError(f"{len(found)} places for {len(places)} bodies")
        self.bodies = [
            (at, memoryview(lowering.bodies[int.from_bytes(frame[at : at + 4]) - _FIRST][0]).cast("B")) for at in found
        ]
        return frame

    def _text(self, content: Any, _immutable: bool) -> str:
        return str(
            self._lifter.byte_string(content, True), "utf-8"
        )  # decoded from a copy, because the worker may change the bytes meanwhile


class CountedRemoteCodec(Counted, RemoteCodec):
    """A `RemoteCodec` that counts bytes."""

    __slots__ = ()


def _nowhere(body: Any) -> int:
    raise InternalError("a body was placed in the memory of a guest that is out of reach")
