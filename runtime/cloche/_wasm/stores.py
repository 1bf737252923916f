"""Reuse of stores: the store of a closed instance is made pristine and given to the next instance.

Most of the time that a new sandbox costs is spent in the kernel: it maps the image, handles a fault and supplies a page for each
page that the guest writes, and takes everything back at the end. So `StorePool` keeps a store whose guest ended at rest. The kernel
knows which pages that guest wrote (`Memory.dirty_runs`); the pool overwrites each with the image's page, and nothing of the guest
remains. A store whose guest was stopped, trapped, exited or grew its memory is freed at once, and so is every store beyond `KEPT`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from cloche._wasm.core import Word, core
from cloche._wasm.mappings import MappingGuard
from cloche._wasm.memory import Memory
from cloche._wasm.slot import HasImage, Slot
from cloche.errors import ClocheError

__all__ = ["StorePool"]

_guard: Final = MappingGuard()
KEPT: Final = 8
"""Number of idle stores that an engine keeps at most: about 0.7 MB each."""
_RESET: Final = (
    Word.DEADLINE_NS,
    Word.CLOCK_MODE,
    Word.SEEDED,
    Word.DRAWN,
    Word.GRANTED,
    Word.ACCOUNT,
    Word.JOURNAL_MODE,
    Word.SAMPLER,
)
"""What a guest without grants, clock, recording and sampler finds at 0."""


class StorePool:
    """The idle stores of one engine, each as pristine as a new one. Thread-safe.

    Args:
        engine: the engine whose image the stores instantiate.
    """

    def __init__(self, engine: HasImage) -> None:
        self._engine = engine
        self._idle: deque[Slot] = deque()
        self._image: Memory | None = None
        self._closed = False

    def __len__(self) -> int:
        """Number of idle stores."""
        return len(self._idle)

    def take(self) -> Slot:
        """An idle store, or a new one if none is idle.

        Raises:
            ClocheError: this process has no memory or address space left for a new store.
        """
        try:
            return self._idle.pop()
        except IndexError:
            _guard.check(core().count_guests())
            return Slot(self._engine)

    def release(self, slot: Slot, memory: Memory) -> bool:
        """Make a store pristine and keep it.

        Args:
            slot: the store, whose guest runs no more.
            memory: its linear memory.

        Returns:
            False if the store was not kept: the caller frees it.
        """
        if self._closed or len(self._idle) >= KEPT or not core().is_clean(slot.handle.value):
            return False
        image = self.pristine()
        if memory.size != image.size:
            return False
        try:
            memory.reset(image)
        except (OSError, ClocheError):  # without the kernel's pagemap nobody knows which pages the guest wrote
            return False
        for word in _RESET:
            slot.words[word] = 0
        self._idle.append(slot)
        return True

    def pristine(self) -> Memory:
        """The linear memory of a store whose guest never runs: the image's own bytes. It lives while the caller refers to it."""
        image = self._image
        if image is None:
            image = self.unused()
            if not self._closed:
                self._image = image
        return image

    def unused(self) -> Memory:
        """The linear memory of a new store whose guest never runs, for the caller alone. It lives while the caller refers to it.

        Raises:
            ClocheError: this process has no memory or address space left for a new store.
        """
        return Memory(Slot(self._engine))

    def close(self) -> None:
        """Free the idle stores, and keep none from now on."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread has taken the last store since the test above
                break
        self._image = None  # freed with its last reference: another thread may be reading it
