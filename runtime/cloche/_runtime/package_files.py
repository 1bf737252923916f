"""`PackageFiles`: the folder of compiled packages in the user's cache. Files are written whole, and checked when they are read.

The code in a file runs in sandboxes only, but in those of every node that is granted the package. So the folder is held to what
holds for native code: it and its files must belong to root or this user, and nobody else may write to them.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from cloche._atomic_file import AtomicFile
from cloche._wasm import ownership

__all__ = ["MOST_BYTES", "PackageFiles"]

MOST_BYTES: Final = 1 << 30
"""Bytes of all files together. When a new one would pass it, those that were not used for the longest time are removed."""
_MOST_OF_ONE: Final = 256 << 20
_MAGIC: Final = b"cloche packages\n"
_DIGEST_BYTES: Final = 32
_SUFFIX: Final = ".tree"
_OWN_NAME: Final = re.compile(r"[\w-]+\.tree|\.[\w.-]+\.[0-9a-f]{16}\.part")
"""Names of the files that are written here, and of their drafts (`AtomicFile`)."""


class PackageFiles:
    """The files of one folder.

    Args:
        folder: the folder, which need not exist.
        most_bytes: bytes of all files together.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self._most_bytes = most_bytes

    @property
    def can_write(self) -> bool:
        """Whether files can be kept here: the folder is trusted, and can be written to. It is made if it is missing."""
        with contextlib.suppress(OSError):
            ownership.make_folder(self.folder)
        return self._is_trusted() and os.access(self.folder, os.W_OK | os.X_OK)

    def _is_trusted(self) -> bool:
        try:
            return ownership.is_own(self.folder.stat()) and not ownership.outsider(self.folder)
        except OSError:
            return False

    def read(self, key: str) -> bytes | None:
        """The content that was kept under a key; None if there is none, or it is damaged or not this user's."""
        path = self._path(key)
        if not self._is_trusted():
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            with open(descriptor, "rb", buffering=0) as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or not ownership.is_own(found) or found.st_size > _MOST_OF_ONE:
                    return None
                data = file.readall()
                with contextlib.suppress(OSError):  # a folder on a file system that is now read-only
                    os.utime(descriptor)  # for `_make_room`, which keeps what is used
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST_BYTES
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : head] != _digest(key, memoryview(data)[head:]):
            return None
        return data[head:]

    def write(self, key: str, content: bytes) -> None:
        """Keep a content under a key, in place of an earlier one.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        if len(content) > _MOST_OF_ONE // 2:
            return
        self._make_room(len(content))
        with AtomicFile(self._path(key), mode=0o644) as file:  # for other users as well, if the umask says so
            file.write(_MAGIC + _digest(key, memoryview(content)))
            file.write(content)

    def forget(self, key: str) -> None:
        """Remove what is kept under a key, if there is something."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, size: int) -> None:
        """Remove the files and drafts that were not used for the longest time, until there is room for `size` bytes."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not _OWN_NAME.fullmatch(entry.name):  # the folder may have been made for something else
                    continue
                with contextlib.suppress(OSError):  # another process has removed it
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, bytes_freed, path in sorted(found):
            if total + size <= self._most_bytes:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink()
                total -= bytes_freed


def _digest(key: str, content: memoryview) -> bytes:
    """Digest of a content and its key: a file that was given another's name is not taken for it."""
    import hashlib  # slow to import: it loads OpenSSL

    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return digest.digest()
