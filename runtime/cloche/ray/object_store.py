"""`ObjectStore`: a store of parked nodes in Ray's object store."""

from __future__ import annotations

import threading
from typing import Any

import ray
from ray import exceptions

from cloche.errors import ClocheError

__all__ = ["ObjectStore"]


class ObjectStore:
    """A store for `cloche.parking` in this machine's object store, which Ray spills to disk: it takes no memory of this process.

    What is in it lives as long as this process: to outlive it, sessions belong into a `cloche.parking.FolderStore`. The methods are
    those of `cloche.parking.Store`. `ray.init` has to have been called, or a `cloche.ray.Cluster` has to be open.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refs: dict[str, Any] = {}

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._refs)

    def get(self, key: str) -> bytes | None:
        """See `cloche.parking.Store`.

        Raises:
            ClocheError: the bytes are lost: Ray was shut down since, or had no room for them.
        """
        with self._lock:
            ref = self._refs.get(key)
        if ref is None:
            return None
        self._check()
        try:
            return bytes(ray.get(ref))
        except exceptions.RayError as error:
            raise ClocheError(f"Ray has lost what was stored as {key!r}: {error}") from error

    def put(self, key: str, data: bytes) -> None:
        """See `cloche.parking.Store`.

        Raises:
            ClocheError: Ray cannot take the bytes.
        """
        self._check()
        try:
            ref = ray.put(data)
        except exceptions.RayError as error:
            raise ClocheError(f"Ray cannot store {len(data):,} bytes as {key!r}: {error}") from error
        with self._lock:
            self._refs[key] = ref

    def delete(self, key: str) -> None:
        """See `cloche.parking.Store`."""
        with self._lock:
            self._refs.pop(key, None)

    def contains(self, key: str) -> bool:
        """See `cloche.parking.Store`."""
        with self._lock:
            return key in self._refs

    def _check(self) -> None:
        if not ray.is_initialized():
            raise ClocheError("there is no connection to Ray: call ray.init, or open a cloche.ray.Cluster")
