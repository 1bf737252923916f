"""The container: what snapshots, checkpoints and recordings are written in. docs/reference/recordings.md is its specification.

A container has a kind, a version, and sections, which are bytes under a name. `write` makes one; `read` checks one, whose bytes may
be a stranger's: whoever made them chose every number in them, and a digest without a key proves nothing.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cloche.errors import ClocheError
from cloche.texts import name as cleaned

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined, unused-ignore]  # 3.12

__all__ = ["MAX_SECTIONS", "Container", "json_bytes", "json_map", "read", "sealed", "write"]

MAX_SECTIONS: Final = 1 << 16
"""Number of sections that a container may have."""
_MAGIC: Final = b"cloche container"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<16sII16sII")  # magic, version, sections, kind, version of the kind, 0
_ENTRY: Final = struct.Struct("<32sQQ")  # name, bytes of the body in the file, bytes of the section
_DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(rb"[a-z0-9][a-z0-9 ._-]*")
_MAX_DEPTH: Final = 8
_MAX_DIGITS: Final = 20
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|[0-9]{%d,}+' % (_MAX_DIGITS + 1), re.DOTALL)
_CHUNK: Final = 1 << 20
_INPUT: Final = 1 << 16
_REMEDY: Final = "read it with the Cloche that made it, or make it anew with this one"


def write(kind: str, version: int, sections: Mapping[str, Buffer], *, key: bytes = b"") -> bytes:
    """Make a container.

    Args:
        kind: what it is, as a noun: up to 16 bytes of `a-z0-9 ._-`.
        version: number of the kind's layout.
        sections: name, of up to 32 such bytes -> content. A content that zlib makes smaller is compressed.
        key: up to 64 bytes. With a key the digest also proves that the bytes were made by a holder of the key.
    """
    bodies = []
    table = [_HEAD.pack(_MAGIC, _VERSION, len(sections), _label(kind, 16), version, 0)]
    for name, content in sections.items():
        view = memoryview(content).cast("B")
        packed: Buffer = view
        if bytes(view[: len(_MAGIC)]) != _MAGIC:  # a container in a container is compressed already
            # the view if both are as long: a reader takes a body of a section's length for the section itself
            packed = min(view, zlib.compress(view, 1), key=len)
        bodies.append(packed)
        table.append(_ENTRY.pack(_label(name, 32), memoryview(packed).nbytes, view.nbytes))
    body = b"".join((*table, *bodies))
    return body + _digest(body, key)


def sealed(data: bytes, key: bytes) -> bytes:
    """A container of this process's own with a digest by another key."""
    body = data[:-_DIGEST_BYTES]
    return body + _digest(body, key)


def read(data: Buffer, kind: str, version: int, *, key: bytes = b"", max_bytes: int = 1 << 30) -> Container:
    """Check the bytes of `write` and find their sections, which are decompressed only when they are asked for.

    Args:
        data: the bytes. The container keeps a view of them.
        kind: the kind that the caller reads.
        version: the version of the kind that the caller reads.
        key: the key that was given to `write`.
        max_bytes: bytes that all sections may have together, decompressed.

    Raises:
        ClocheError: the bytes are no container of that kind and version, are truncated, altered or made with another key, or are
            too large.
    """
    view = memoryview(data).cast("B").toreadonly()
    if view.nbytes < _HEAD.size + _DIGEST_BYTES:
        raise ClocheError(f"{view.nbytes} bytes are no {kind}")
    magic, layout, count, label, found, _ = _HEAD.unpack_from(view)
    if magic != _MAGIC:
        raise ClocheError(f"these bytes are no {kind}")
    if layout != _VERSION:
        raise ClocheError(f"the {kind} is in a container of version {layout}, this Cloche reads {_VERSION}: {_REMEDY}")
    if label != _label(kind, 16):
        other = cleaned(label.rstrip(b"\0").decode("ascii", "backslashreplace"))
        raise ClocheError(f"these bytes are no {kind}: they are of the kind '{other}'")
    if found != version:
        raise ClocheError(f"the {kind} has version {found}, this Cloche reads {version}: {_REMEDY}")
    import hmac  # slow to import: it loads OpenSSL

    end = view.nbytes - _DIGEST_BYTES
    if not hmac.compare_digest(_digest(view[:end], key), view[end:]):
        raise ClocheError(f"the {kind} is truncated or altered, or was made with another key")
    at = _HEAD.size + _ENTRY.size * count
    if count > MAX_SECTIONS or at > end:
        raise ClocheError(f"the {kind} has {count} sections: there is no room for them")
    places: dict[str, tuple[memoryview, int]] = {}
    total = 0
    for raw, stored, size in _ENTRY.iter_unpack(view[_HEAD.size : at]):
        total += size
        if stored > min(size, end - at):
            raise ClocheError(f"the {kind}'s sections do not fit into it")
        places[_name(raw, kind)] = view[at : at + stored], size
        at += stored
    if at != end or len(places) != count:
        raise ClocheError(f"the {kind}'s sections do not fill it, or two have one name")
    if total > max_bytes:
        raise ClocheError(f"the {kind} takes {total} bytes of memory, over max_bytes={max_bytes}")
    return Container(kind, places)


class Container:
    """The sections of a container that `read` has checked. What they mean is the caller's to check.

    Args:
        kind: what it is.
        places: name -> the body in the file, and the bytes of the section.
    """

    __slots__ = ("_places", "kind")

    def __init__(self, kind: str, places: dict[str, tuple[memoryview, int]]) -> None:
        self.kind = kind
        self._places = places

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sections, in their order."""
        return tuple(self._places)

    def size(self, name: str) -> int:
        """Bytes of a section.

        Raises:
            ClocheError: there is no section of that name.
        """
        if name not in self._places:
            raise ClocheError(f"the {self.kind} has no section {cleaned(name)!r}")
        return self._places[name][1]

    def replace(self, name: str, content: bytes) -> None:
        """Have another content in the place of a section."""
        self._places[name] = memoryview(content), len(content)

    def section(self, name: str, most: int | None = None) -> bytes:
        """A section's content.

        Args:
            name: its name.
            most: bytes that it may have; None: as many as `max_bytes` has let it have.

        Raises:
            ClocheError: there is no section of that name, it is larger than `most`, or it cannot be decompressed.
        """
        size = self.size(name)
        if most is not None and size > most:
            raise ClocheError(f"the {self.kind}'s section {name!r} has {size} bytes, over {most}")
        body = self._places[name][0]
        if body.nbytes == size:
            return bytes(body)
        try:
            return _inflated(body, size)
        except (ValueError, zlib.error) as error:
            raise ClocheError(f"the {self.kind}'s section {name!r} cannot be read: {error}") from error


def json_bytes(value: Any) -> bytes:
    """A value as JSON, for a section that `json_map` reads."""
    return json.dumps(value, separators=(",", ":")).encode()


def json_map(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object of a stranger's. Its depth and the digits of its numbers are checked first: the parser recurses.

    It takes up to 32 times the text's size in memory.

    Args:
        text: the JSON.
        what: what it is, for the errors.

    Raises:
        ClocheError: the text is no JSON object, is nested more than 8 deep, or has a number of more than 20 digits.
    """
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ClocheError(f"{what} is nested more than {_MAX_DEPTH} deep")
        elif token[0] in (b"]", b"}"):
            depth -= 1
        elif token[0][:1].isdigit():  # int() takes time quadratic in the number of digits
            raise ClocheError(f"{what} cannot be read: a number of {len(token[0])} digits")
    try:
        value = json.loads(text.decode())  # bytes could be UTF-16, in which the digits above are not found
    except (ValueError, RecursionError) as error:
        raise ClocheError(f"{what} cannot be read: {error}") from error
    if type(value) is not dict:
        raise ClocheError(f"{what} is no map")
    return value


def _label(text: str, size: int) -> bytes:
    """A name as its field has it: ASCII, filled up with zeros."""
    label = text.encode()
    if len(label) > size or not _NAME.fullmatch(label):
        raise ValueError(f"the name {text!r} of a container's kind or section: give up to {size} of a-z0-9 ._-")
    return label.ljust(size, b"\0")


def _name(field: bytes, kind: str) -> str:
    label = field.rstrip(b"\0")
    if not _NAME.fullmatch(label):
        raise ClocheError(f"the {kind} has a section whose name is malformed")
    return label.decode("ascii")


def _inflated(data: memoryview, size: int) -> bytes:
    """Decompress exactly `size` bytes, in a buffer that grows in place: `zlib.decompress` needs twice the memory."""
    inflate = zlib.decompressobj()
    if size <= _INPUT:  # at once: most sections are small
        small = inflate.decompress(data, size + 1)
        if len(small) != size or not inflate.eof or inflate.unused_data:
            raise ValueError("it is not of the size that it says")
        return small
    content = io.BytesIO()
    for at in range(0, len(data) + _INPUT, _INPUT):  # the last slice is empty: it drains the decompressor
        part: Any = data[at : at + _INPUT]
        if inflate.eof and part:
            break
        while not inflate.eof and content.tell() <= size:
            content.write(inflate.decompress(part, min(_CHUNK, size + 1 - content.tell())))
            part = inflate.unconsumed_tail
            if not part:
                break
    if content.tell() != size or part or inflate.unused_data or not inflate.eof:
        raise ValueError("it is not of the size that it says")
    return content.getvalue()


def _digest(body: Buffer, key: bytes) -> bytes:
    import hashlib  # slow to import: it loads OpenSSL

    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=key).digest()
