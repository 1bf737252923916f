"""Numbers in the file requests of `Ask`: flags of OPEN, kinds of files, errnos. Kinds and errnos are those of WASI (preview 1)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Open(IntEnum):
    """Flags of OPEN, combined by OR."""

    READ = 1
    WRITE = 2
    CREATE = 4
    EXCLUSIVE = 8
    TRUNCATE = 16
    DIRECTORY = 32


class Kind(IntEnum):
    """Kinds of files. A symbolic link is listed but never followed; OTHER (a device, pipe or socket) cannot be opened."""

    OTHER = 0
    DIRECTORY = 3
    FILE = 4
    SYMLINK = 7


NAME_BYTES: Final = 255
"""Maximum length of one component of a path."""
PATH_BYTES: Final = 4096
"""Maximum length of a path."""
CHUNK_BYTES: Final = 1 << 20
"""Bytes that one READ or WRITE moves at most."""

SCRATCH_BYTES: Final = 8 << 20
"""The size of a node's own /tmp, unless it is granted another."""

ERRNOS: Final = {
    "EACCES": 2,
    "EBADF": 8,
    "EBUSY": 10,
    "EDQUOT": 19,
    "EEXIST": 20,
    "EFBIG": 22,
    "EINVAL": 28,
    "EIO": 29,
    "EISDIR": 31,
    "ELOOP": 32,
    "EMFILE": 33,
    "ENAMETOOLONG": 37,
    "ENOENT": 44,
    "ENOMEM": 48,
    "ENOSPC": 51,
    "ENOTDIR": 54,
    "ENOTEMPTY": 55,
    "ENOTSUP": 58,
    "EPERM": 63,
    "EROFS": 69,
    "ESPIPE": 70,
    "ETXTBSY": 74,
    "EXDEV": 75,
}
"""Name in Python's `errno` -> WASI's number, with which a file request fails. Any other error of the host becomes EIO."""
