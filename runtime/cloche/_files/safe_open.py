"""Resolves guest paths below a mounted folder so that none leads out of it. No other module opens a path that a guest has named.

`components` splits a path and refuses what cannot be a component: "..", ".", empty parts, NUL. Then each component is opened
relative to the descriptor of the folder before it (openat(2)), without following symbolic links (O_NOFOLLOW). A descriptor keeps
referring to the same folder, so concurrent renames cannot redirect the walk.
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

__all__ = ["components", "kind_of", "open_folder", "open_root", "parent", "status_of"]

# O_PATH: a descriptor from which paths can be resolved, without the right to read or list the folder
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: bytes) -> tuple[bytes, ...]:
    """Split a path into its components; empty for the mount point itself.

    Args:
        path: without a leading slash.

    Raises:
        OSError: EINVAL: a component is empty, ".", "..", or contains NUL; ENAMETOOLONG: the path or a component is too long.
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
    """Open a mount's folder as a starting point for paths. Its path comes from the host, so symbolic links in it are followed.

    Raises:
        OSError: the folder does not exist, or is not a folder.
    """
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def parent(mount_point: int, parts: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Open the parent folder of a path, for the length of a ``with`` block.

    Args:
        mount_point: descriptor of the mounted folder.
        parts: components of the path below the mounted folder; at least one.

    Yields:
        descriptor of the parent folder, and the last component.

    Raises:
        OSError: a folder of the path is missing (ENOENT), not a folder (ENOTDIR) or a symbolic link (ELOOP).
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
        if kind_of(status_of(folder, name)) is Kind.SYMLINK:
            raise refusal(errno.ELOOP) from None
        raise


def status_of(folder: int, name: bytes) -> os.stat_result:
    """The status of a name in a folder; of a symbolic link itself, not of its target."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def open_folder(folder: int, name: bytes = b".") -> int:
    """Open a folder for listing.

    Args:
        folder: descriptor of the parent folder.
        name: one component; ".": the parent folder itself.

    Raises:
        OSError: ENOTDIR: not a folder, or a symbolic link.
    """
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def kind_of(status: os.stat_result) -> Kind:
    """The kind of a file, as the guest sees it: devices, pipes and sockets are all OTHER."""
    if stat.S_ISREG(status.st_mode):
        return Kind.FILE
    if stat.S_ISDIR(status.st_mode):
        return Kind.DIRECTORY
    return Kind.SYMLINK if stat.S_ISLNK(status.st_mode) else Kind.OTHER
