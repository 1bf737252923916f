"""`FileHandler`: answers a guest's file requests on the folders of `Grants.mounts`. One per instance.

A request names a file by its absolute path in the guest, or by the handle (a number) that an earlier OPEN has returned. Each path
is resolved to a file of the host anew at each request (`mount_table`, then `safe_open`). Answers contain numbers, names and
contents only: never a path, an inode or an error text of the host.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cloche._files import safe_open
from cloche._files.descriptor_shares import DescriptorShares, shares
from cloche._files.mount_table import MountPoint, MountTable
from cloche._files.open_file import CHANGES, MAX_DESCRIPTORS, OpenFile, key_of
from cloche._files.quota import refusal
from cloche._requests import Operation, RequestRefused
from cloche.errors import ClocheError
from cloche_wire import Ask
from cloche_wire.files import CHUNK_BYTES, ERRNOS, Kind, Open

if TYPE_CHECKING:
    from cloche.errors import EncodeError
    from cloche.limits import Limits
    from cloche.mounts import Mount

__all__ = ["MAX_OPEN", "FileHandler"]

MAX_OPEN: Final = 64
"""Files and folders that one node may have open at once."""

_NUMBERS: Final = {getattr(errno, name): number for name, number in ERRNOS.items()}
"""errno of the host -> errno of WASI."""
_LENGTHS: Final = struct.Struct("<HI")  # bytes of a mount point's path, and of its quota
_MAX_NUMBER: Final = (1 << 63) - 1
_TRIES: Final = 3
"""Attempts to open or create a file that another process keeps removing and creating meanwhile."""


def _shapes(*shapes: tuple[type, ...]) -> frozenset[tuple[type, ...]]:
    return frozenset(shapes)


class FileHandler:
    """Answers the file operations of `cloche_wire.Ask`.

    Args:
        mounts: mount point (path in the node) -> folder of the host.
        limits: limits of the instance; `request_bytes` bounds an answer.
        descriptors: the shares of descriptors of all nodes of this process.

    Attributes:
        operations: number of each file operation in `Ask` -> the function that performs it.

    Raises:
        OSError: a folder does not exist, or is not a folder.
        ClocheError: the nodes of this process hold too many descriptors already.
    """

    def __init__(self, mounts: Mapping[str, Mount], limits: Limits, descriptors: DescriptorShares = shares) -> None:
        self.operations: Mapping[int, Operation] = {int(ask): partial(self._answer, ask) for ask in self._OPERATIONS}
        self._chunk = min(CHUNK_BYTES, limits.request_bytes - 64)
        self._page = min(CHUNK_BYTES // 16, limits.request_bytes // 2)
        self._opened: dict[int, OpenFile] = {}
        # random start: a handle kept in a snapshot must not match a file that this instance has open
        self._last = int.from_bytes(os.urandom(5), "little") << 8
        self._descriptors = descriptors
        self._share = descriptors.open(len(mounts))
        try:
            self._mount_points = MountTable(mounts)
        except BaseException:
            self._share.used = 0
            raise

    def on_encode_error(self, operands: list[Any], error: EncodeError) -> int:
        """ENAMETOOLONG: the answer was a page of a folder with a name longer than `request_bytes` allows."""
        return ERRNOS["ENAMETOOLONG"]

    def close(self) -> None:
        """Close all files and folders of the instance, which is closing."""
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()
        self._mount_points.close()
        self._share.used = 0

    def quotas(self) -> bytes:
        """What the node has added to its mounts, for `go_on_with` of another handler; empty if that is nothing."""
        found = (
            (point, quota.packed()) for point, quota in self._mount_points.quotas.items() if not quota.is_untouched
        )
        return b"".join(
            part for point, packed in found for part in (_LENGTHS.pack(len(point), len(packed)), point, packed)
        )

    def go_on_with(self, quotas: bytes) -> None:
        """Count what the node has added to the same mounts before.

        Args:
            quotas: from `quotas`; they may be a stranger's.

        Raises:
            ClocheError: they are malformed.
        """
        mine, at = self._mount_points.quotas, 0
        try:
            while at < len(quotas):
                named, length = _LENGTHS.unpack_from(quotas, at)
                at += _LENGTHS.size
                point, packed = quotas[at : at + named], quotas[at + named : at + named + length]
                at += named + length
                if point in mine:
                    mine[point].go_on_with(packed)
        except (struct.error, ValueError) as error:
            raise ClocheError(f"the quotas of a node's mounts cannot be read: {error}") from error

    def _answer(self, ask: Ask, operands: list[Any]) -> Any:
        operation, shapes = self._OPERATIONS[ask]
        try:
            if not _are_valid(operands, shapes):
                raise refusal(errno.EINVAL)
            return operation(self, *operands)
        except OSError as error:
            raise RequestRefused(_NUMBERS.get(error.errno or 0, ERRNOS["EIO"])) from None

    def _open_file(self, handle: int) -> OpenFile:
        opened = self._opened.get(handle)
        if opened is None:
            raise refusal(errno.EBADF)
        return opened

    def _open(self, path: bytes, flags: int) -> list[int]:
        if len(self._opened) >= MAX_OPEN:
            raise refusal(errno.EMFILE)
        self._descriptors.check(self._share, MAX_DESCRIPTORS)
        try:
            mount_point, parts = self._mount_points.find(path)
        except FileNotFoundError:
            if flags & Open.CREATE:
                self._mount_points.find_writable(path)
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
        self._update_share()
        return [self._last, int(opened.kind)]

    def _update_share(self) -> None:
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
        opened = self._open_file(handle)
        del self._opened[handle]
        opened.close()
        self._update_share()
        if opened.unlinked and opened.key and opened.mount_point and not self._holders(opened.key):
            opened.mount_point.quota.gone(opened.key)

    def _read(self, handle: int, at: int, count: int) -> bytes:
        return self._open_file(handle).read(at, min(count, self._chunk))

    def _write(self, handle: int, data: bytes, at: int | None = None) -> int:
        return self._open_file(handle).write(data, at)

    def _resize(self, handle: int, size: int) -> None:
        self._open_file(handle).resize(size)

    def _list(self, handle: int, again: int) -> list[bytes | int]:
        page = self._open_file(handle).page(bool(again), self._page)
        return [item for name, kind in page for item in (name, int(kind))]

    def _status(self, what: int | bytes) -> list[int]:
        if isinstance(what, int):
            fd = self._open_file(what).fd
            return [int(Kind.DIRECTORY), 0, 0] if fd is None else _status_values(os.fstat(fd))
        mount_point, parts = self._mount_points.find(what)
        if mount_point is None:
            return [int(Kind.DIRECTORY), 0, 0]
        if not parts:
            return _status_values(os.fstat(mount_point.fd))
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            return _status_values(safe_open.status_of(folder, name))

    def _touch(self, what: int | bytes, changed: int) -> None:
        if isinstance(what, int):
            self._open_file(what).touch(changed)
            return
        mount_point, parts = self._mount_points.find_writable(what)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            status = safe_open.status_of(folder, name)
            if status.st_nlink > 1 and safe_open.kind_of(status) is not Kind.DIRECTORY:
                raise refusal(errno.EACCES)
            os.utime(name, ns=(changed, changed), dir_fd=folder, follow_symlinks=False)

    def _mkdir(self, path: bytes) -> None:
        mount_point, parts = self._mount_points.find_writable(path)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            mount_point.quota.check_file()
            os.mkdir(name, 0o700, dir_fd=folder)
            mount_point.quota.made(key_of(safe_open.status_of(folder, name)))

    def _unlink(self, path: bytes) -> None:
        self._remove(path, os.unlink)

    def _rmdir(self, path: bytes) -> None:
        self._remove(path, os.rmdir)

    def _remove(self, path: bytes, remove: Callable[..., None]) -> None:
        mount_point, parts = self._mount_points.find_writable(path)
        with safe_open.parent(mount_point.fd, parts) as (folder, name):
            status = safe_open.status_of(folder, name)
            remove(name, dir_fd=folder)
        self._removed(mount_point, status)

    def _rename(self, old: bytes, new: bytes) -> None:
        (mount_point, here), (target, there) = (
            self._mount_points.find_writable(old),
            self._mount_points.find_writable(new),
        )
        if mount_point is not target:
            raise refusal(errno.EXDEV)
        with (
            safe_open.parent(mount_point.fd, here) as (folder, name),
            safe_open.parent(mount_point.fd, there) as (onto, other),
        ):
            moved, replaced = safe_open.status_of(folder, name), None
            if safe_open.kind_of(moved) is Kind.SYMLINK:
                raise refusal(errno.ELOOP)
            try:
                replaced = safe_open.status_of(onto, other)
            except FileNotFoundError:
                pass
            os.rename(name, other, src_dir_fd=folder, dst_dir_fd=onto)
        if replaced is not None and key_of(replaced) != key_of(moved):
            self._removed(mount_point, replaced)

    def _removed(self, mount_point: MountPoint, status: os.stat_result) -> None:
        """A name has been removed. Give the file's quota back, unless the file has another name or is still open here.

        Args:
            mount_point: the mount that the name was in.
            status: of the file, from before the removal.
        """
        if status.st_nlink > 1 and safe_open.kind_of(status) is not Kind.DIRECTORY:
            return
        holders = self._holders(key_of(status))
        for opened in holders:
            opened.unlinked = True
        if not holders:
            mount_point.quota.gone(key_of(status))

    def _holders(self, key: tuple[int, int]) -> list[OpenFile]:
        return [opened for opened in self._opened.values() if opened.key == key]

    # request -> method, and the types of operands that it takes
    _OPERATIONS: ClassVar[dict[Ask, tuple[Callable[..., Any], frozenset[tuple[type, ...]]]]] = {
        Ask.OPEN: (_open, _shapes((bytes, int))),
        Ask.CLOSE: (_close, _shapes((int,))),
        Ask.READ: (_read, _shapes((int, int, int))),
        Ask.WRITE: (_write, _shapes((int, bytes, int), (int, bytes))),
        Ask.STATUS: (_status, _shapes((bytes,), (int,))),
        Ask.LIST: (_list, _shapes((int, int))),
        Ask.MKDIR: (_mkdir, _shapes((bytes,))),
        Ask.UNLINK: (_unlink, _shapes((bytes,))),
        Ask.RMDIR: (_rmdir, _shapes((bytes,))),
        Ask.RENAME: (_rename, _shapes((bytes, bytes))),
        Ask.RESIZE: (_resize, _shapes((int, int))),
        Ask.TOUCH: (_touch, _shapes((bytes, int), (int, int))),
    }


def _status_values(status: os.stat_result) -> list[int]:
    """What STATUS returns: kind, size in bytes (0 unless a file), time of the last change in nanoseconds since 1970."""
    kind = safe_open.kind_of(status)
    return [int(kind), status.st_size if kind is Kind.FILE else 0, max(0, status.st_mtime_ns)]


def _are_valid(operands: list[Any], shapes: frozenset[tuple[type, ...]]) -> bool:
    """Whether the operands have the types of one of the shapes, and no number is negative or above 63 bits."""
    return tuple(map(type, operands)) in shapes and all(0 <= o <= _MAX_NUMBER for o in operands if type(o) is int)
