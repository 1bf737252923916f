"""What `Grants.mounts` is made of: folders of the host, and where the node sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloche_wire.files import NAME_BYTES, PATH_BYTES

__all__ = ["Mount", "checked_mounts", "checked_scratch"]

MIB: Final = 1 << 20
SCRATCH: Final = "/tmp"
MIN_SCRATCH: Final = 64 << 10
MAX_SCRATCH: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host that a node can reach, and what it may do there.

    Attributes:
        path: the folder. It is opened when the node is loaded: symbolic links in the path itself are followed, then, by the host;
            in the folder none is.
        writable: whether the node may change what is in it.
        quota_bytes: bytes by which one node may make the folder's files grow. What it adds to a file and cuts off or removes again
            counts no longer; each clone has a quota of its own.
        max_files: files and folders that one node may have made in it.
    """

    path: str | os.PathLike[str]
    writable: bool = False
    quota_bytes: int = 64 * MIB
    max_files: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise TypeError(f"Mount.path is {self.path!r}: give a path")
        object.__setattr__(self, "path", str(Path(self.path).absolute()))
        for name in ("quota_bytes", "max_files"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Mount.{name} is {value!r}: give a number")
            if value < 0:
                raise ValueError(f"Mount.{name} is {value}: give 0 or more")


def checked_mounts(mounts: Mapping[str, str | os.PathLike[str] | Mount]) -> dict[str, Mount]:
    """The mounts of a node, each path of the host as a read-only `Mount`.

    Raises:
        TypeError: no mapping of paths.
        ValueError: a path in the node is not absolute and plain, or one mount lies inside another.
    """
    if not isinstance(mounts, Mapping):
        raise TypeError(f"Grants.mounts is {mounts!r}: give a mapping, path in the node -> folder of the host")
    for point in mounts:
        _check_point(point)
    points = sorted(mounts)
    for outer, inner in ((a, b) for a in points for b in points if b.startswith(a + "/")):
        raise ValueError(f"the mount {inner} lies inside the mount {outer}: give them places side by side")
    return {point: mount if isinstance(mount, Mount) else Mount(mount) for point, mount in mounts.items()}


def _check_point(point: str) -> None:
    if not isinstance(point, str):
        raise TypeError(f"a mount is at {point!r}: give an absolute path as text")
    parts = point.split("/")[1:]
    if not point.startswith("/") or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(
            f"a mount is at {point!r}: give an absolute path below /, such as '/data', without '.', '..' or a last '/'"
        )
    if any(len(part.encode("utf-8", "surrogateescape")) > NAME_BYTES for part in parts) or len(point) > PATH_BYTES // 4:
        raise ValueError(f"a mount's path is too long: {point[:80]!r}...")


def checked_scratch(scratch_bytes: int, mounts: Iterable[str]) -> None:
    """Refuse a size of /tmp that cannot be.

    Raises:
        TypeError: it is no number.
        ValueError: it is too small or too large, or /tmp is mounted as well.
    """
    if type(scratch_bytes) is not int:
        raise TypeError(f"Grants.scratch_bytes is {scratch_bytes!r}: give a number of bytes")
    if scratch_bytes and not MIN_SCRATCH <= scratch_bytes <= MAX_SCRATCH:
        raise ValueError(
            f"Grants.scratch_bytes is {scratch_bytes}: give 0 or a number from {MIN_SCRATCH} to {MAX_SCRATCH}"
        )
    taken = [point for point in mounts if (point + "/").startswith(SCRATCH + "/")]
    if scratch_bytes and taken:
        raise ValueError(
            f"{taken[0]} is mounted, and Grants.scratch_bytes puts the node's own files at {SCRATCH}: take one"
        )
