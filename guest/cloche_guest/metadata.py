"""`importlib.metadata` for packages in memory. Imported only when metadata is needed, since it imports the mail parser."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cloche_guest.archive import Store


class StoredDistribution(importlib.metadata.Distribution):
    """The ``.dist-info`` folder of a wheel in memory."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def read_text(self, filename: str) -> str | None:
        """The text of a file of the folder; None if there is no such file."""
        try:
            return self._store.data(f"{self._folder}/{filename}").decode()
        except OSError:
            return None

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        """The path of a file inside the archive."""
        return self._store.tree("") / str(path)


def distributions(store: Store, name: str | None) -> Iterator[StoredDistribution]:
    """The distributions of a store with this name (in normalised spelling); None: all."""
    for folder in store.metadata():
        if name is None or _normal(folder.removesuffix(".dist-info").partition("-")[0]) == _normal(name):
            yield StoredDistribution(store, folder)


def _normal(name: str) -> str:
    """The normalised spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "_", name).lower()
