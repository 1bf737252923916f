"""Folders of the host that a node can open files in (`Grants.mounts`), and the node's private /tmp (`Grants.scratch_bytes`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloche._keywords import teaches_fields
from cloche_wire.files import NAME_BYTES, PATH_BYTES

__all__ = ["Mount", "checked_mounts", "checked_scratch"]

MIB: Final = 1 << 20
SCRATCH: Final = "/tmp"
MIN_SCRATCH: Final = 64 << 10
MAX_SCRATCH: Final = (1 << 31) - 1


@teaches_fields
@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host that a node can open files in, and what the node may do there.

    Attributes:
        path: the folder, opened when the node is loaded. Symbolic links in this path are followed at that moment; symbolic links
            inside the folder are never followed.
        writable: whether the node may create, change and remove files in the folder.
        quota_bytes: bytes by which one node may make the files in the folder grow. Bytes that the node removes again no longer
            count. Each clone has a quota of its own.
        max_files: files and folders that one node may have created in the folder at a time.
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
            if value != Mount.__dataclass_fields__[name].default and not self.writable:
                raise ValueError(f"Mount.{name} is for writable=True: nothing grows in a folder that is only read")


def checked_mounts(mounts: Mapping[str, str | os.PathLike[str] | Mount]) -> dict[str, Mount]:
    """The mounts of a node, with every plain path as a read-only `Mount`.

    Raises:
        TypeError: the argument is no mapping of paths.
        ValueError: a path in the node is not absolute or not plain, or one mount lies inside another.
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


def checked_scratch(scratch_bytes: int | None, mounts: Iterable[str]) -> int | None:
    """Check `Grants.scratch_bytes`. Returns the size of /tmp that the node is told; None: the usual one.

    Args:
        scratch_bytes: the size of /tmp; None: the usual one, or none beside a mount at that place.
        mounts: paths in the node at which something else is mounted.

    Raises:
        TypeError: the size is no whole number.
        ValueError: the size is too small or too large, or something else is mounted at /tmp.
    """
    taken = [point for point in mounts if (point + "/").startswith(SCRATCH + "/")]
    if scratch_bytes is None:
        return 0 if taken else None
    if type(scratch_bytes) is not int:
        raise TypeError(f"Grants.scratch_bytes is {scratch_bytes!r}: give a number of bytes, or None")
    if scratch_bytes and not MIN_SCRATCH <= scratch_bytes <= MAX_SCRATCH:
        raise ValueError(
            f"Grants.scratch_bytes is {scratch_bytes}: give 0 or a number from {MIN_SCRATCH} to {MAX_SCRATCH}"
        )
    if scratch_bytes and taken:
        raise ValueError(
            f"{taken[0]} is mounted, and Grants.scratch_bytes puts the node's own files at {SCRATCH}: take one"
        )
    return scratch_bytes
