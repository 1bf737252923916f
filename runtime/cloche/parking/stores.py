"""Stores of parked nodes: in memory, in a folder, in any mapping. Another one is a class with the four methods of `Store`."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

from cloche import _forks
from cloche._arguments import checked_count
from cloche._atomic_file import AtomicFile
from cloche._pickles import handle
from cloche._requests import hold
from cloche.errors import ClocheError

__all__ = ["FolderStore", "MappingStore", "MemoryStore", "Store"]

SESSION: Final = "session/"
TEMPLATE: Final = "template/"
"""How the keys begin under which `Sessions` keep a session, and the template that sessions are differences from."""
_SUFFIXES: Final = {SESSION: ".parked", TEMPLATE: ".template"}


@runtime_checkable
class Store(Protocol):
    """Keeps bytes under keys. Its methods may be called by several threads at once, but never for one key.

    An exception of `put` costs nothing: the node stays awake. What a store returns is checked as a stranger's bytes.
    """

    def get(self, key: str) -> bytes | None:
        """The bytes under a key; None if there are none."""

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key, in place of earlier ones: all or nothing."""

    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""

    def contains(self, key: str) -> bool:
        """Whether there are bytes under a key."""


class MappingStore:
    """A store in a mapping of text to bytes: a dict, or a client of a key-value store that behaves like one.

    Args:
        mapping: the mapping, whose single operations must be safe on several threads, as a dict's are.
    """

    def __init__(self, mapping: MutableMapping[str, bytes]) -> None:
        self._mapping = mapping

    def get(self, key: str) -> bytes | None:
        """See `Store`."""
        return self._mapping.get(key)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self._mapping[key] = data

    def delete(self, key: str) -> None:
        """See `Store`."""
        self._mapping.pop(key, None)

    def contains(self, key: str) -> bool:
        """See `Store`."""
        return key in self._mapping


class MemoryStore:
    """A store in this process's memory, with a bound. Thread-safe.

    Beyond the bound, the sessions that were used longest ago go to the store `overflow`, or without one are dropped: they begin
    anew. `dropped` counts those. Templates, without which no session of theirs can be woken, stay, and are in the next store at
    once.

    Args:
        max_bytes: bytes that keys and values may take together; None: no bound. Python's own objects add some 250 bytes for each.
        overflow: the next store, such as a `FolderStore`; None: there is none.

    Raises:
        TypeError: `max_bytes` is not a whole number.
        ValueError: it is less than 1.
    """

    def __init__(self, max_bytes: int | None = None, *, overflow: Store | None = None) -> None:
        self._most = None if max_bytes is None else checked_count("max_bytes", max_bytes)
        self._overflow = overflow
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self.dropped = 0
        """Sessions that were dropped for lack of room."""
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Get a lock that no thread of the parent process holds."""
        self._lock = threading.RLock()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            handle("a MemoryStore", "give the other process a FolderStore, or a store of yours that both can reach")
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys and values."""
        return self._size

    def __len__(self) -> int:
        """Number of entries in memory."""
        return len(self._entries)

    def get(self, key: str) -> bytes | None:
        """See `Store`."""
        data = hold(self._lock, self._used, key)
        return data if data is not None or self._overflow is None else self._overflow.get(key)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        hold(self._lock, self._put, key, data)

    def delete(self, key: str) -> None:
        """See `Store`."""
        hold(self._lock, self._take, key)
        if self._overflow is not None:
            self._overflow.delete(key)

    def contains(self, key: str) -> bool:
        """See `Store`."""
        return key in self._entries or (self._overflow is not None and self._overflow.contains(key))

    def flush(self) -> None:
        """Move all sessions to the next store, so that they outlive the process. Without one it does nothing.

        Raises:
            Exception: what the next store raises; what has not been moved is still here.
        """
        if self._overflow is not None:
            hold(self._lock, self._shrink, 0, None)

    def _used(self, key: str) -> bytes | None:
        data = self._entries.get(key)
        if data is not None:
            self._entries.move_to_end(key)
        return data

    def _take(self, key: str) -> None:
        data = self._entries.pop(key, None)
        if data is not None:
            self._size -= _size_of(key, data)

    def _put(self, key: str, data: bytes) -> None:
        if key.startswith(TEMPLATE) and self._overflow is not None:
            self._overflow.put(key, data)
        if self._most is not None:
            self._shrink(self._most - _size_of(key, data), key)
            if self._size - self._kept(key) + _size_of(key, data) > self._most:
                self._put_below(key, data)
                return
        self._take(key)
        self._entries[key] = data
        self._size += _size_of(key, data)

    def _put_below(self, key: str, data: bytes) -> None:
        """Keep an entry that has no room here even if it is alone."""
        if self._overflow is None:
            raise ClocheError(
                f"an entry of {len(data)} bytes has no room in the max_bytes={self._most} of the store: raise them"
            )
        self._overflow.put(key, data)
        self._take(key)

    def _kept(self, key: str | None) -> int:
        """Bytes that an entry takes now."""
        data = None if key is None else self._entries.get(key)
        return 0 if key is None or data is None else _size_of(key, data)

    def _shrink(self, most: int, but: str | None) -> None:
        """Move out what was used longest ago, until at most so many bytes are left, not counting the entry `but`.

        Templates stay, so that more may be left.
        """
        excess = self._size - self._kept(but) - most
        going: list[str] = []
        for key, data in self._entries.items():
            if excess <= 0:
                break
            if key != but and not key.startswith(TEMPLATE):
                going.append(key)
                excess -= _size_of(key, data)
        for key in going:
            if self._overflow is not None:
                self._overflow.put(key, self._entries[key])  # first: an exception loses nothing
            else:
                self.dropped += 1
            self._take(key)


class FolderStore:
    """A store of one file for each key in a folder, which outlives the process. Files appear whole, or not at all.

    The names of the files are digests of the keys, so any text can be a key. Sessions end in ``.parked`` and may be removed while
    nobody is in them; their templates end in ``.template``. The folder is made if it is missing, for this user
    alone; it must be one that others cannot write to, or give `cloche.parking.Sessions` a `key`.

    Args:
        path: the folder.
        sync: whether each file is on the disk before it counts as written. Without it a power cut may damage the last ones, which
            are then refused; with it each takes some milliseconds more.
        max_bytes: bytes of the largest file that is written and read.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = False, max_bytes: int = 1 << 30) -> None:
        self.path = Path(path).absolute()
        """The folder."""
        self._sync = sync
        self._most = checked_count("max_bytes", max_bytes)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))

    def get(self, key: str) -> bytes | None:
        """See `Store`.

        Raises:
            ClocheError: the folder is gone, or the file is none that this store has written.
            OSError: the file cannot be read.
        """
        try:
            # O_NONBLOCK: a pipe in the place of a file would hang
            descriptor = os.open(self._file(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._check_folder()
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > self._most:
                raise ClocheError(f"{self._file(key)} is no file of {self._most} bytes at most: remove it")
            return file.read(self._most)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`.

        Raises:
            ClocheError: the folder is gone, or the bytes are more than `get` would read.
            OSError: the disk is full, or the folder cannot be written to.
        """
        path = self._file(key)
        if len(data) > self._most:
            raise ClocheError(f"{len(data)} bytes are over the max_bytes={self._most} of the store: raise them")
        try:
            self._write(path, data)
        except FileNotFoundError:
            self._check_folder()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._write(path, data)

    def delete(self, key: str) -> None:
        """See `Store`."""
        self._file(key).unlink(missing_ok=True)

    def contains(self, key: str) -> bool:
        """See `Store`."""
        return self._file(key).is_file()

    def _write(self, path: Path, data: bytes) -> None:
        with AtomicFile(path, 0o600, sync=self._sync) as file:
            file.write(data)

    def _check_folder(self) -> None:
        if not self.path.is_dir():  # or each session would silently begin anew
            raise ClocheError(f"the folder {self.path} of a store is gone: bring it back, or make a new FolderStore")

    def _file(self, key: str) -> Path:
        import hashlib  # slow to import: it loads OpenSSL

        name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        suffix = _SUFFIXES[TEMPLATE if key.startswith(TEMPLATE) else SESSION]
        return self.path / name[:2] / (name + suffix)  # in 256 folders: few file systems like a million names in one


def store_of(store: Any) -> Store:
    """The store that a caller gave: a mapping becomes one.

    Raises:
        TypeError: it is none.
    """
    if isinstance(store, MutableMapping):
        return MappingStore(store)
    if not isinstance(store, Store):
        raise TypeError(
            f"store is of type {type(store).__name__}: give a MemoryStore, a FolderStore, a mapping, or an object with the methods "
            "get, put, delete and contains"
        )
    return store


def _size_of(key: str, data: bytes) -> int:
    return len(key) + len(data)
