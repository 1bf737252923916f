"""What one node has put into one writable mount."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloche._mount import Mount

__all__ = ["Key", "Ledger", "refusal"]

Key = tuple[int, int]
"""A file on the host: device and inode."""


def refusal(code: int) -> OSError:
    """An error that carries a number and nothing of the host."""
    return OSError(code, "")


class Ledger:
    """Holds `Mount.quota_bytes` and `Mount.max_files`.

    Growth of any file is charged; only what the node has made itself is given back when it shrinks or goes. So the ledger has at
    most `max_files` entries, and a node cannot make room by emptying what the host has put there.
    """

    __slots__ = ("_bytes", "_files", "_made")

    def __init__(self, mount: Mount) -> None:
        self._bytes = mount.quota_bytes
        self._files = mount.max_files
        self._made: dict[Key, int] = {}

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
        self._made[key] = 0

    def grown(self, key: Key, count: int) -> None:
        """A file has become larger, by `room` at most."""
        self._bytes -= count
        if key in self._made:
            self._made[key] += count

    def shrunk(self, key: Key, count: int) -> None:
        """A file has become smaller."""
        back = min(count, self._made.get(key, 0))
        if back:
            self._made[key] -= back
            self._bytes += back

    def gone(self, key: Key) -> None:
        """A file or folder is no more, on the disk either."""
        self._bytes += self._made.pop(key, 0)
