"""Where builds of a checkout lie: in the cache, under the digest of what they were made from, by the build's own rule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cloche.errors import ImageError

__all__ = ["build_rule", "built_core", "cache_folder", "source_tree"]


def cache_folder() -> Path:
    """Where images and compiled code are kept: $CLOCHE_CACHE, $XDG_CACHE_HOME/cloche or ~/.cache/cloche.

    Raises:
        ImageError: none of these is set, and the user has no home folder.
    """
    if chosen := os.environ.get("CLOCHE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "cloche"
    try:
        return Path.home() / ".cache" / "cloche"
    except RuntimeError as error:  # HOME is not set, and the user is not in the system's list
        raise ImageError(f"there is no folder to keep images in ({error}): set CLOCHE_CACHE to one") from error


def source_tree() -> Path | None:
    """The checkout that this package is imported from, if it is one."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "wasm" / "build.py").is_file() else None


def build_rule(path: Path) -> Any:
    """A module of the checkout's build scripts that computes the digest of a build's inputs."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"_cloche_{path.parent.name}_inputs", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImageError(f"{path} is missing: this checkout is not whole")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built_core(name: str) -> Path | None:
    """Path of the native core that was built, or will be built, from this checkout; None in an installed package."""
    tree = source_tree()
    if tree is None:
        return None
    folder = tree / "runtime" / "native"
    return cache_folder() / "native" / str(build_rule(folder / "inputs.py").core_digest(folder)) / name
