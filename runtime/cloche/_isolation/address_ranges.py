"""The ranges of guest memory that came along with an answer."""

from __future__ import annotations

from cloche._isolation.protocol import RANGE

__all__ = ["NO_RANGES", "Ranges"]


class Ranges:
    """What lies in the ranges of guest memory that an answer names.

    They are looked for in the order in which the answer names them, which is that of the table: one comparison each. The first
    that is not next makes an index of the whole table, about 15 times as large as the table.

    Args:
        table: entries of RANGE; each lies in `view`.
        view: what the host and the worker share. It may change while it is read.
    """

    __slots__ = ("_index", "_next", "_table", "_view")

    def __init__(self, table: bytes, view: memoryview) -> None:
        self._table = table
        self._view = view
        self._next = 0
        self._index: dict[tuple[int, int], int] | None = None

    def find(self, address: int, length: int) -> memoryview | None:
        """What lies there; None if it did not come along."""
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
