"""What an instance lives in: a store with the image instantiated, at rest. A closed one is made pristine and used again.

Most of the price of a new sandbox is the kernel's: mapping the image, a fault and a fresh page for each page that is written, and
giving all of it back. A store whose guest ended at rest is worth keeping: the pages that it wrote to (the kernel knows
which, see `Memory.dirty_runs`) are overwritten with the image's own, and nothing of its guest is left. A store whose guest
was stopped, trapped, exited or grew its memory is freed at once, as is every store beyond a few.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from cloche._wasm.core import Word, core
from cloche._wasm.memory import Memory
from cloche._wasm.slot import HasImage, Slot

__all__ = ["StorePool"]

KEPT: Final = 8
"""Idle stores that an engine keeps: about 0.7 MB each."""


class StorePool:
    """The idle stores of one engine, each as pristine as a new one. Thread-safe."""

    def __init__(self, engine: HasImage) -> None:
        self._engine = engine
        self._idle: deque[Slot] = deque()
        self._image: tuple[Slot, Memory] | None = None
        self._closed = False

    def take(self) -> Slot:
        """An idle store, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return Slot(self._engine)

    def release(self, slot: Slot, memory: Memory) -> bool:
        """Make a store pristine and keep it; False if it has to be freed instead."""
        if self._closed or len(self._idle) >= KEPT or not core().is_clean(slot.handle.value):
            return False
        image = self.pristine()
        if memory.size != image.size:
            return False
        try:
            memory.reset(image)
        except OSError:  # no pagemap to read
            return False
        for word in (Word.DEADLINE_NS, Word.CLOCK_MODE, Word.SEEDED, Word.DRAWN, Word.GRANTED):
            slot.words[word] = 0
        self._idle.append(slot)
        return True

    def pristine(self) -> Memory:
        """The image's memory, in a store whose guest never runs."""
        if self._image is None:
            slot = Slot(self._engine)
            self._image = slot, Memory(slot)
        return self._image[1]

    def close(self) -> None:
        """Free them all."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread has taken the last one
                break
        if self._image is not None:
            slot, memory = self._image
            self._image = None
            memory.close()
            slot.close()
