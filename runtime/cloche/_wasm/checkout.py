"""Where the cache has the image and the native core of a checkout.

A build lies in a folder that is named by the digest of the build's inputs. The digest is computed by the build script's own module
(`build_rule`), so that library and build never disagree.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cloche.errors import ImageError

__all__ = ["build_rule", "built_core", "cache_folder", "source_tree"]


def cache_folder() -> Path:
    """The folder of images, native cores and AOT artifacts: $CLOCHE_CACHE, $XDG_CACHE_HOME/cloche or ~/.cache/cloche.

    It is the real path, without links: who can change a link to a folder that is trusted cannot lead elsewhere after the check.

    Raises:
        ImageError: neither variable is set, and the user has no home folder.
    """
    if chosen := os.environ.get("CLOCHE_CACHE"):
        try:
            return Path(os.path.realpath(chosen))
        except (OSError, ValueError) as error:  # a relative path, and the current folder is gone
            raise ImageError(
                f"CLOCHE_CACHE is {chosen!r}, which leads nowhere ({error}): give an absolute path"
            ) from error
    from platformdirs.unix import Unix  # on macOS as well: the scripts that build an image look there

    try:
        folder = Unix("cloche", appauthor=False).user_cache_path
    except RuntimeError:
        folder = Path()
    if (
        not folder.is_absolute()
    ):  # HOME is not set, and the user has no entry in /etc/passwd; older versions give "~/.cache"
        raise ImageError("there is no folder to keep images in, as this user has no home: set CLOCHE_CACHE to one")
    return Path(os.path.realpath(folder))


def source_tree() -> Path | None:
    """The root folder of the checkout that this package is imported from; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "wasm" / "build.py").is_file() else None


def build_rule(path: Path) -> Any:
    """Import a module of the checkout's build scripts: one that computes the digest of a build's inputs.

    Args:
        path: the module's file.

    Raises:
        ImageError: the file is missing.
    """
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"_cloche_{path.parent.name}_inputs", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImageError(f"{path} is missing: this checkout is not whole")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built_core(name: str) -> Path | None:
    """Path of the native core that was built, or will be built, from this checkout; None for an installed package.

    Args:
        name: file name of the core's library.
    """
    tree = source_tree()
    if tree is None:
        return None
    folder = tree / "runtime" / "native"
    return cache_folder() / "native" / str(build_rule(folder / "inputs.py").core_digest(folder)) / name
