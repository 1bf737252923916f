"""Parked nodes, stores for them, and `Sessions`: one node for each of very many users, of which the idle ones are parked.

The names are those of the field: a *session* is the state of one user between requests (web frameworks), kept in a *store* (theirs,
too) under a *key*. That an idle one is written out and brought back on demand is what actor frameworks call passivation.
"""

from cloche._runtime.parked import Parked
from cloche.parking.sessions import Sessions, SessionStats
from cloche.parking.stores import FolderStore, MappingStore, MemoryStore, Store

__all__ = [
    "FolderStore",
    "MappingStore",
    "MemoryStore",
    "Parked",
    "SessionStats",
    "Sessions",
    "Store",
]
