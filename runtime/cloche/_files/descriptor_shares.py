"""The part of the process's file descriptors that nodes may hold through their mounts.

A process has a number of descriptors, often 1,024, for everything that it does. Nodes share half of them, first come, first
served. When that half is used up, a node that holds few may still open some, out of another quarter, so that greedy nodes don't
keep the others from their files. The last quarter is never the nodes'.
"""

from __future__ import annotations

import errno
import sys
import weakref
from collections.abc import Callable
from typing import Final

from cloche._files.quota import refusal
from cloche.errors import ClocheError

__all__ = ["FEW", "Account", "Share", "account"]

FEW: Final = 8
"""Descriptors that a node may hold when all nodes together hold their half already."""
_PLENTY: Final = 1 << 20
"""Where the system sets no limit."""


def _process_limit() -> int:
    if sys.platform == "win32":
        return 512  # of the C library's table
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _PLENTY if soft == resource.RLIM_INFINITY else min(soft, _PLENTY)


class Share:
    """What one node holds.

    Attributes:
        used: descriptors; kept up to date by the node's handler alone.
    """

    __slots__ = ("__weakref__", "used")

    def __init__(self) -> None:
        self.used = 0


class Account:
    """What all nodes hold: a sum over the shares that live, so that no interrupt can make it wrong. Thread-safe.

    Args:
        limit: how many descriptors the process may have, asked each time.
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
            except RuntimeError:  # another thread has just added one
                continue

    def open(self, mounts: int) -> Share:
        """A share for a node with so many mounts, each of which holds a descriptor.

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
        """Refuse a node that would hold more than it may.

        Raises:
            OSError: EMFILE.
        """
        quarter, used = self.limit() // 4, self.used + more
        if used > quarter * (3 if share.used + more <= FEW else 2):
            raise refusal(errno.EMFILE)


account: Final = Account()
