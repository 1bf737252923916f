"""`Templates`: the snapshots that parked sessions are differences from, kept in the store beside them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from cloche import _forks
from cloche._requests import hold
from cloche._sandbox import Base, Snapshot
from cloche.errors import ClocheError
from cloche.parking.stores import TEMPLATE, Store
from cloche.texts import short

__all__ = ["Templates"]

_MOST: Final = 8
"""Earlier templates that are kept in memory."""


class Templates:
    """Finds templates by their digest. Thread-safe.

    Args:
        present: with which new sessions begin. Those in a store that outlives the process may have begun with another one.
        store: keeps them.
        key: see `Sessions`.
        max_bytes: bytes that the state of one may take.
    """

    def __init__(self, present: Base, store: Store, key: bytes, max_bytes: int) -> None:
        self.present = present
        self._store = store
        self._key = key
        self._max_bytes = max_bytes
        self._stored: set[str] = set()
        self._earlier: OrderedDict[str, Base] = OrderedDict()
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Get a lock that no thread of the parent process holds."""
        self._lock = threading.RLock()

    def keep(self, base: Base) -> None:
        """Store a template, before a difference from it is stored, which is worth nothing without it."""
        if base.digest in self._stored:
            return
        place = TEMPLATE + base.digest
        if not self._store.contains(place):
            self._store.put(place, base.snapshot.to_bytes(key=self._key))
        self._stored.add(base.digest)

    def find(self, digest: str) -> Base:
        """The template of that digest.

        Raises:
            ClocheError: the store does not have it, or has something else there.
        """
        if digest == self.present.digest:
            return self.present
        base = self._earlier.get(digest)
        if base is not None:
            return base
        data = self._store.get(TEMPLATE + digest)
        if data is None:
            raise ClocheError(
                f"the store has lost the template {short(digest)} that the session began with: delete the session"
            )
        base = Base(Snapshot.from_bytes(data, key=self._key, max_bytes=self._max_bytes))
        if base.digest != digest:
            raise ClocheError(f"the template {short(digest)} in the store is another one: delete the session")
        hold(self._lock, self._add, base)
        return base

    def _add(self, base: Base) -> None:
        self._earlier[base.digest] = base
        while len(self._earlier) > _MOST:
            self._earlier.popitem(last=False)
