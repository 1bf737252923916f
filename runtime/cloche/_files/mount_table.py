"""Maps an absolute path of a guest to a mount point and the rest of the path below it. Opens nothing below the mounted folders."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cloche._files import safe_open
from cloche._files.quota import Quota, refusal
from cloche._wasm import EXHAUSTED_ERRNOS, out_of_resources

if TYPE_CHECKING:
    from cloche.mounts import Mount

__all__ = ["MountPoint", "MountTable"]

Parts = tuple[bytes, ...]
"""A path as its components."""


class MountPoint:
    """One mounted folder.

    Attributes:
        fd: descriptor of the host's folder (O_PATH), from which all paths below are resolved.
        writable: whether the node may change anything in the folder.
        quota: what the node may add, and has added.
    """

    __slots__ = ("fd", "quota", "writable")

    def __init__(self, mount: Mount) -> None:
        self.fd = safe_open.open_root(mount.path)
        self.writable = mount.writable
        self.quota = Quota(mount)

    def check_writable(self) -> None:
        """Refuse to change a read-only mount.

        Raises:
            OSError: EROFS.
        """
        if not self.writable:
            raise refusal(errno.EROFS)


class MountTable:
    """All mount points of one node, and their parent folders (``/a`` for the mount point ``/a/b``), which exist only in the guest.

    Args:
        mounts: mount point (path in the node) -> folder of the host, checked by `checked_mounts`.

    Raises:
        OSError: a folder of the host does not exist, or is not a folder.
        ClocheError: the process has no descriptors left.
    """

    def __init__(self, mounts: Mapping[str, Mount]) -> None:
        self._mount_points: dict[Parts, MountPoint] = {}
        self._parents: dict[Parts, set[bytes]] = {(): set()}
        try:
            for point, mount in mounts.items():
                parts = safe_open.components(os.fsencode(point)[1:])
                self._mount_points[parts] = MountPoint(mount)
                for depth in range(len(parts)):
                    self._parents.setdefault(parts[:depth], set()).add(parts[depth])
        except OSError as error:
            self.close()
            if error.errno in EXHAUSTED_ERRNOS:
                raise out_of_resources("for a mount", error) from error
            raise

    def find(self, path: bytes) -> tuple[MountPoint | None, Parts]:
        """Find the mount point that a path lies in.

        Args:
            path: absolute in the guest, without the leading slash.

        Returns:
            the mount point and the components below it; or None and all components, if the path is a parent of a mount point.

        Raises:
            OSError: ENOENT: the path lies in no mount, and is no parent of one; or one that `safe_open.components` raises.
        """
        parts = safe_open.components(path)
        for depth in range(1, len(parts) + 1):
            mount_point = self._mount_points.get(parts[:depth])
            if mount_point is not None:
                return mount_point, parts[depth:]
        if parts not in self._parents:
            raise refusal(errno.ENOENT)
        return None, parts

    @property
    def descriptors(self) -> int:
        """Descriptors that the table holds: one for each mount."""
        return len(self._mount_points)

    @property
    def quotas(self) -> dict[bytes, Quota]:
        """Each mount point, as an absolute path, -> its quota."""
        return {b"/" + b"/".join(parts): found.quota for parts, found in self._mount_points.items()}

    def names(self, parts: Parts) -> list[bytes]:
        """Names in a parent folder of mount points, sorted."""
        return sorted(self._parents[parts])

    def find_writable(self, path: bytes) -> tuple[MountPoint, Parts]:
        """Find the mount point of a path that is to be created, changed or removed; see `find`.

        Raises:
            OSError: EROFS: the mount is read-only, or the path is in none; EBUSY: the path is a mount point itself; ENOENT.
        """
        try:
            mount_point, parts = self.find(path)
        except FileNotFoundError:
            if safe_open.components(path)[:-1] in self._parents:
                raise refusal(errno.EROFS) from None
            raise
        if mount_point is None:
            raise refusal(errno.EROFS)
        mount_point.check_writable()
        if not parts:
            raise refusal(errno.EBUSY)
        return mount_point, parts

    def close(self) -> None:
        """Close the descriptors of all mounts. Calling it again does nothing."""
        for mount_point in self._mount_points.values():
            os.close(mount_point.fd)
        self._mount_points.clear()
