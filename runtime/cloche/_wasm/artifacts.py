"""Files of AOT artifacts: written whole or not at all, checked before use, shared by processes.

The file of an artifact is the native code that the engine serialized, followed by a trailer with the code's length and checksum.
The engine reads the file as an ELF image, whose header names every part, and so it ignores the trailer. The checksum finds damage
(a power cut, a failing disk, a copy that was broken off). It is no defence against an attacker: `open_folder` keeps attackers out
of the folder.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloche._atomic_file import AtomicFile
from cloche._wasm.core import core
from cloche.errors import ImageError

__all__ = ["checksum", "intact", "keep", "locked", "open_folder"]

_MAGIC: Final = b"cloche artifact\n"
_TRAILER: Final = struct.Struct("<16sQQ")  # magic, bytes before the trailer, checksum over them
_CHUNK_BYTES: Final = 256 << 10
"""A chunk of this size stays in the cache of the processor between being copied and being summed up."""


def checksum(buffer: bytes | bytearray | memoryview) -> int:
    """64-bit checksum of a contiguous buffer. No other function of the host knows the algorithm."""
    data = buffer if isinstance(buffer, bytes) else (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return int(core().checksum(data, len(buffer)))


def open_folder(folder: Path) -> None:
    """Make the folder of artifacts if it is missing, and refuse a folder into which another user could put code.

    Args:
        folder: the folder's path.

    Raises:
        ImageError: the folder belongs to another user, or others can write into it.
        OSError: the folder is missing and cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ImageError(
            f"{folder} holds native code, but belongs to or can be written by another user: "
            f"chown and chmod 700 it, or set CLOCHE_CACHE to a folder of your own"
        )


def intact(path: Path) -> bool:
    """Whether an artifact's file is undamaged: its trailer fits the bytes before it.

    Args:
        path: the artifact's file.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size - _TRAILER.size
        if length < 0:
            return False
        # read, not mapped: a bad sector raises an OSError here, and would end the process by SIGBUS in a mapping
        total = _checksum_of_chunks(_chunks(file.fileno(), length))
        return file.read(_TRAILER.size) == _TRAILER.pack(_MAGIC, length, total)


def keep(path: Path, code: bytes | bytearray) -> None:
    """Write an artifact's file. After a crash at any moment the file is whole or missing.

    Args:
        path: the artifact's file; its folder exists.
        code: the native code that the engine serialized.

    Raises:
        OSError: the disk is full, or the folder cannot be written to. No part of the file is left behind.
    """
    _remove_old_drafts(path.parent)
    body = memoryview(code).cast("B")
    chunks = (memoryview(bytearray(body[at : at + _CHUNK_BYTES])) for at in range(0, len(body), _CHUNK_BYTES))
    trailer = _TRAILER.pack(_MAGIC, len(body), _checksum_of_chunks(chunks))
    with AtomicFile(path, mode=0o600) as file:
        # without the lock `_remove_old_drafts` of another process removes this draft
        _lock(file.fileno(), fcntl.LOCK_EX)
        file.write(body)
        file.write(trailer)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an artifact's lock in a ``with`` block, so that one process compiles the image and the others wait for its artifact.

    Where locking fails (the folder is read-only, the file system has no locks) the block runs without the lock: each process then
    compiles for itself, which costs time and harms nothing.

    Args:
        path: the artifact's file; the lock's file lies beside it.
    """
    try:
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        held = _lock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # closing alone would not unlock it: a child process that was forked meanwhile has the descriptor, too
            if held:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    """Lock an open file; False if another process holds the lock, or the file system has no locks.

    Args:
        descriptor: the open file.
        operation: flags of `fcntl.flock`.
    """
    try:
        fcntl.flock(descriptor, operation)
    except OSError:
        return False
    return True


def _remove_old_drafts(folder: Path) -> None:
    """Remove the drafts of processes that ended while they wrote them. A locked draft is still being written, and stays."""
    for draft in folder.glob("*.part"):
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                draft.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _chunks(descriptor: int, length: int) -> Iterator[memoryview]:
    """Read the next `length` bytes of a file in chunks of `_CHUNK_BYTES`, as `keep` cuts them. A chunk is valid until the next one.

    Raises:
        OSError: the file cannot be read, or ends too early.
    """
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while length > 0:
        chunk = buffer[: min(length, _CHUNK_BYTES)]
        filled = 0
        while filled < len(chunk):
            count = os.readv(descriptor, [chunk[filled:]])
            if not count:
                raise OSError(errno.EIO, "the file became shorter while it was read")
            filled += count
        yield chunk
        length -= len(chunk)


def _checksum_of_chunks(chunks: Iterator[memoryview]) -> int:
    """One checksum for all chunks: the checksum of their checksums."""
    return checksum(b"".join(checksum(chunk).to_bytes(8, "little") for chunk in chunks))
