"""`Difference`: a node's state as the words that differ from those of another snapshot, its `Base`, instead of from the image's.

Sessions that began as clones of one node are mostly alike: what is left of such a state is a third of a snapshot.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cloche._requests import hold
from cloche._sandbox.snapshot import Snapshot
from cloche._wasm import MASK_BYTES, Memory
from cloche.errors import ClocheError

if TYPE_CHECKING:
    from cloche._wasm import Engine

__all__ = ["Base", "Difference"]

_WORD_BYTES: Final = 8
_PAGE_NUMBER_BYTES: Final = 4

Columns = tuple[bytes, bytes, bytes]


class Base:
    """A snapshot that others are stored as differences from. Thread-safe.

    Args:
        snapshot: the snapshot, of the columns that `Snapshot` describes.

    Attributes:
        snapshot: the argument of that name.
        digest: its `Snapshot.memory_digest`, which names it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.digest = snapshot.memory_digest
        self._memory: Memory | None = None
        self._lock = threading.RLock()

    def memory(self, engine: Engine) -> Memory:
        """The linear memory of a store that has this state and never runs.

        Args:
            engine: the engine of all who ask, which has the snapshot's image.

        Raises:
            ClocheError: there is no memory left for one.
        """
        return self._memory or hold(self._lock, self._made, engine)

    def _made(self, engine: Engine) -> Memory:
        if self._memory is None:
            made = engine.stores.unused()
            made.grow_to(self.snapshot.memory_bytes)
            made.patch(*self.snapshot.columns)
            self._memory = made
        return self._memory


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Difference(Snapshot):
    """A snapshot whose columns say where the memory differs from that of `base`.

    Attributes:
        base: the other snapshot.

    Raises:
        ClocheError: the values do not fit together.
    """

    base: Base

    def __post_init__(self) -> None:
        Snapshot.__post_init__(self)
        if self.image != self.base.snapshot.image or self.memory_bytes < self.base.snapshot.memory_bytes:
            raise ClocheError("the state does not fit the one that it is a difference from")

    @property
    def layers(self) -> tuple[Columns, ...]:
        """See `Snapshot`."""
        return self.base.snapshot.columns, self.columns

    def whole(self) -> Snapshot:
        """The same state as a snapshot, which takes some milliseconds. Words that are again as the image's stay in its columns."""
        pages, masks, words = _merged(self.base.snapshot.columns, self.columns)
        return Snapshot(
            self.image,
            self.name,
            self.info,
            self.memory_bytes,
            pages,
            masks,
            words,
            self.request,
            self.calls,
            self.stream,
            self.outside,
        )


def _by_page(columns: Columns) -> dict[int, tuple[int, bytes]]:
    """Number of each page -> its mask as a number, and its words."""
    pages, masks, words = columns
    found, at = {}, 0
    for index, page in enumerate(memoryview(pages).cast("I")):
        mask = int.from_bytes(masks[MASK_BYTES * index : MASK_BYTES * (index + 1)], "little")
        end = at + _WORD_BYTES * mask.bit_count()
        found[page] = mask, words[at:end]
        at = end
    return found


def _merged(base: Columns, over: Columns) -> Columns:
    """The columns of a memory that `base` and then `over` were written to."""
    pages = _by_page(base)
    for page, written in _by_page(over).items():
        pages[page] = _page_merged(pages[page], written) if page in pages else written
    order = sorted(pages)
    return (
        b"".join(page.to_bytes(_PAGE_NUMBER_BYTES, "little") for page in order),
        b"".join(pages[page][0].to_bytes(MASK_BYTES, "little") for page in order),
        b"".join(pages[page][1] for page in order),
    )


def _page_merged(base: tuple[int, bytes], over: tuple[int, bytes]) -> tuple[int, bytes]:
    rows: dict[int, bytes] = {}
    for mask, words in (base, over):
        at, left = 0, mask
        while left:
            lowest = left & -left
            rows[lowest] = words[at : at + _WORD_BYTES]
            left ^= lowest
            at += _WORD_BYTES
    return base[0] | over[0], b"".join(rows[word] for word in sorted(rows))
