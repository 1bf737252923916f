"""`Quota`: how much one node may add to one writable mount, and how much it has added."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche.mounts import Mount

__all__ = ["Key", "Quota", "refusal"]

_MAX_CHARGED: Final = 10_000
"""Files whose growth is remembered by file. The growth of further files counts, but is not given back when they shrink."""

_LEFT: Final = struct.Struct("<q")  # bytes that are left
_ROW: Final = struct.Struct("<QQq?")  # device, inode, bytes charged, whether the node has made it

Key = tuple[int, int]
"""Identity of a file on the host: device and inode."""


def refusal(code: int) -> OSError:
    """An OSError with an errno and no text: texts of the host must not reach a guest."""
    return OSError(code, "")


class Quota:
    """Keeps one node within `Mount.quota_bytes` and `Mount.max_files`.

    When a file grows, the growth is charged to that file. When the file shrinks or is removed, at most what was charged to it is
    given back. So a node can rewrite its own files any number of times, but gains nothing by emptying files that the host has put
    there.
    """

    __slots__ = ("_bytes", "_charged", "_files", "_made")

    def __init__(self, mount: Mount) -> None:
        self._bytes = mount.quota_bytes
        self._files = mount.max_files
        self._made: set[Key] = set()
        self._charged: dict[Key, int] = {}

    @property
    def room(self) -> int:
        """Bytes that the node may still add; never negative."""
        return max(0, self._bytes)

    def check_file(self) -> None:
        """Refuse to create another file or folder beyond `max_files`.

        Raises:
            OSError: EDQUOT.
        """
        if len(self._made) >= self._files:
            raise refusal(errno.EDQUOT)

    def made(self, key: Key) -> None:
        """Count a file or folder that the node has created."""
        self._made.add(key)

    def grown(self, key: Key, count: int) -> None:
        """Charge growth of a file by `count` bytes; the caller has checked `room`."""
        self._bytes -= count
        if key in self._charged or len(self._charged) < _MAX_CHARGED:
            self._charged[key] = self._charged.get(key, 0) + count

    def shrunk(self, key: Key, count: int) -> None:
        """Give back what was charged to a file, if it has shrunk by `count` bytes."""
        back = min(count, self._charged.get(key, 0))
        if back:
            self._charged[key] -= back
            self._bytes += back

    def packed(self) -> bytes:
        """What the node has added, for `go_on_with`."""
        keys = self._made | self._charged.keys()
        rows = (_ROW.pack(*key, self._charged.get(key, 0), key in self._made) for key in keys)
        return _LEFT.pack(self._bytes) + b"".join(rows)

    def go_on_with(self, packed: bytes) -> None:
        """Count what the node had added in an earlier sandbox, of which `packed` may be a stranger's.

        Raises:
            ValueError: it is malformed.
        """
        if len(packed) < _LEFT.size or (len(packed) - _LEFT.size) % _ROW.size:
            raise ValueError("the quota of a mount is malformed")
        self._bytes = min(self._bytes, *_LEFT.unpack_from(packed))
        for device, inode, charged, was_made in _ROW.iter_unpack(packed[_LEFT.size :]):
            key = device, inode
            if was_made:
                self._made.add(key)
            if charged and len(self._charged) < _MAX_CHARGED:
                self._charged[key] = max(0, charged)

    @property
    def is_untouched(self) -> bool:
        """Whether the node has added nothing."""
        return not (self._made or self._charged)

    def gone(self, key: Key) -> None:
        """Give back what was charged to a file or folder that no longer exists on disk."""
        self._made.discard(key)
        self._bytes += self._charged.pop(key, 0)
