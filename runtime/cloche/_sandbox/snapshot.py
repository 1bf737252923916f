"""Snapshots: a node's whole state as data, which is the pages of linear memory that differ from the image's.

Between two calls an instance consists of its linear memory alone: no call is on the stack, and the image's one mutable global, the
stack pointer, has its initial value. So a snapshot is restored by copying pages into a fresh instance, here or on another machine.
"""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from cloche._html import table
from cloche._records import StreamPosition
from cloche._wasm import PAGE_BYTES
from cloche._wasm.clocks import check_state
from cloche.errors import ClocheError
from cloche.texts import name as cleaned

__all__ = ["PAGE_BYTES", "Snapshot"]

_MAGIC: Final = b"cloche snapshot\n"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<16sIII")  # magic, version, bytes of the description, 0
_DIGEST_BYTES: Final = 32
_MAX_DESCRIPTION: Final = 1 << 20
_MAX_DEPTH: Final = 8
_MAX_DIGITS: Final = 20
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_CHUNK: Final = 1 << 20
_INPUT: Final = 1 << 16
_MOST_MEMORY: Final = 1 << 32


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The state of one node. Make it with `Node.snapshot`, bring it back with `Runtime.restore`.

    Attributes:
        image: sha256 of the image's module; only a runtime with the same image can restore it.
        name: the node's name.
        info: the node's `Node.info`.
        memory_bytes: size of the linear memory in bytes.
        runs: address ranges that differ from the image, in order: (first page, number of pages). A page has 4096
            bytes here, on every machine.
        pages: content of these pages, in order.
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
    runs: tuple[tuple[int, int], ...]
    pages: bytes
    request: int
    calls: int
    stream: StreamPosition | None = None
    outside: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What the snapshot is of, without the state: that is megabytes, and may hold secrets of the node."""
        stream = ", in a stream" if self.stream is not None else ""
        return (
            f"<cloche.Snapshot of {cleaned(self.name)!r} after {self.calls} calls{stream}, {len(self.pages) / 1e6:.1f} MB, "
            f"image {cleaned(self.image)[:12]}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("entry", self.info.get("entry", "")),
            ("calls", self.calls),
            ("stream", "open" if self.stream is not None else "none"),
            ("size", f"{len(self.pages) / 1e6:.1f} MB"),
            ("memory", f"{self.memory_bytes / 1e6:.1f} MB"),
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
        end = 0
        total = 0
        for first, count in self.runs:
            if first < end or count < 1:
                raise ClocheError("the snapshot's pages are out of order")
            end = first + count
            total += count
        if end * PAGE_BYTES > self.memory_bytes or total * PAGE_BYTES != len(self.pages):
            raise ClocheError("the snapshot's pages do not fit its memory")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the snapshot as its `to_bytes`, so that it is checked when it is unpickled."""
        return _unpickled, (self.to_bytes(),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return replace(self, info=copy.deepcopy(self.info, memo))  # the pages are bytes, which never change

    def __hash__(self) -> int:
        return hash((self.image, self.name, self.memory_bytes, self.runs, self.calls))

    def to_bytes(self, *, key: bytes = b"") -> bytes:
        """The snapshot as bytes: versioned, compressed, with a digest at its end.

        Args:
            key: up to 64 bytes. With a key the digest also proves that the bytes were made by a holder of the key.
        """
        description = json.dumps(
            {
                "image": self.image,
                "name": self.name,
                "info": self.info,
                "memory_bytes": self.memory_bytes,
                "runs": self.runs,
                "request": self.request,
                "calls": self.calls,
                "stream": self.stream,
                "outside": dict(self.outside),
            },
            separators=(",", ":"),
        ).encode()
        body = _HEAD.pack(_MAGIC, _VERSION, len(description), 0) + description + zlib.compress(self.pages, 1)
        return body + _digest(body, key)

    @classmethod
    def from_bytes(cls, data: bytes, *, key: bytes = b"", max_bytes: int = 256 << 20) -> Snapshot:
        """Check and read the bytes of `to_bytes`.

        Hostile bytes cost at most 32 times their size in memory for the description of the node, and `max_bytes` for its pages
        (compression lets one megabyte stand for a gigabyte of equal pages).

        Args:
            data: the bytes.
            key: the key that was given to `to_bytes`.
            max_bytes: bytes that the decompressed pages may take. The default is that of `Limits.memory_bytes`.

        Raises:
            ClocheError: the bytes are truncated, altered, made with another key or by another version, or too large.
        """
        if len(data) < _HEAD.size + _DIGEST_BYTES:
            raise ClocheError(f"{len(data)} bytes are no snapshot")
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        magic, version, size, _ = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            raise ClocheError("these bytes are no snapshot")
        if version != _VERSION:
            raise ClocheError(f"the snapshot has version {version}, this Cloche reads {_VERSION}")
        import hmac  # slow to import: it loads OpenSSL

        if not hmac.compare_digest(_digest(body, key), digest):
            raise ClocheError("the snapshot is truncated or altered, or was made with another key")
        if size > min(_MAX_DESCRIPTION, len(body) - _HEAD.size):
            raise ClocheError("the snapshot's description is too long")
        try:
            described = _described(body[_HEAD.size : _HEAD.size + size])
            stream = described.pop("stream")
            runs = tuple(map(_run, described.pop("runs")))
            wanted = sum(count for _, count in runs) * PAGE_BYTES
            if wanted > max_bytes:
                raise ClocheError(f"the snapshot has {wanted} bytes of pages, over max_bytes={max_bytes}")
            pages = _inflated(memoryview(body)[_HEAD.size + size :], wanted)
            described["name"] = cleaned(described["name"])
            return cls(pages=pages, runs=runs, stream=_position(stream), **described)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, zlib.error) as error:
            raise ClocheError(f"the snapshot cannot be read: {error}") from error


def _unpickled(data: bytes) -> Snapshot:
    """Unpickle a `Snapshot`, of any size."""
    return Snapshot.from_bytes(data, max_bytes=_MOST_MEMORY)


def _described(text: bytes) -> dict[str, Any]:
    """Parse the hostile JSON description; its depth is checked first, because the parser recurses."""
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ClocheError(f"the snapshot's description is nested more than {_MAX_DEPTH} deep")
        elif token[0] in (b"]", b"}"):
            depth -= 1
    described = json.loads(text, parse_int=_integer)
    if type(described) is not dict:
        raise ClocheError("the snapshot's description is no map")
    return described


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:  # int() takes time quadratic in the number of digits
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _run(run: Any) -> tuple[int, int]:
    match run:
        case [int(first), int(count)] if first >= 0 and count >= 1:
            return first, count
        case _:
            raise ValueError("a run of pages is [first page, number of pages]")


def _inflated(data: memoryview, size: int) -> bytes:
    """Decompress exactly `size` bytes, in a buffer that grows in place: `zlib.decompress` needs twice the memory."""
    inflate = zlib.decompressobj()
    pages = io.BytesIO()
    for at in range(0, len(data) + _INPUT, _INPUT):  # the last slice is empty: it drains the decompressor
        part: Any = data[at : at + _INPUT]
        if inflate.eof and part:
            break
        while not inflate.eof and pages.tell() <= size:
            pages.write(inflate.decompress(part, min(_CHUNK, size + 1 - pages.tell())))
            part = inflate.unconsumed_tail
            if not part:
                break
    if pages.tell() != size or part or inflate.unused_data or not inflate.eof:
        raise ClocheError("the snapshot's pages are not of the size that it says")
    return pages.getvalue()


def _digest(body: bytes, key: bytes) -> bytes:
    import hashlib  # slow to import: it loads OpenSSL

    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=key).digest()


def _position(stream: Any) -> StreamPosition | None:
    match stream:
        case None:
            return None
        case [int(items), int(outputs), bool(wants)] if items >= 0 and outputs >= 0:
            return StreamPosition(items, outputs, wants)
        case _:
            raise ClocheError(f"the snapshot's stream is {stream!r}")
