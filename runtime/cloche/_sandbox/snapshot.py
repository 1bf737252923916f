"""Snapshots: a node's whole state as data, which is the words of linear memory that differ from the image's.

Between two calls an instance consists of its linear memory alone: no call is on the stack, and the image's one mutable global, the
stack pointer, has its initial value. So a snapshot is restored by copying words into a fresh instance, here or on another machine.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import ge
from typing import Any, Final, Self

from cloche import _container
from cloche._html import table
from cloche._records import StreamPosition
from cloche._wasm import MASK_BYTES, PAGE_BYTES
from cloche._wasm.clocks import check_state
from cloche.errors import ClocheError
from cloche.texts import name as cleaned

__all__ = ["Snapshot", "checked", "described", "read_sections", "sections"]

_KIND: Final = "snapshot"
_VERSION: Final = 2
_OLD_MAGIC: Final = b"cloche snapshot\n"
_WORD_BYTES: Final = 8
_COLUMNS: Final = ("pages", "masks", "words")
_SHARE: Final = PAGE_BYTES // (4 + MASK_BYTES)
"""So much more a page's words may take than its number and its mask."""
_MAX_ABOUT: Final = 1 << 20
_MOST_MEMORY: Final = 1 << 32


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The state of one node. Make it with `Node.snapshot`, bring it back with `Runtime.restore`.

    The node's memory is stored as its differences from the image's, in three columns: see docs/reference/recordings.md.

    Attributes:
        image: sha256 of the image's module; only a runtime with the same image can restore it.
        name: the node's name.
        info: the node's `Node.info`.
        memory_bytes: size of the linear memory in bytes.
        pages: numbers of the pages that differ from the image's, ascending, of 4 bytes each. A page has 4096 bytes here, on every
            machine.
        masks: for each of these pages 512 bits: which of its words of 8 bytes differ.
        words: content of these words, in order.
        request: address of the request buffer in the guest.
        calls: number of calls that the node had answered.
        stream: position of the open stream, for `Node.resume`; None without an open stream.
        outside: state of the node's clocks and random source, unless they are the host's (`Grants.clock`, `Grants.seed`).

    Raises:
        ClocheError: the values do not fit together.
    """

    image: str
    name: str
    info: dict[str, Any]
    memory_bytes: int
    pages: bytes
    masks: bytes
    words: bytes
    request: int
    calls: int
    stream: StreamPosition | None = None
    outside: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What the snapshot is of, without the state: that may be megabytes, and may hold secrets of the node."""
        stream = ", in a stream" if self.stream is not None else ""
        return (
            f"<cloche.Snapshot of {cleaned(self.name)!r} after {self.calls} calls{stream}, {_human(self.size_bytes)}, "
            f"image {cleaned(self.image)[:12]}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("entry", self.info.get("entry", "")),
            ("calls", self.calls),
            ("stream", "open" if self.stream is not None else "none"),
            ("size", _human(self.size_bytes)),
            ("memory", _human(self.memory_bytes)),
            ("image", self.image[:12]),
        ]
        return table(f"Snapshot of {self.name}", rows)

    def __post_init__(self) -> None:
        check_state(self.outside)
        numbers = (self.memory_bytes, self.request, self.calls)
        if any(type(number) is not int or number < 0 for number in numbers) or self.memory_bytes > _MOST_MEMORY:
            raise ClocheError(f"the snapshot's numbers (memory_bytes, request, calls) are {numbers}")
        if type(self.name) is not str or type(self.image) is not str or type(self.info) is not dict:
            raise ClocheError("the snapshot's name and image are no texts, or its info is no dict")
        if any(type(column) is not bytes for column in self.columns):
            raise ClocheError("the snapshot's pages, masks and words are no bytes")
        if len(self.pages) % 4 or len(self.pages) // 4 * MASK_BYTES != len(self.masks):
            raise ClocheError("the snapshot's pages and masks do not fit each other")

    @property
    def columns(self) -> tuple[bytes, bytes, bytes]:
        """The differences from the image: `pages`, `masks` and `words`."""
        return self.pages, self.masks, self.words

    @property
    def layers(self) -> tuple[tuple[bytes, bytes, bytes], ...]:
        """Columns that make the memory if they are written over the image's one after another."""
        return (self.columns,)

    @property
    def size_bytes(self) -> int:
        """Bytes that the state takes in this process. `to_bytes` compresses it."""
        return sum(map(len, self.columns))

    @property
    def memory_digest(self) -> str:
        """sha256, in hexadecimal, of the node's whole memory: equal for two snapshots if each byte of their memories is.

        It is made of the image's digest, the size of the memory, and its differences from the image, so it takes the time of those
        alone. A page that was written and is again as the image's counts for nothing. Name, calls, streams, clocks and random
        source are not in it.
        """
        import hashlib  # slow to import: it loads OpenSSL

        digest = hashlib.sha256(b"cloche memory 1\n" + self.image.encode() + b"\n")
        digest.update(struct.pack("<QQ", self.memory_bytes, len(self.pages) // 4))
        for column in self.columns:
            digest.update(column)
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the snapshot as its `to_bytes`, so that it is checked when it is unpickled."""
        return _unpickled, (self.to_bytes(),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return replace(self, info=copy.deepcopy(self.info, memo))  # the columns are bytes, which never change

    def __hash__(self) -> int:
        return hash((self.image, self.name, self.memory_bytes, self.pages, self.calls))

    def to_bytes(self, *, key: bytes = b"") -> bytes:
        """The snapshot as bytes: versioned, compressed, with a digest at its end. See docs/reference/recordings.md.

        Args:
            key: up to 64 bytes. With a key the digest also proves that the bytes were made by a holder of the key.
        """
        return _container.write(_KIND, _VERSION, sections(self), key=key)

    @classmethod
    def from_bytes(cls, data: bytes, *, key: bytes = b"", max_bytes: int = 256 << 20) -> Snapshot:
        """Check and read the bytes of `to_bytes`.

        Hostile bytes cost little more than `max_bytes` in memory for the node's state (compression lets one megabyte stand for a
        gigabyte of equal words), and 32 times the size of its description, which has a megabyte at most.

        Args:
            data: the bytes.
            key: the key that was given to `to_bytes`.
            max_bytes: bytes that the words may take, decompressed, beside a sixtieth of it for pages and masks. The default is that
                of `Limits.memory_bytes`.

        Raises:
            ClocheError: the bytes are truncated, altered, made with another key or by another version, or too large.
        """
        if data[: len(_OLD_MAGIC)] == _OLD_MAGIC:
            raise ClocheError(
                f"the snapshot has version 1, this Cloche reads {_VERSION}: take it anew, or restore it with the Cloche that "
                "made it"
            )
        content = _container.read(data, _KIND, _VERSION, key=key, max_bytes=2 * _MOST_MEMORY)
        return read_sections(content, described(content), max_bytes, cls)


def sections(snapshot: Snapshot, **more: Any) -> dict[str, bytes]:
    """The sections of a container with a snapshot. `read_sections` reads them.

    Args:
        snapshot: the snapshot.
        **more: what else its description shall have, as JSON.

    Raises:
        ClocheError: the description is longer than a reader takes.
    """
    about = {
        "image": snapshot.image,
        "name": snapshot.name,
        "info": snapshot.info,
        "memory_bytes": snapshot.memory_bytes,
        "request": snapshot.request,
        "calls": snapshot.calls,
        "stream": snapshot.stream,
        "outside": dict(snapshot.outside),
        **more,
    }
    text = _container.json_bytes(about)
    if len(text) > _MAX_ABOUT:  # here, and not when it is read and the node is gone
        raise ClocheError(f"the description of node {snapshot.name!r} has {len(text)} bytes, over {_MAX_ABOUT}")
    return {"about": text, **dict(zip(_COLUMNS, snapshot.columns, strict=True))}


def described(content: _container.Container) -> dict[str, Any]:
    """The description that `sections` made, of a stranger's container.

    Raises:
        ClocheError: it cannot be read.
    """
    return _container.json_map(content.section("about", _MAX_ABOUT), f"the {content.kind}'s description")


def read_sections(
    content: _container.Container,
    about: dict[str, Any],
    max_bytes: int,
    kind: Callable[..., Snapshot] = Snapshot,
) -> Snapshot:
    """Check and read the sections of a stranger's container with a snapshot.

    Args:
        content: the container.
        about: from `described`, without what `sections` was given beside the snapshot.
        max_bytes: see `Snapshot.from_bytes`.
        kind: makes the snapshot of its fields.

    Raises:
        ClocheError: they are too large, or do not fit together.
    """
    taken = sum(map(content.size, _COLUMNS))
    if taken > max_bytes + max_bytes // _SHARE:
        raise ClocheError(f"the {content.kind} takes {taken} bytes, over max_bytes={max_bytes}")
    try:
        stream = _position(about.pop("stream"))
        about["name"] = cleaned(about["name"])
        pages, masks, words = map(content.section, _COLUMNS)
        return checked(kind(stream=stream, pages=pages, masks=masks, words=words, **about))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ClocheError(f"the {content.kind} cannot be read: {error}") from error


def checked(snapshot: Snapshot) -> Snapshot:
    """Check the columns of a snapshot that comes from elsewhere; the same snapshot. It takes longer than taking the snapshot.

    What is restored unchecked is refused by the core, or stays in its sandbox.

    Raises:
        ClocheError: they do not fit each other or the memory.
    """
    pages, masks, words = snapshot.columns
    if int.from_bytes(masks, "little").bit_count() * _WORD_BYTES != len(words):
        raise ClocheError("the snapshot's masks and words do not fit each other")
    numbers = memoryview(pages).cast("I")
    if any(map(ge, numbers, numbers[1:])):
        raise ClocheError("the snapshot's pages are out of order")
    if numbers and (numbers[-1] + 1) * PAGE_BYTES > snapshot.memory_bytes:
        raise ClocheError("the snapshot's pages do not fit its memory")
    return snapshot


def _unpickled(data: bytes) -> Snapshot:
    """Unpickle a `Snapshot`, of any size."""
    return Snapshot.from_bytes(data, max_bytes=_MOST_MEMORY)


def _human(size: int) -> str:
    """A number of bytes in the unit that suits it."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _position(stream: Any) -> StreamPosition | None:
    match stream:
        case None:
            return None
        case [int(items), int(outputs), bool(wants)] if items >= 0 and outputs >= 0:
            return StreamPosition(items, outputs, wants)
        case _:
            raise ClocheError(f"the snapshot's stream is {stream!r}")
