"""Names below a folder, resolved so that nothing leads out of it. No other module opens a path that a guest has named.

Each component is opened relative to the descriptor of the folder before it, and no symbolic link is followed (openat(2),
O_NOFOLLOW), so it does not matter who renames what meanwhile: a descriptor stays what it is. "..", which would lead out, is
refused before. What cannot be a component is refused here, whatever the guest has done to its path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cloche._files.quota import refusal
from cloche_wire.files import NAME_BYTES, PATH_BYTES, Kind

__all__ = ["components", "kind_of", "look", "open_folder", "open_root", "parent"]

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: bytes) -> tuple[bytes, ...]:
    """The parts of a path without a leading slash; none for the mount itself.

    Raises:
        OSError: ENOENT, EINVAL or ENAMETOOLONG: a part is empty, ".", "..", or has a NUL, or it is all too long.
    """
    if not path:
        return ()
    if len(path) > PATH_BYTES:
        raise refusal(errno.ENAMETOOLONG)
    parts = tuple(path.split(b"/"))
    for part in parts:
        if part in (b"", b".", b"..") or b"\0" in part:
            raise refusal(errno.EINVAL)
        if len(part) > NAME_BYTES:
            raise refusal(errno.ENAMETOOLONG)
    return parts


def open_root(path: str | os.PathLike[str]) -> int:
    """A descriptor of a mount's folder, for steps only. This path is the host's own: it may lead over links.

    Raises:
        OSError: there is no such folder.
    """
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def parent(mount_point: int, parts: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """The folder that the last of `parts` is in, as a descriptor for the length of the block, and that part.

    Raises:
        OSError: a folder on the way is missing (ENOENT), none (ENOTDIR) or a symbolic link (ELOOP).
    """
    *way, name = parts
    folder = mount_point
    try:
        for part in way:
            inner = _step(folder, part)
            if folder != mount_point:
                os.close(folder)
            folder = inner
        yield folder, name
    finally:
        if folder != mount_point:
            os.close(folder)


def _step(folder: int, name: bytes) -> int:
    try:
        return os.open(name, _STEP, dir_fd=folder)
    except NotADirectoryError:
        if kind_of(look(folder, name)) is Kind.SYMLINK:
            raise refusal(errno.ELOOP) from None
        raise


def look(folder: int, name: bytes) -> os.stat_result:
    """What is there, without following it."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def open_folder(folder: int, name: bytes = b".") -> int:
    """A descriptor of a folder, to be listed.

    Raises:
        OSError: it is none any more (ENOTDIR), also if it has become a link.
    """
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def kind_of(status: os.stat_result) -> Kind:
    """What a file is, as the guest may know it."""
    if stat.S_ISREG(status.st_mode):
        return Kind.FILE
    if stat.S_ISDIR(status.st_mode):
        return Kind.DIRECTORY
    return Kind.SYMLINK if stat.S_ISLNK(status.st_mode) else Kind.OTHER
