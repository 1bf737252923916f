"""The digest of everything in the source tree that the image is made from. It names the image's folder in the cache.

The host library loads this file by its path in a source checkout, so it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

FOLDERS = ("wasm", "guest/cloche_guest", "guest/cloche_wire")
SKIPPED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def input_files(tree: Path) -> list[Path]:
    """Every file below FOLDERS, sorted by its path relative to `tree`; notes (.md) and caches are left out."""
    found = []
    for folder in FOLDERS:
        for where, folders, names in os.walk(tree / folder):
            folders[:] = sorted(set(folders) - SKIPPED)
            found += [Path(where, name) for name in names if not name.endswith((".md", ".pyc")) and name[0] != "."]
    return sorted(found, key=lambda path: path.relative_to(tree).as_posix())


def inputs_digest(tree: Path) -> str:
    """Hexadecimal SHA-256 over the names and contents of `input_files`."""
    digest = hashlib.sha256(b"cloche image 1\n")
    for path in input_files(tree):
        body = path.read_bytes()
        digest.update(f"{path.relative_to(tree).as_posix()}\n{len(body)}\n".encode())
        digest.update(body)
    return digest.hexdigest()


def copy_inputs(tree: Path, target: Path) -> Path:
    """Copy `input_files` to an empty folder, so that a build does not see them change under it; answers the folder."""
    shutil.rmtree(target, ignore_errors=True)
    for path in input_files(tree):
        place = target / path.relative_to(tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target


def cache_folder() -> Path:
    """$CLOCHE_CACHE, else $XDG_CACHE_HOME/cloche, else ~/.cache/cloche."""
    if own := os.environ.get("CLOCHE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloche"
