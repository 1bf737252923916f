"""One file or folder that a node has open in a mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from cloche._files import safe_open
from cloche._files.quota import Key, refusal
from cloche_wire.files import Kind, Open

if TYPE_CHECKING:
    from cloche._files.mount_table import MountPoint

__all__ = ["CHANGES", "MOST_FOR_ONE", "OpenFile", "key_of"]

CHANGES: Final = Open.WRITE | Open.CREATE | Open.TRUNCATE
MOST_FOR_ONE: Final = 2
"""Descriptors of a folder that is being listed: its own, and a copy that keeps the place in it."""
_PAGE_ENTRIES: Final = 256
_MAX_SIZE: Final = (1 << 63) - 1
_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FILE_MODE: Final = 0o600


def key_of(status: os.stat_result) -> Key:
    """What tells the file from all others on this host."""
    return status.st_dev, status.st_ino


class OpenFile:
    """A descriptor of the host, and what may be done with it. It reads and writes at positions that the guest names.

    Args:
        fd: the descriptor; None: a folder that exists in the guest alone.
        mount_point: the mount that it lies in.
        kind: file or folder.
        flags: how it was opened.
        names: what is in it, for a folder without descriptor.

    Attributes:
        key: see `key_of`; None without a descriptor.
        unlinked: whether its last name has gone.
    """

    __slots__ = ("_entries", "_flags", "_names", "fd", "key", "kind", "mount_point", "unlinked")

    def __init__(
        self, fd: int | None, mount_point: MountPoint | None, kind: Kind, flags: int, names: list[bytes] | None = None
    ) -> None:
        self.fd = fd
        self.mount_point = mount_point
        self.kind = kind
        self.key = None if fd is None else key_of(os.fstat(fd))
        self.unlinked = False
        self._flags = flags
        self._names = names or []
        self._entries: Iterator[tuple[bytes, Kind]] | None = None

    @property
    def descriptors(self) -> int:
        """How many of the host's it holds, or may come to hold."""
        if self.fd is None:
            return 0
        return MOST_FOR_ONE if self.kind is Kind.DIRECTORY else 1

    @classmethod
    def create(cls, mount_point: MountPoint, folder: int, name: bytes, flags: int) -> OpenFile:
        """Make a file and open it.

        Raises:
            OSError: EDQUOT, or EEXIST: there is something of that name, also a link.
        """
        mount_point.quota.check_file()
        fd = os.open(name, _access(flags) | os.O_CREAT | os.O_EXCL | _OPEN, _FILE_MODE, dir_fd=folder)
        opened = cls(fd, mount_point, Kind.FILE, flags)
        mount_point.quota.made(key_of(os.fstat(fd)))
        return opened

    @classmethod
    def existing(cls, mount_point: MountPoint, folder: int, name: bytes, flags: int) -> OpenFile:
        """Open a file or folder that is there.

        Raises:
            OSError: ELOOP for a link, EACCES for a device, a pipe, a socket, and for changing a file that has another name as
                well, perhaps outside of the mount; EISDIR, ENOTDIR.
        """
        kind = safe_open.kind_of(safe_open.look(folder, name))
        if kind is Kind.DIRECTORY:
            if flags & CHANGES:
                raise refusal(errno.EISDIR)
            return cls(safe_open.open_folder(folder, name), mount_point, kind, flags)
        if kind is not Kind.FILE:  # it is not opened even to be looked at: that may rewind a tape
            raise refusal(errno.ELOOP if kind is Kind.SYMLINK else errno.EACCES)
        if flags & Open.DIRECTORY:
            raise refusal(errno.ENOTDIR)
        fd = os.open(name, _access(flags) | _OPEN, dir_fd=folder)
        try:
            status = os.fstat(fd)
            if safe_open.kind_of(status) is not Kind.FILE or (flags & CHANGES and status.st_nlink > 1):
                raise refusal(errno.EACCES)
            opened = cls(fd, mount_point, kind, flags)
            if flags & Open.TRUNCATE:
                opened.resize(0)
        except OSError:
            os.close(fd)
            raise
        return opened

    def read(self, at: int, count: int) -> bytes:
        """At most `count` bytes from a position on; none at the end."""
        return os.pread(self._file(Open.READ), count, at)

    def write(self, data: bytes, at: int | None) -> int:
        """Write at a position, or with None at the end; how many bytes the quota let through.

        Raises:
            OSError: EDQUOT: not one.
        """
        fd, mount_point = self._file(Open.WRITE), self._changed()
        size = os.fstat(fd).st_size
        at = size if at is None else at
        if at + len(data) > _MAX_SIZE:
            raise refusal(errno.EFBIG)
        excess = max(size, at + len(data)) - size - mount_point.quota.room
        if excess > 0:
            data = data[: max(0, len(data) - excess)]
            if not data:
                raise refusal(errno.EDQUOT)
        count = os.pwrite(fd, data, at) if data else 0
        self._charge(size, max(size, at + count) if count else size)
        return count

    def resize(self, size: int) -> None:
        """Cut off, or fill up with zeros.

        Raises:
            OSError: EDQUOT.
        """
        fd, mount_point = self._file(Open.WRITE | Open.TRUNCATE), self._changed()
        before = os.fstat(fd).st_size
        if size - before > mount_point.quota.room:
            raise refusal(errno.EDQUOT)
        os.ftruncate(fd, size)
        self._charge(before, size)

    def touch(self, changed: int) -> None:
        """Set the time of change, in nanoseconds since 1970."""
        if self.fd is None:
            raise refusal(errno.EROFS)
        self._changed().check_writable()
        if self.kind is Kind.FILE and os.fstat(self.fd).st_nlink > 1:
            raise refusal(errno.EACCES)
        os.utime(self.fd, ns=(changed, changed))

    def page(self, again: bool, page_bytes: int) -> list[tuple[bytes, Kind]]:
        """The next entries of a folder, a few hundred at most; none: that was all.

        Args:
            again: begin with the first one.
            page_bytes: what their names may take.
        """
        if self.kind is not Kind.DIRECTORY:
            raise refusal(errno.ENOTDIR)
        if again or self._entries is None:
            self._rewind()
        assert self._entries is not None
        return list(islice(self._entries, min(_PAGE_ENTRIES, max(1, page_bytes // 260))))

    def close(self) -> None:
        """Give the descriptors back."""
        self._entries = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _rewind(self) -> None:
        self._entries = None  # a generator: it closes its own descriptor
        if self.fd is None:
            self._entries = iter([(name, Kind.DIRECTORY) for name in self._names])
        else:
            os.lseek(self.fd, 0, os.SEEK_SET)
            self._entries = _entries(self.fd)

    def _file(self, flags: int) -> int:
        if self.kind is not Kind.FILE or self.fd is None:
            raise refusal(errno.EISDIR)
        if not self._flags & flags:
            raise refusal(errno.EBADF)
        return self.fd

    def _changed(self) -> MountPoint:
        assert self.mount_point is not None  # only folders have none
        return self.mount_point

    def _charge(self, before: int, after: int) -> None:
        assert self.key is not None
        quota = self._changed().quota
        if after > before:
            quota.grown(self.key, after - before)
        else:
            quota.shrunk(self.key, before - after)


def _access(flags: int) -> int:
    if not flags & (Open.WRITE | Open.TRUNCATE):
        return os.O_RDONLY
    return os.O_RDWR if flags & Open.READ else os.O_WRONLY


def _entries(fd: int) -> Iterator[tuple[bytes, Kind]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            yield os.fsencode(entry.name), _kind(entry)


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_symlink():
            return Kind.SYMLINK
        if entry.is_dir(follow_symlinks=False):
            return Kind.DIRECTORY
        return Kind.FILE if entry.is_file(follow_symlinks=False) else Kind.OTHER
    except OSError:  # it has gone meanwhile
        return Kind.OTHER
