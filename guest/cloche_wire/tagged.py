"""`Tagged` and `Opaque`: the two kinds of values of the protocol for which Python has no type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Tagged:
    """A CBOR tag with its content, ready to be encoded. Lists in the content, at any depth, become CBOR arrays.

    Attributes:
        tag: number of the tag.
        content: for a typed array any contiguous buffer of bytes, and for NDARRAY a list whose last item is one; else a plain
            value.
    """

    __slots__ = ("content", "tag")

    def __init__(self, tag: int, content: Any) -> None:
        self.tag = tag
        self.content = content


@dataclass(frozen=True, slots=True, repr=False)
class Opaque:
    """An object that one guest has pickled for another guest. The host passes the bytes on unchanged.

    Attributes:
        digest: SHA-256 of `data`, by which the receiving guest detects changes.
        data: the pickle. Never unpickle it outside a guest: its sender could run any code in your process.
    """

    digest: bytes
    data: bytes

    def __repr__(self) -> str:
        """The object's size and the beginning of its digest."""
        return f"<Opaque of {len(self.data)} bytes, {self.digest[:4].hex()}>"
