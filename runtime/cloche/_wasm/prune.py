"""Removes from the cache what this installation does not use, and nobody has used for some time."""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from cloche._wasm import artifacts, image, targets
from cloche._wasm.checkout import built_core, cache_folder
from cloche.errors import ImageError
from cloche.metering import Metering

__all__ = ["Pruned", "prune"]

_DAY_S: Final = 86400.0
_DIGEST: Final = r"[0-9a-f]{64}"
_PATTERNS: Final = {
    "image": ("images", re.compile(_DIGEST)),
    "core": ("native", re.compile(r"[0-9a-f]{16,64}")),
    "artifact": ("aot", re.compile(r"[0-9a-f]{32}(\.[a-z0-9-]+)?\.cwasm")),
    "package": ("packages", re.compile(rf"{_DIGEST}(-[a-z-]+)?\.tree")),
}
"""What is pruned: kind -> folder in the cache, and the names there. Whatever has another name is not Cloche's, and stays."""
_DRAFT: Final = re.compile(r"\.[\w.-]+\.[0-9a-f]{16}\.part")


@dataclass(frozen=True, slots=True)
class Pruned:
    """Something that `prune` has removed, or would remove.

    Attributes:
        kind: "image", "core" (the native core of a checkout), "artifact" (an image's native code), "package" (a package's compiled
            code) or "draft" (a file that a program which was ended has begun).
        path: the file or folder.
        bytes: what it takes on the disk.
        idle_days: days since it was last used, as far as the cache knows.
    """

    kind: str
    path: Path
    bytes: int
    idle_days: float


def prune(unused_days: float = 30.0, *, dry_run: bool = False) -> list[Pruned]:
    """Remove what the cache has for other versions of Cloche, other checkouts and packages that are granted no longer.

    What this installation uses (its image, its core, its native code under each metering and for each target) stays. Nothing is
    taken from programs that run: files that they have open remain until they close them.

    Args:
        unused_days: only what was not used for so many days; 0: whether or not it was used.
        dry_run: remove nothing.

    Returns:
        what was removed, or would be.

    Raises:
        ImageError: there is no cache, as this user has no home.
        ValueError: `unused_days` is negative.
    """
    if not unused_days >= 0:
        raise ValueError(f"unused_days is {unused_days}: give 0 or more")
    folder, now = cache_folder(), time.time()
    used, found = _used(folder), []
    for kind, path in _entries(folder):
        try:
            status = path.lstat()
            size = _size(path)
        except OSError:  # another process has removed it
            continue
        idle = max(0.0, (now - status.st_mtime) / _DAY_S)
        least = artifacts.DRAFT_S / _DAY_S if kind == "draft" else unused_days
        if path in used or idle < least or not (dry_run or _removed(path)):
            continue
        found.append(Pruned(kind, path, size, idle))
        if kind == "artifact" and not dry_run:
            path.with_suffix(".lock").unlink(missing_ok=True)
    return found


def _used(folder: Path) -> set[Path]:
    """What this installation uses."""
    used = set()
    core = built_core("")
    if core is not None:
        used.add(core)
    try:
        own = image.find()
    except ImageError:  # there is none, so nothing is compiled from it
        return used
    used.add(own.folder)
    for metering in get_args(Metering):
        used.update(image.artifact(own, metering, level, folder) for level in (None, *targets.LEVELS))
    return used


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is Cloche's in the cache: (kind, path)."""
    for kind, (name, pattern) in _PATTERNS.items():
        inside = folder / name
        try:
            names = sorted(os.listdir(inside)) if not inside.is_symlink() else []  # another cache's, perhaps
        except OSError:
            continue
        for entry in names:
            if pattern.fullmatch(entry):
                yield kind, inside / entry
            elif _DRAFT.fullmatch(entry):
                yield "draft", inside / entry


def _size(path: Path) -> int:
    """Bytes on the disk, of a folder with all that is in it."""
    status = path.lstat()
    total = status.st_blocks * 512
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            total += sum(_size(Path(entry.path)) for entry in entries)
    return total


def _removed(path: Path) -> bool:
    """Remove a file, a link, or a folder with all that is in it; False if that is not allowed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    return True
