"""Files of AOT artifacts: written whole or not at all, checked before use, shared by processes.

The file of an artifact is the native code that the engine serialized, followed by a trailer with the code's length and checksum.
The engine reads the file as an ELF image, whose header names every part, and so it ignores the trailer. The checksum finds damage
(a power cut, a failing disk, a copy that was broken off). It is no defence against an attacker: `open_folder` keeps attackers out
of the folder.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloche._atomic_file import AtomicFile
from cloche._wasm import ownership
from cloche._wasm.core import core
from cloche.errors import ImageError

__all__ = ["DRAFT_S", "checksum", "intact", "keep", "locked", "open_folder"]

_MAGIC: Final = b"cloche artifact\n"
_TRAILER: Final = struct.Struct("<16sQQ")  # magic, bytes before the trailer, checksum over them
DRAFT_S: Final = 3600.0
"""Seconds after which a draft is taken for one that was left behind. Writing one takes less than a second."""
_CHUNK_BYTES: Final = 256 << 10
"""A chunk of this size stays in the cache of the processor between being copied and being summed up."""


def checksum(buffer: bytes | bytearray | memoryview) -> int:
    """64-bit checksum of a contiguous buffer. No other function of the host knows the algorithm."""
    data = buffer if isinstance(buffer, bytes) else (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return int(core().checksum(data, len(buffer)))


def open_folder(folder: Path) -> None:
    """Make the folder of artifacts if it is missing, and refuse a folder into which another user could put code.

    Root is trusted, as for all of the program's other files: so a container image can bring the folder.

    Args:
        folder: the folder's path.

    Raises:
        ImageError: the folder belongs to another user than root and this one, or others can write into it.
        OSError: the folder is missing and cannot be made; or somebody else could put another folder in its place.
    """
    ownership.make_folder(folder)
    if not ownership.is_own(folder.stat()):
        raise ImageError(
            f"{folder} holds native code, but belongs to or can be written by another user: "
            f"chown and chmod 755 it, or set CLOCHE_CACHE to a folder of your own"
        )
    if why := ownership.outsider(folder):
        raise PermissionError(f"{folder} is not trusted: {why}")


def intact(path: Path) -> bool:
    """Whether an artifact's file is undamaged: its trailer fits the bytes before it.

    Args:
        path: the artifact's file.

    Raises:
        OSError: the file is missing or cannot be read, or another user than root and this one could have written it.
    """
    with path.open("rb", buffering=0) as file:
        if not ownership.is_own(os.fstat(file.fileno())):
            raise PermissionError("it belongs to or can be written by another user")
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
    ownership.make_folder(path.parent)
    body = memoryview(code).cast("B")
    chunks = (memoryview(bytearray(body[at : at + _CHUNK_BYTES])) for at in range(0, len(body), _CHUNK_BYTES))
    trailer = _TRAILER.pack(_MAGIC, len(body), _checksum_of_chunks(chunks))
    with AtomicFile(path, mode=0o644) as file:  # for other users as well: root fills the cache of a container
        file.write(body)
        file.write(trailer)


@contextmanager
def locked(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an artifact's lock in a ``with`` block, so that one process compiles the image and the others wait for its artifact.

    Where locking fails (the folder is read-only, the file system has no locks) the block runs without the lock: each process then
    compiles for itself, which costs time and harms nothing.

    Args:
        path: the artifact's file; the lock's file lies beside it.
        waits: called if another process has the lock, before it is waited for.
    """
    import filelock  # slow to import

    # no other user can open it, and so hold it
    lock = filelock.FileLock(path.with_suffix(".lock"), mode=0o600)
    held = False
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            waits()
            lock.acquire()
        held = True
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        if held:
            lock.release()


def _remove_old_drafts(folder: Path) -> None:
    """Remove the drafts of processes that ended while they wrote them: those that nobody has written to for an hour."""
    for draft in folder.glob(".*.part"):
        try:
            if time.time() - draft.lstat().st_mtime > DRAFT_S:
                draft.unlink()
        except OSError:
            continue


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
