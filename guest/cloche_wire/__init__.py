"""The protocol that host and guest share: ABI names, message numbers, CBOR tags, value conversions. Standard library only."""

from cloche_wire.failure import Failure, Frame
from cloche_wire.messages import Ask, Op, Reply

__all__ = ["Ask", "Failure", "Frame", "Op", "Reply"]
