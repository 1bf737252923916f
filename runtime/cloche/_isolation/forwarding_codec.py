"""The codec of a guest in a worker: it runs in the host, and leaves the places of what travels beside a message open."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cloche._codec.cbor import write as write_cbor
from cloche._codec.codec import Codec
from cloche.errors import InternalError, ProtocolError
from cloche_wire import tags

if TYPE_CHECKING:
    from cloche._codec.encoder import Lowering
    from cloche.limits import Limits

__all__ = ["RemoteCodec"]

_FIRST: Final = 0x4000_0000
"""Stands for the address of the first body. It and its complement are written in five bytes, as a real address is."""

_ALL: Final = 0xFFFF_FFFF
_ADDRESS: Final = re.compile(b"\xff{4}")


class RemoteCodec(Codec):
    """As `Codec`, for a guest whose memory is out of reach, and whose validator may have been left out.

    Args:
        limits: of the instance.
        lift: address, length -> what the worker says lies there. It may change while it is read.
        shared: as for `Codec`.

    Attributes:
        bodies: what travels beside the message encoded last, and where in it the address of each belongs.
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
        if len(frame) > self._nodes:  # an item takes a byte at least
            check_items(frame, self._nodes)
        return super().decode(frame, lease=lease)

    def _write(self, lowered: list[Any], lowering: Lowering, root: str) -> bytes:
        """Written twice, with places that differ in every bit: where the two differ, and nowhere else, a place belongs."""
        places = [place for _, place in lowering.bodies]
        for index, place in enumerate(places):
            place[0] = _FIRST + index
        frame = write_cbor(lowered)
        self._check_size(frame, lowering, root)
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
        return str(self._lifter.byte_string(content, True), "utf-8")  # decoded from a copy: see `lift`


def _nowhere(body: Any) -> int:
    raise InternalError("a body was placed in the memory of a guest that is out of reach")


def check_items(frame: bytes, most: int) -> None:
    """Count the items of a frame, as the guest's validator does: a few bytes may otherwise become many objects.

    Raises:
        ProtocolError: there are more than `most`, or it is not well-formed.
    """
    at, size = 0, len(frame)
    for _ in range(most):
        if at >= size:
            return
        head = frame[at]
        at += 1
        major, short = head >> 5, head & 31
        length = short
        if short >= 24:
            wide = 1 << (short - 24)
            if wide > 8:
                raise ProtocolError("the reply is not well-formed")
            length = int.from_bytes(frame[at : at + wide])
            at += wide
        if major == 2 or major == 3:
            at += length
    if at < size:
        raise ProtocolError(f"the reply has more than value_nodes={most} items")
