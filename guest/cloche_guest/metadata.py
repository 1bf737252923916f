"""`importlib.metadata` for packages in memory. Imported when something asks for it: it pulls in the mail parser."""

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
        """One file of the folder, or None."""
        try:
            return self._store.data(f"{self._folder}/{filename}").decode()
        except OSError:
            return None

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        """Where the file would be if there were files."""
        return self._store.tree("") / str(path)


def distributions(store: Store, name: str | None) -> Iterator[StoredDistribution]:
    """Those of the store that have that (normalised) name, or all."""
    for folder in store.metadata():
        if name is None or _normal(folder.removesuffix(".dist-info").partition("-")[0]) == _normal(name):
            yield StoredDistribution(store, folder)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
