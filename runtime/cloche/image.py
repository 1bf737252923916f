"""The guest image: CPython and numpy as one WebAssembly module, and its native code for this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloche._wasm import Engine, Image, source_tree
from cloche._wasm.image import find, kept, load
from cloche.metering import DEFAULT_METERING, Metering

__all__ = ["Image", "find", "prepare", "source_tree"]


def prepare(
    image: Image | None = None,
    metering: Metering = DEFAULT_METERING,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Path | None:
    """Compile an image to native code for this machine, unless that has been done: later runtimes start in milliseconds.

    Run it when a machine or a container is set up, with the user that will run the nodes.

    Args:
        image: None: the one that `find` finds.
        metering: native code belongs to one metering.
        progress: called with a line of text before and after something that takes seconds.

    Returns:
        the file with the native code in the user's cache; None if the cache cannot be written, which `progress` was told.

    Raises:
        ImageError: there is no image, or it was altered.
    """
    found = find() if image is None else image
    Engine(metering, lambda engine: load(found, metering, engine, progress=progress)).close()
    return kept(found, metering)
