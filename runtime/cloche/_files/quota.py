"""What one node has put into one writable mount."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloche.mounts import Mount

__all__ = ["Key", "Quota", "refusal"]

_MAX_CHARGED: Final = 10_000
"""Files that are kept account of. What more of them grow by is not given back."""

Key = tuple[int, int]
"""A file on the host: device and inode."""


def refusal(code: int) -> OSError:
    """An error that carries a number and nothing of the host."""
    return OSError(code, "")


class Quota:
    """Holds `Mount.quota_bytes` and `Mount.max_files`.

    Growth of any file is charged, to that file; when it shrinks or goes, what was charged is given back, and no more. So a node
    cannot make room by emptying what the host has put there, and may rewrite a file as often as it likes.
    """

    __slots__ = ("_bytes", "_charged", "_files", "_made")

    def __init__(self, mount: Mount) -> None:
        self._bytes = mount.quota_bytes
        self._files = mount.max_files
        self._made: set[Key] = set()
        self._charged: dict[Key, int] = {}

    @property
    def room(self) -> int:
        """Bytes that may still be added."""
        return max(0, self._bytes)

    def check_file(self) -> None:
        """Raises:
        OSError: EDQUOT; the node may make no more files.
        """
        if len(self._made) >= self._files:
            raise refusal(errno.EDQUOT)

    def made(self, key: Key) -> None:
        """The node has made a file or a folder."""
        self._made.add(key)

    def grown(self, key: Key, count: int) -> None:
        """A file has become larger, by `room` at most."""
        self._bytes -= count
        if key in self._charged or len(self._charged) < _MAX_CHARGED:
            self._charged[key] = self._charged.get(key, 0) + count

    def shrunk(self, key: Key, count: int) -> None:
        """A file has become smaller."""
        back = min(count, self._charged.get(key, 0))
        if back:
            self._charged[key] -= back
            self._bytes += back

    def gone(self, key: Key) -> None:
        """A file or folder is no more, on the disk either."""
        self._made.discard(key)
        self._bytes += self._charged.pop(key, 0)
