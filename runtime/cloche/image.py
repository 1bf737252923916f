"""The guest image: CPython and numpy as one WebAssembly module, its native code, and the cache that keeps both."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cloche._wasm import Image, source_tree
from cloche._wasm import image as _image
from cloche._wasm import targets as _targets
from cloche._wasm.image import find
from cloche._wasm.prune import Pruned, prune
from cloche.errors import ClocheError
from cloche.metering import DEFAULT_METERING, Metering

__all__ = ["TARGETS", "Image", "Pruned", "find", "prepare", "prune", "source_tree"]

TARGETS = tuple(_targets.LEVELS)
"""Levels of processors that `prepare` can compile for, those that need the most first."""


def prepare(
    image: Image | None = None,
    metering: Metering = DEFAULT_METERING,
    *,
    target: str | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Path | None:
    """Compile an image to native code, unless that has been done: later runtimes start in milliseconds.

    Run it when a machine or a container is set up. Root can do it for other users, who have to be able to read the cache.

    Args:
        image: None: the one that `find` finds.
        metering: native code belongs to one metering.
        target: the processors that it is for, one of `TARGETS`; None: that of this machine. A machine whose processor lacks what
            the target needs refuses the code with an `ImageError`.
        output: a folder that becomes the cache of other machines (``CLOCHE_CACHE``); None: this user's cache.
        progress: called with a line of text before, during and after something that takes seconds.

    Returns:
        the file with the native code; None if this user's cache cannot be written, which `progress` was told.

    Raises:
        ImageError: there is no image, or it was altered, or this machine cannot compile for the target.
        ValueError: there is no such target.
        OSError: `output` cannot be written.
    """
    found = find() if image is None else image
    try:
        return _image.prepare(found, metering, target, None if output is None else Path(output), progress)
    except (ClocheError, OSError) as error:
        if output is not None or target is not None or isinstance(error, ClocheError):
            raise
        progress(f"the compiled image cannot be kept ({error}). Set CLOCHE_CACHE to a folder that you can write")
        return None
