"""`OpenFile`: one file or folder that a node has open in a mount, and the operations on it, within the mount's quota."""

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

__all__ = ["CHANGES", "MAX_DESCRIPTORS", "OpenFile", "key_of"]

CHANGES: Final = Open.WRITE | Open.CREATE | Open.TRUNCATE
"""Flags of `Open` that change the file."""
MAX_DESCRIPTORS: Final = 2
"""Descriptors that one open folder may hold: its own, and while it is listed the copy that `os.scandir` makes."""
_PAGE_ENTRIES: Final = 256
"""Entries of a folder that one LIST returns at most."""
_MAX_SIZE: Final = (1 << 63) - 1
_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FILE_MODE: Final = 0o600


def key_of(status: os.stat_result) -> Key:
    """The identity of a file on this host: device and inode."""
    return status.st_dev, status.st_ino


class OpenFile:
    """A descriptor of the host with the rights that it was opened with. Reads and writes name their position in the file.

    Args:
        fd: descriptor of the host; None for a parent folder of mount points, which exists only in the guest.
        mount_point: the mount that the file lies in; None for a parent folder of mount points.
        kind: FILE or DIRECTORY.
        flags: bits of `Open`, as the guest gave them.
        names: entries of a folder without descriptor.

    Attributes:
        key: identity of the file, see `key_of`; None without a descriptor.
        unlinked: whether the file's last name has been removed through this handler.
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
        """Descriptors of the host that this file holds, or may come to hold."""
        if self.fd is None:
            return 0
        return MAX_DESCRIPTORS if self.kind is Kind.DIRECTORY else 1

    @classmethod
    def create(cls, mount_point: MountPoint, folder: int, name: bytes, flags: int) -> OpenFile:
        """Create a file and open it.

        Args:
            mount_point: the mount that the file will lie in.
            folder: descriptor of the parent folder.
            name: one component.
            flags: bits of `Open`.

        Raises:
            OSError: EDQUOT: the node may create no more files; EEXIST: the name exists, if only as a symbolic link.
        """
        mount_point.quota.check_file()
        fd = os.open(name, _access(flags) | os.O_CREAT | os.O_EXCL | _OPEN, _FILE_MODE, dir_fd=folder)
        opened = cls(fd, mount_point, Kind.FILE, flags)
        mount_point.quota.made(key_of(os.fstat(fd)))
        return opened

    @classmethod
    def existing(cls, mount_point: MountPoint, folder: int, name: bytes, flags: int) -> OpenFile:
        """Open an existing file or folder; the arguments are those of `create`.

        Raises:
            OSError: ELOOP: a symbolic link; EACCES: a device, a pipe or a socket, or a file to be changed that has a second hard
                link, which may lie outside the mount; EISDIR: a folder to be changed; ENOTDIR; ENOENT.
        """
        kind = safe_open.kind_of(safe_open.status_of(folder, name))
        if kind is Kind.DIRECTORY:
            if flags & CHANGES:
                raise refusal(errno.EISDIR)
            return cls(safe_open.open_folder(folder, name), mount_point, kind, flags)
        if kind is not Kind.FILE:  # opening a device can already have an effect (rewind a tape)
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
        """Read at most `count` bytes from position `at`; empty at the end of the file."""
        return os.pread(self._file(Open.READ), count, at)

    def write(self, data: bytes, at: int | None) -> int:
        """Write as many of the bytes as the quota allows.

        Args:
            data: what to write.
            at: position in bytes; None: the end of the file.

        Returns:
            number of bytes written.

        Raises:
            OSError: EDQUOT: the quota allows not a single byte; EFBIG: the position is too large.
        """
        fd, mount_point = self._file(Open.WRITE), self._mount()
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
        """Set the size in bytes: cut the file off, or fill it up with zeros.

        Raises:
            OSError: EDQUOT: the file would grow beyond the quota.
        """
        fd, mount_point = self._file(Open.WRITE | Open.TRUNCATE), self._mount()
        before = os.fstat(fd).st_size
        if size - before > mount_point.quota.room:
            raise refusal(errno.EDQUOT)
        os.ftruncate(fd, size)
        self._charge(before, size)

    def touch(self, changed: int) -> None:
        """Set the time of the last change, in nanoseconds since 1970."""
        if self.fd is None:
            raise refusal(errno.EROFS)
        self._mount().check_writable()
        if self.kind is Kind.FILE and os.fstat(self.fd).st_nlink > 1:
            raise refusal(errno.EACCES)
        os.utime(self.fd, ns=(changed, changed))

    def page(self, again: bool, page_bytes: int) -> list[tuple[bytes, Kind]]:
        """The next entries of a folder, at most _PAGE_ENTRIES; empty after the last one.

        Args:
            again: start from the first entry.
            page_bytes: bytes that the names may take together.
        """
        if self.kind is not Kind.DIRECTORY:
            raise refusal(errno.ENOTDIR)
        if again or self._entries is None:
            self._rewind()
        assert self._entries is not None
        return list(islice(self._entries, min(_PAGE_ENTRIES, max(1, page_bytes // 260))))

    def close(self) -> None:
        """Close the descriptors. Calling it again does nothing."""
        self._entries = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _rewind(self) -> None:
        self._entries = None  # dropping the old generator closes its descriptor
        if self.fd is None:
            self._entries = iter([(name, Kind.DIRECTORY) for name in self._names])
        else:
            os.lseek(self.fd, 0, os.SEEK_SET)
            self._entries = _entries(self.fd)

    def _file(self, flags: int) -> int:
        """The descriptor, if this is a file that was opened with one of these flags."""
        if self.kind is not Kind.FILE or self.fd is None:
            raise refusal(errno.EISDIR)
        if not self._flags & flags:
            raise refusal(errno.EBADF)
        return self.fd

    def _mount(self) -> MountPoint:
        assert self.mount_point is not None  # None only for parent folders of mount points, which are never changed
        return self.mount_point

    def _charge(self, before: int, after: int) -> None:
        """Tell the quota about a change of size, in bytes."""
        assert self.key is not None
        quota = self._mount().quota
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
    except OSError:  # removed since it was listed
        return Kind.OTHER
