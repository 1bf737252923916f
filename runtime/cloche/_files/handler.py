"""The handler for files: what a node asks of the folders that `Grants.mounts` gives it. One `FileHandler` per instance.

The guest names absolute paths, and numbers for what it has open; which file of the host that is, is found out here, each time
anew (`mount_table`, `safe_open`). An answer has numbers, names and contents, and never a path, an inode or a text of the host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloche._files import safe_open
from cloche._files.descriptor_shares import Account, account
from cloche._files.mount_table import MountPoint, MountTable
from cloche._files.open_file import CHANGES, MOST_FOR_ONE, OpenFile, key_of
from cloche._files.quota import refusal
from cloche._requests.router import Answer, RequestRefused
from cloche_wire import Ask
from cloche_wire.files import CHUNK_BYTES, ERRNOS, Kind, Open

if TYPE_CHECKING:
    from cloche.errors import EncodeError
    from cloche.limits import Limits
    from cloche.mounts import Mount

__all__ = ["MAX_OPEN", "FileHandler"]

MAX_OPEN: Final = 64
"""Files and folders of the host that one node may have open."""

_NUMBERS: Final = {getattr(errno, name): number for name, number in ERRNOS.items()}
_MAX_NUMBER: Final = (1 << 63) - 1
_TRIES: Final = 3
"""Openings of a file that somebody else makes and removes meanwhile."""


class FileHandler:
    """Answers the file operations of `cloche_wire.Ask`.

    Args:
        mounts: path in the node -> folder of the host.
        limits: `request_bytes` bounds an answer.
        descriptors: what the nodes of this process share.

    Raises:
        OSError: a folder does not exist, or is none.
        ClocheError: nodes hold too many descriptors already.
    """

    def __init__(self, mounts: Mapping[str, Mount], limits: Limits, descriptors: Account = account) -> None:
        self.answers: Mapping[int, Answer] = {int(ask): partial(self._answer, ask) for ask in _OPERATIONS}
        self._chunk = min(CHUNK_BYTES, limits.request_bytes - 64)
        self._page = min(CHUNK_BYTES // 16, limits.request_bytes // 2)
        self._opened: dict[int, OpenFile] = {}
        # numbers that a snapshot remembers from an earlier life mean nothing in this one
        self._last = int.from_bytes(os.urandom(5), "little") << 8
        self._descriptors = descriptors
        self._share = descriptors.open(len(mounts))
        try:
            self._mount_points = MountTable(mounts)
        except BaseException:
            self._share.used = 0
            raise

    def on_encode_error(self, operands: list[Any], error: EncodeError) -> int:
        """A name that is longer than an answer may be."""
        return ERRNOS["ENAMETOOLONG"]

    def close(self) -> None:
        """The instance is closed: so is all that it had open."""
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()
        self._mount_points.close()
        self._share.used = 0

    def _answer(self, ask: Ask, operands: list[Any]) -> Any:
        operation, shapes = _OPERATIONS[ask]
        try:
            if not _fit(operands, shapes):
                raise refusal(errno.EINVAL)
            return operation(self, *operands)
        except OSError as error:
            raise RequestRefused(_NUMBERS.get(error.errno or 0, ERRNOS["EIO"])) from None

    def _at(self, handle: int) -> OpenFile:
        opened = self._opened.get(handle)
        if opened is None:
            raise refusal(errno.EBADF)
        return opened

    def _open(self, path: bytes, flags: int) -> list[int]:
        if len(self._opened) >= MAX_OPEN:
            raise refusal(errno.EMFILE)
        self._descriptors.check(self._share, MOST_FOR_ONE)
        try:
            mount_point, parts = self._mount_points.find(path)
        except FileNotFoundError:
            if flags & Open.CREATE:
                self._mount_points.inside(path)
            raise
        if mount_point is not None and parts:
            opened = self._open_in(mount_point, parts, flags)
        elif flags & CHANGES:
            raise refusal(errno.EISDIR)
        elif mount_point is None:
            opened = OpenFile(None, None, Kind.DIRECTORY, flags, self._mount_points.names(parts))
        else:
            opened = OpenFile(safe_open.open_folder(mount_point.fd), mount_point, Kind.DIRECTORY, flags)
        self._last += 1
        self._opened[self._last] = opened
        self._count()
        return [self._last, int(opened.kind)]

    def _count(self) -> None:
        held = sum(opened.descriptors for opened in self._opened.values())
        self._share.used = self._mount_points.descriptors + held

    def _open_in(self, mount_point: MountPoint, parts: tuple[bytes, ...], flags: int) -> OpenFile:
        if flags & CHANGES:
            mount_point.check_writable()
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            for _ in range(_TRIES):
                if not flags & Open.EXCLUSIVE or not flags & Open.CREATE:
                    try:
                        return OpenFile.existing(mount_point, folder, name, flags)
                    except FileNotFoundError:
                        if not flags & Open.CREATE:
                            raise
                try:
                    return OpenFile.create(mount_point, folder, name, flags)
                except FileExistsError:
                    if flags & Open.EXCLUSIVE:
                        raise
        raise refusal(errno.EBUSY)

    def _close(self, handle: int) -> None:
        opened = self._at(handle)
        del self._opened[handle]
        opened.close()
        self._count()
        if opened.unlinked and opened.key and opened.mount_point and not self._holders(opened.key):
            opened.mount_point.quota.gone(opened.key)

    def _read(self, handle: int, at: int, count: int) -> bytes:
        return self._at(handle).read(at, min(count, self._chunk))

    def _write(self, handle: int, data: bytes, at: int | None = None) -> int:
        return self._at(handle).write(data, at)

    def _resize(self, handle: int, size: int) -> None:
        self._at(handle).resize(size)

    def _list(self, handle: int, again: int) -> list[bytes | int]:
        page = self._at(handle).page(bool(again), self._page)
        return [item for name, kind in page for item in (name, int(kind))]

    def _status(self, what: int | bytes) -> list[int]:
        if isinstance(what, int):
            fd = self._at(what).fd
            return [int(Kind.DIRECTORY), 0, 0] if fd is None else _shown(os.fstat(fd))
        mount_point, parts = self._mount_points.find(what)
        if mount_point is None:
            return [int(Kind.DIRECTORY), 0, 0]
        if not parts:
            return _shown(os.fstat(mount_point.fd))
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            return _shown(safe_open.look(folder, name))

    def _touch(self, what: int | bytes, changed: int) -> None:
        if isinstance(what, int):
            self._at(what).touch(changed)
            return
        mount_point, parts = self._mount_points.inside(what)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            status = safe_open.look(folder, name)
            if status.st_nlink > 1 and safe_open.kind_of(status) is not Kind.DIRECTORY:
                raise refusal(errno.EACCES)
            os.utime(name, ns=(changed, changed), dir_fd=folder, follow_symlinks=False)

    def _mkdir(self, path: bytes) -> None:
        mount_point, parts = self._mount_points.inside(path)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            mount_point.quota.check_file()
            os.mkdir(name, 0o700, dir_fd=folder)
            mount_point.quota.made(key_of(safe_open.look(folder, name)))

    def _unlink(self, path: bytes) -> None:
        self._remove(path, os.unlink)

    def _rmdir(self, path: bytes) -> None:
        self._remove(path, os.rmdir)

    def _remove(self, path: bytes, remove: Callable[..., None]) -> None:
        mount_point, parts = self._mount_points.inside(path)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            status = safe_open.look(folder, name)
            remove(name, dir_fd=folder)
        self._gone(mount_point, status)

    def _rename(self, old: bytes, new: bytes) -> None:
        (mount_point, here), (target, there) = self._mount_points.inside(old), self._mount_points.inside(new)
        if mount_point is not target:
            raise refusal(errno.EXDEV)
        with (
            safe_open.parent(mount_point.fd, here) as (folder, name),
            safe_open.parent(mount_point.fd, there) as (onto, other),
        ):
            moved, replaced = safe_open.look(folder, name), None
            if safe_open.kind_of(moved) is Kind.SYMLINK:
                raise refusal(errno.ELOOP)
            try:
                replaced = safe_open.look(onto, other)
            except FileNotFoundError:
                pass
            os.rename(name, other, src_dir_fd=folder, dst_dir_fd=onto)
        if replaced is not None and key_of(replaced) != key_of(moved):
            self._gone(mount_point, replaced)

    def _gone(self, mount_point: MountPoint, status: os.stat_result) -> None:
        """A name is gone. The file is as well, unless it has another name, or is open here."""
        if status.st_nlink > 1 and safe_open.kind_of(status) is not Kind.DIRECTORY:
            return
        holders = self._holders(key_of(status))
        for opened in holders:
            opened.unlinked = True
        if not holders:
            mount_point.quota.gone(key_of(status))

    def _holders(self, key: tuple[int, int]) -> list[OpenFile]:
        return [opened for opened in self._opened.values() if opened.key == key]


def _shown(status: os.stat_result) -> list[int]:
    kind = safe_open.kind_of(status)
    return [int(kind), status.st_size if kind is Kind.FILE else 0, max(0, status.st_mtime_ns)]


def _fit(operands: list[Any], shapes: frozenset[tuple[type, ...]]) -> bool:
    """Whether the operands are what an operation takes; no number is negative."""
    return tuple(map(type, operands)) in shapes and all(0 <= o <= _MAX_NUMBER for o in operands if type(o) is int)


def _shapes(*shapes: tuple[type, ...]) -> frozenset[tuple[type, ...]]:
    return frozenset(shapes)


_OPERATIONS: Final[dict[Ask, tuple[Callable[..., Any], frozenset[tuple[type, ...]]]]] = {
    Ask.OPEN: (FileHandler._open, _shapes((bytes, int))),
    Ask.CLOSE: (FileHandler._close, _shapes((int,))),
    Ask.READ: (FileHandler._read, _shapes((int, int, int))),
    Ask.WRITE: (FileHandler._write, _shapes((int, bytes, int), (int, bytes))),
    Ask.STATUS: (FileHandler._status, _shapes((bytes,), (int,))),
    Ask.LIST: (FileHandler._list, _shapes((int, int))),
    Ask.MKDIR: (FileHandler._mkdir, _shapes((bytes,))),
    Ask.UNLINK: (FileHandler._unlink, _shapes((bytes,))),
    Ask.RMDIR: (FileHandler._rmdir, _shapes((bytes,))),
    Ask.RENAME: (FileHandler._rename, _shapes((bytes, bytes))),
    Ask.RESIZE: (FileHandler._resize, _shapes((int, int))),
    Ask.TOUCH: (FileHandler._touch, _shapes((bytes, int), (int, int))),
}
