"""A node's whole state as data: the pages of linear memory that differ from the image's.

At rest an instance is its linear memory and nothing else: no call is on the stack, and the image's one mutable global, the stack
pointer, has its initial value. So restoring is a fresh instance and a copy of pages, here or on another machine.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloche._runtime.stream import StreamPosition
from cloche._texts import name as cleaned
from cloche._wasm.clocks import check_state
from cloche._wasm.memory import PAGE_BYTES
from cloche.errors import ClocheError

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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one node. Make it with `Node.snapshot`, bring it back with `Runtime.restore`.

    Attributes:
        image: sha256 of the image's module; only a runtime with the same image can restore it.
        name: the node's name.
        info: as `Node.info`.
        memory_bytes: size of the linear memory.
        runs: stretches of pages that differ from the image: (first page, number of pages). A page has 4096 bytes here, on every
            machine.
        pages: their content, in order.
        request: address of the request buffer in the guest.
        calls: calls that the node had answered.
        stream: where the stream is that it had open, for `Node.resume`; None: it had none.
        outside: where its clocks and its random source were, if they are not the host's (`Grants.clock`, `Grants.seed`).

    Raises:
        ClocheError: they do not fit together.
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

    def to_bytes(self, *, key: bytes = b"") -> bytes:
        """The snapshot as bytes: versioned, compressed, with a digest at its end.

        Args:
            key: up to 64 bytes; with it the digest also proves that the bytes come from somebody who has the key.
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
        """Check bytes that `to_bytes` made, and read them.

        Bytes from a stranger cost at most 32 times their size for what describes the node, and `max_bytes` for its pages: a
        megabyte of them may stand for a gigabyte of equal pages.

        Args:
            data: the bytes.
            key: what `to_bytes` was given.
            max_bytes: how much memory the snapshot's pages may take once decompressed. The default is that of
                `Limits.memory_bytes`.

        Raises:
            ClocheError: they are truncated, altered, made with another key or by another version, or too large.
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


def _described(text: bytes) -> dict[str, Any]:
    """The description, which may be anything: its depth is looked at before it is parsed."""
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
    if len(digits) > _MAX_DIGITS:  # reading a number takes time quadratic in its digits
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _run(run: Any) -> tuple[int, int]:
    match run:
        case [int(first), int(count)] if first >= 0 and count >= 1:
            return first, count
        case _:
            raise ValueError("a stretch of pages is [first page, number of pages]")


def _inflated(data: memoryview, size: int) -> bytes:
    """Decompress exactly `size` bytes, in a buffer that grows in place: `zlib` itself would need the room twice."""
    inflate = zlib.decompressobj()
    pages = io.BytesIO()
    for at in range(0, len(data) + _INPUT, _INPUT):  # the last is empty: it fetches what the decompressor holds
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
