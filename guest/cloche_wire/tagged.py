"""The two values of the protocol that Python has no type for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Tagged:
    """A CBOR tag and its content, on the way out. A list in the content is a CBOR array; so is the list in that.

    The content of a typed array's tag, and the last item of an NDARRAY's list, is any contiguous buffer of bytes.
    """

    __slots__ = ("content", "tag")

    def __init__(self, tag: int, content: Any) -> None:
        self.tag = tag
        self.content = content


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object that one guest pickled for another. Whoever holds it sees bytes, and sends them on as they are.

    Attributes:
        digest: of what the bytes need to be unpickled.
        data: the pickle. Never unpickle it outside a guest: whoever made it would own the process.
    """

    digest: bytes
    data: bytes
