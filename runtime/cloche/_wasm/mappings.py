"""`MappingGuard`: refuses a sandbox before the process runs out of mappings (vm.max_map_count).

At the limit, more fails than a new sandbox: to stop a guest, the core makes one page inaccessible, which splits a mapping in two.
So a reserve is kept, and the nodes that there are keep their deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cloche._wasm.scarce import count_mappings, mappings, most_mappings, refused

__all__ = ["MappingGuard"]

_FOR_EACH: Final = 4
"""Mappings that a sandbox takes at most, rounded up."""


class MappingGuard:
    """Counts the mappings of this process, rarely: only once there are so many sandboxes that the limit may be near.

    Args:
        most: returns the kernel's limit, or None.
        count: returns the number of mappings, or None.
    """

    def __init__(
        self, most: Callable[[], int | None] = most_mappings, count: Callable[[], int | None] = count_mappings
    ) -> None:
        self._most = most
        self._count = count
        self._safe: float = 0

    def check(self, sandboxes: int) -> None:
        """Check that there is room for one more sandbox.

        Args:
            sandboxes: number of sandboxes that this process has.

        Raises:
            ClocheError: it has too many mappings already. `ClocheError.limit` is "vm.max_map_count".
        """
        if sandboxes < self._safe:
            return
        most, count = self._most(), self._count()
        if most is None or count is None:
            self._safe = float("inf")
            return
        left = most - count - reserve(most)
        if left < _FOR_EACH:
            raise refused("this process has no room for another sandbox", mappings(count, most))
        self._safe = sandboxes + max(1, left // (2 * _FOR_EACH))


def reserve(most: int) -> int:
    """Mappings that are kept for the nodes that there are, and for the rest of the program.

    Args:
        most: the kernel's limit.
    """
    return most // 32
