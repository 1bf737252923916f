"""Where a node's mounts are: which folder of the host an absolute path of the guest leads into."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cloche._files import safe_open
from cloche._files.quota import Quota, refusal
from cloche._wasm.scarce import NUMBERS, nothing_left

if TYPE_CHECKING:
    from cloche.mounts import Mount

__all__ = ["MountPoint", "MountTable"]

Parts = tuple[bytes, ...]


class MountPoint:
    """One mounted folder: a descriptor of it, its rule, and what the node has put into it."""

    __slots__ = ("fd", "quota", "writable")

    def __init__(self, mount: Mount) -> None:
        self.fd = safe_open.open_root(mount.path)
        self.writable = mount.writable
        self.quota = Quota(mount)

    def check_writable(self) -> None:
        """Raises:
        OSError: EROFS.
        """
        if not self.writable:
            raise refusal(errno.EROFS)


class MountTable:
    """All mounts of one node. The folders on the way to them (``/a`` for ``/a/b``) exist in the guest alone.

    Args:
        mounts: path in the node -> folder of the host, as `checked_mounts` gives them.

    Raises:
        OSError: a folder of the host does not exist, or is none.
        ClocheError: the process has no open files left.
    """

    def __init__(self, mounts: Mapping[str, Mount]) -> None:
        self._mount_points: dict[Parts, MountPoint] = {}
        self._between: dict[Parts, set[bytes]] = {(): set()}
        try:
            for point, mount in mounts.items():
                parts = safe_open.components(os.fsencode(point)[1:])
                self._mount_points[parts] = MountPoint(mount)
                for depth in range(len(parts)):
                    self._between.setdefault(parts[:depth], set()).add(parts[depth])
        except OSError as error:
            self.close()
            if error.errno in NUMBERS:
                raise nothing_left("for a mount", error) from error
            raise

    def find(self, path: bytes) -> tuple[MountPoint | None, Parts]:
        """The mount that a path lies in, and its parts from there on; None: it is a folder on the way to one.

        Raises:
            OSError: ENOENT: neither; or it is no path.
        """
        parts = safe_open.components(path)
        for depth in range(1, len(parts) + 1):
            mount_point = self._mount_points.get(parts[:depth])
            if mount_point is not None:
                return mount_point, parts[depth:]
        if parts not in self._between:
            raise refusal(errno.ENOENT)
        return None, parts

    @property
    def descriptors(self) -> int:
        """How many it holds."""
        return len(self._mount_points)

    def names(self, parts: Parts) -> list[bytes]:
        """What is in a folder on the way."""
        return sorted(self._between[parts])

    def inside(self, path: bytes) -> tuple[MountPoint, Parts]:
        """As `find`, of something that is to be changed: in a writable mount, and not the mount itself.

        Raises:
            OSError: EROFS, EBUSY or ENOENT.
        """
        try:
            mount_point, parts = self.find(path)
        except FileNotFoundError:
            if safe_open.components(path)[:-1] in self._between:
                raise refusal(errno.EROFS) from None
            raise
        if mount_point is None:
            raise refusal(errno.EROFS)
        mount_point.check_writable()
        if not parts:
            raise refusal(errno.EBUSY)
        return mount_point, parts

    def close(self) -> None:
        """Close the descriptors."""
        for mount_point in self._mount_points.values():
            os.close(mount_point.fd)
        self._mount_points.clear()
