"""Numbers of the file operations of `Ask`: flags of OPEN, kinds of files, errors. WASI's (preview 1), where it has them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Open(IntEnum):
    """How OPEN opens: bits."""

    READ = 1
    WRITE = 2
    CREATE = 4
    EXCLUSIVE = 8
    TRUNCATE = 16
    DIRECTORY = 32


class Kind(IntEnum):
    """What a path leads to. A symbolic link is shown, and never followed; what else is there cannot be opened."""

    OTHER = 0
    DIRECTORY = 3
    FILE = 4
    SYMLINK = 7


NAME_BYTES: Final = 255
PATH_BYTES: Final = 4096
CHUNK_BYTES: Final = 1 << 20
"""What one READ or WRITE moves at most."""

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
"""What a refused operation answers, by the name that `errno` has for it; everything else is EIO."""
