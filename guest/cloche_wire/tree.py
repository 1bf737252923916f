"""Trees: the files of a package or folder in one block of bytes, which the guest shows as a read-only file system.

A block is a head, one entry for each file and folder in the order of their paths, the paths, and the contents::

    head     magic (16 bytes), number of entries, number of bytes of the whole block
    entry    path: offset, length; content: offset, length; size of the file, CRC-32 of the file or 0, how the content is stored
    path     UTF-8, relative, its components joined by "/"

All numbers are of 32 bits, little-endian; offsets count from the start of the block. wasm/shim/treefs.c reads the same layout.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = [
    "DEFLATED",
    "FOLDER",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "STORED",
    "File",
    "deflated",
    "files",
    "is_tree",
    "modules",
    "pack",
]

STORED: Final = 0
DEFLATED: Final = 1
FOLDER: Final = 2
"""How the content of an entry is stored: as it is, as a raw DEFLATE stream (RFC 1951); a folder has no content."""

MAX_ENTRIES: Final = 1 << 16
MAX_BYTES: Final = 1 << 30
"""Files and folders, and bytes, of one tree."""
PATH_BYTES: Final = 3000
"""Length of a path in a tree: with the tree's own place before it, a path stays below `files.PATH_BYTES`."""
NAME_BYTES: Final = 255
"""Length of one component of a path, as in `files`."""

MAGIC: Final = b"cloche tree 001\n"
_HEAD: Final = struct.Struct("<16sII")
_ENTRY: Final = struct.Struct("<IIIIIII")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree.

    Attributes:
        data: the content as it is stored.
        size: bytes of the file.
        stored: STORED or DEFLATED.
        check: CRC-32 of the file, which is compared when the file is opened; 0: nothing is compared.
    """

    data: bytes | memoryview
    size: int
    stored: int = STORED
    check: int = 0

    def content(self) -> bytes:
        """The file's content.

        Raises:
            ValueError: it is damaged, or has not the size that it should have.
        """
        if self.stored == STORED:
            content = bytes(self.data)
        else:
            inflate = zlib.decompressobj(-15)
            try:
                content = inflate.decompress(self.data, self.size + 1)
            except zlib.error as error:
                raise ValueError(f"the compressed file is damaged: {error}") from None
        if len(content) != self.size or (self.check and zlib.crc32(content) != self.check):
            raise ValueError("the file is damaged")
        return content


def deflated(content: bytes) -> File:
    """A file whose content is compressed, quickly rather than well."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = deflate.compress(content) + deflate.flush()
    return File(data, len(content), DEFLATED) if len(data) < len(content) else File(content, len(content))


def is_tree(block: bytes) -> bool:
    """Whether the bytes begin like a tree's."""
    return block[: len(MAGIC)] == MAGIC


def pack(found: Mapping[str, File]) -> bytes:
    """The block of a tree. Its folders are those that the paths name.

    Args:
        found: path -> file.

    Raises:
        ValueError: a path is no plain relative path, leads through a file, or is too long; or there are too many files or bytes.
    """
    paths = {_encoded(path): file for path, file in found.items()}
    folders: set[bytes] = set()
    for path in paths:
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in folders:
                break
            if path in paths:
                raise ValueError(f"{path.decode(errors='replace')!r} is a file and a folder")
            folders.add(path)
    names = sorted([*paths, *folders])
    if len(names) > MAX_ENTRIES:
        raise ValueError(f"{len(names)} files and folders, {MAX_ENTRIES} at most")
    at = _HEAD.size + _ENTRY.size * len(names)
    content_at = at + sum(map(len, names))
    entries, contents = [], []
    for name in names:
        file = paths.get(name)
        if file is None:
            entries.append(_ENTRY.pack(at, len(name), 0, 0, 0, 0, FOLDER))
        else:
            length = len(file.data)
            if content_at + length > MAX_BYTES or file.size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            entries.append(_ENTRY.pack(at, len(name), content_at, length, file.size, file.check, file.stored))
            contents.append(file.data)
            content_at += length
        at += len(name)
    return b"".join([_HEAD.pack(MAGIC, len(names), content_at), *entries, *names, *contents])


def files(block: bytes) -> dict[str, File]:
    """The files of a tree by their paths. Contents are views of the block.

    Raises:
        ValueError: the block is not one that `pack` has made.
    """
    try:
        magic, count, size = _HEAD.unpack_from(block)
        if magic != MAGIC or size != len(block) or count > MAX_ENTRIES:
            raise ValueError("the bytes are no tree")
        found, view = {}, memoryview(block)
        for index in range(count):
            entry = _ENTRY.unpack_from(block, _HEAD.size + index * _ENTRY.size)
            at, length, content_at, packed, file_size, check, stored = entry
            if stored != FOLDER:
                path = bytes(view[at : at + length]).decode("utf-8", "surrogateescape")
                _encoded(path)
                found[path] = File(view[content_at : content_at + packed], file_size, stored, check)
    except struct.error as error:
        raise ValueError(f"the bytes are no tree: {error}") from None
    return found


def modules(paths: Iterable[str]) -> dict[str, str]:
    """The modules among files: full name -> path of the source. As in Python, a package comes before a module of the same name.

    Args:
        paths: paths of files, relative to a folder of `sys.path`.
    """
    found: dict[str, str] = {}
    for path in paths:
        stem = path.removesuffix(".py")
        name = stem.removesuffix("/__init__")
        if stem is path or "." in name:  # no source, or a name that no import statement can mean
            continue
        module = name.replace("/", ".")
        if name is not stem or module not in found:
            found[module] = path
    return found


def _encoded(path: str) -> bytes:
    encoded = path.encode("utf-8", "surrogateescape")
    parts = encoded.split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise ValueError(f"{path!r} is no plain relative path")
    if len(encoded) > PATH_BYTES or max(map(len, parts)) > NAME_BYTES:
        raise ValueError(f"the path {path[:80]!r}... is too long")
    return encoded
