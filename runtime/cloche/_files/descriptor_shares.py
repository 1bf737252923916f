"""How many of the process's file descriptors nodes may hold through their mounts.

A process may have a limited number of descriptors (RLIMIT_NOFILE, often 1,024) for everything that it does. Nodes share half of
them, first come, first served. Once that half is used up, a node that holds at most FEW may still open some from a third quarter,
so that greedy nodes cannot keep others from their files. The last quarter is kept for the rest of the process.
"""

from __future__ import annotations

import errno
import sys
import weakref
from collections.abc import Callable
from typing import Final

from cloche._files.quota import refusal
from cloche.errors import ClocheError

__all__ = ["FEW", "DescriptorShares", "Share", "shares"]

FEW: Final = 8
"""Descriptors that a node may hold even when all nodes together hold half of the process's already."""
_UNLIMITED: Final = 1 << 20
"""The limit that is assumed if the system sets none."""


def _process_limit() -> int:
    if sys.platform == "win32":
        return 512  # size of the C library's table
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, _UNLIMITED)


class Share:
    """The descriptors of one node.

    Attributes:
        used: descriptors that the node holds, or may come to hold; only the node's `FileHandler` changes it.
    """

    __slots__ = ("__weakref__", "used")

    def __init__(self) -> None:
        self.used = 0


class DescriptorShares:
    """The shares of all nodes. Thread-safe.

    Usage is summed over the living shares each time, because a running total could be left wrong by an interrupt (Ctrl-C).

    Args:
        limit: returns the number of descriptors that the process may have; called at each check, since it can change.
    """

    def __init__(self, limit: Callable[[], int] = _process_limit) -> None:
        self.limit = limit
        self._shares: weakref.WeakSet[Share] = weakref.WeakSet()

    @property
    def used(self) -> int:
        """Descriptors that all nodes hold."""
        while True:
            try:
                return sum(share.used for share in self._shares)
            except RuntimeError:  # another thread has added a share during the iteration
                continue

    def open(self, mounts: int) -> Share:
        """Make a share for a node.

        Args:
            mounts: number of the node's mounts, each of which holds one descriptor.

        Raises:
            ClocheError: the nodes of this process hold three quarters of its descriptors.
        """
        share = Share()
        limit, used = self.limit(), self.used
        if used + mounts > limit // 4 * 3:
            raise ClocheError(
                f"mounts need a file descriptor each: nodes hold {used} of the {limit} that this process may have "
                "(RLIMIT_NOFILE): close nodes, or raise the limit"
            )
        share.used = mounts
        self._shares.add(share)
        return share

    def check(self, share: Share, more: int) -> None:
        """Refuse a node that is about to hold more descriptors than it may.

        Args:
            share: the node's.
            more: descriptors that it is about to open.

        Raises:
            OSError: EMFILE.
        """
        quarter, used = self.limit() // 4, self.used + more
        if used > quarter * (3 if share.used + more <= FEW else 2):
            raise refusal(errno.EMFILE)


shares: Final = DescriptorShares()
"""The shares of this process."""
