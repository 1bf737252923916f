"""Files of compiled code: written whole or not at all, checked before use, shared by processes.

An artifact is what the engine serialized, then a trailer with its length and a checksum. The engine reads the file as an
ELF image, whose header names every part, so it never looks at the trailer. The checksum finds damage (a power cut, a
failing disk, a copy that broke off); it is no defence against an attacker, who has to be kept out of the folder.
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

from cloche._wasm.core import core
from cloche.atomic_file import AtomicFile
from cloche.errors import ImageError

__all__ = ["checksum", "intact", "keep", "locked", "open_folder"]

_MAGIC: Final = b"cloche artifact\n"
_TRAILER: Final = struct.Struct("<16sQQ")  # magic, bytes before the trailer, checksum over them
_CHUNK_BYTES: Final = 256 << 10  # stays in the processor's cache between the copy and the checksum


def checksum(buffer: bytes | bytearray | memoryview) -> int:
    """Checksum of at most 64 bits over some bytes. The only function that knows the algorithm."""
    data = buffer if isinstance(buffer, bytes) else (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return int(core().checksum(data, len(buffer)))


def open_folder(folder: Path) -> None:
    """Make the folder; refuse it if others could plant code there.

    Raises:
        ImageError: it belongs to another user, or others can write into it.
        OSError: it is not there and cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ImageError(
            f"{folder} holds native code, but belongs to or can be written by another user: "
            f"chown and chmod 700 it, or set CLOCHE_CACHE to a folder of your own"
        )


def intact(path: Path) -> bool:
    """Whether the whole file is as it was written.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size - _TRAILER.size
        if length < 0:
            return False
        # read, not mapped: a sector that cannot be read is an OSError here, and would be a SIGBUS in a mapping
        total = _checksum_of_chunks(_chunks(file.fileno(), length))
        return file.read(_TRAILER.size) == _TRAILER.pack(_MAGIC, length, total)


def keep(path: Path, code: bytes | bytearray) -> None:
    """Put an artifact into its folder. After a crash at any moment the file is whole, or not there.

    Raises:
        OSError: there is no room, or the folder cannot be written; nothing is left behind.
    """
    _sweep(path.parent)
    body = memoryview(code).cast("B")
    chunks = (memoryview(bytearray(body[at : at + _CHUNK_BYTES])) for at in range(0, len(body), _CHUNK_BYTES))
    trailer = _TRAILER.pack(_MAGIC, len(body), _checksum_of_chunks(chunks))
    with AtomicFile(path, mode=0o600) as file:
        _lock(file.fileno(), fcntl.LOCK_EX)  # says that the draft is being written: see _sweep
        file.write(body)
        file.write(trailer)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an artifact, so that one process compiles and the others wait for it.

    Without a lock (a folder that cannot be written, a file system that has none) each process compiles for itself, which
    costs time and harms nothing.
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
            if held:  # closing is not enough: a child forked meanwhile has the descriptor as well
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    """Lock an open file; False if another holds it, or the file system has no locks."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the drafts of processes that ended before they had written them. A draft that is locked is being written."""
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
    """The next `length` bytes of a file, in the chunks that `keep` has taken the checksum of."""
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
    """One checksum for all chunks: that over the chunks' own checksums."""
    return checksum(b"".join(checksum(chunk).to_bytes(8, "little") for chunk in chunks))
