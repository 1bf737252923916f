"""Ranges of guest memory that a worker sent along with an answer."""

from __future__ import annotations

from cloche._isolation.protocol import RANGE

__all__ = ["NO_RANGES", "Ranges"]


class Ranges:
    """Copies of the guest memory that an answer refers to, by address.

    An honest worker sends the ranges in the order in which they are looked up: one comparison each. The first lookup out of order
    builds an index of the whole table, which takes about 15 times the table's memory.

    Args:
        table: entries of RANGE; each range lies within `view`.
        view: memory shared with the worker, which may change it at any time.
    """

    __slots__ = ("_index", "_next", "_table", "_view")

    def __init__(self, table: bytes, view: memoryview) -> None:
        self._table = table
        self._view = view
        self._next = 0
        self._index: dict[tuple[int, int], int] | None = None

    def find(self, address: int, length: int) -> memoryview | None:
        """The bytes of a range; None if the worker did not send it."""
        index = self._index
        if index is None:
            at = self._next
            if at < len(self._table):
                start, size, offset = RANGE.unpack_from(self._table, at)
                if start == address and size == length:
                    self._next = at + RANGE.size
                    return self._view[offset : offset + length]
            index = {(start, size): offset for start, size, offset in RANGE.iter_unpack(self._table)}
            self._index = index
        found = index.get((address, length))
        return None if found is None else self._view[found : found + length]


NO_RANGES = Ranges(b"", memoryview(b""))
