"""What an instance lives in: a store with the image instantiated, at rest. A closed one is made pristine and used again.

Most of the price of a new sandbox is the kernel's: mapping the image, a fault and a fresh page for each page that is written, and
giving all of it back. A store whose guest ended at rest is worth keeping: the pages that it wrote to (the kernel knows
which, see `Memory.dirty_runs`) are overwritten with the image's own, and nothing of its guest is left. A store whose guest
was stopped, trapped, exited or grew its memory is freed at once, as is every store beyond a few.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloche._wasm.core import WORDS, Status, Word, core
from cloche._wasm.memory import Memory
from cloche.errors import ClocheError, ClosedError, InternalError, ProtocolError

if TYPE_CHECKING:
    from cloche._wasm.engine import Engine

__all__ = ["Slot", "StorePool"]

KEPT: Final = 8
"""Idle stores that an engine keeps: about 0.7 MB each."""
_UNLIMITED: Final = 4096 << 20


class Slot:
    """One guest of the core. It is freed when its last user lets go of it: its instance, or a view of its memory.

    Args:
        engine: whose image to instantiate.

    Attributes:
        handle: the core's, as the core has written it; 0 once freed.
        words: what Python and the core share (`Word`), as unsigned numbers.

    Raises:
        ClocheError: no memory, or no address space, is left in this process.
    """

    __slots__ = ("__weakref__", "_engine", "_free", "_words_at", "handle", "words")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine  # the guests of an image use what the engine owns
        self.handle = ctypes.c_uint64()
        self._words_at = ctypes.c_uint64()
        self._free = core().free
        status = core().new(engine.image_address, _UNLIMITED, ctypes.byref(self.handle), ctypes.byref(self._words_at))
        if status:
            raise self.failure(status)
        self.words: Any = memoryview((ctypes.c_uint64 * WORDS).from_address(self._words_at.value)).cast("B").cast("Q")

    def failure(self, status: int) -> ClocheError:
        """The error for a status of the core that says that the guest has not run."""
        match status:
            case Status.NO_GUEST:
                return ClosedError("the sandbox has been freed")
            case Status.OTHER_PROCESS:
                return ClocheError(
                    "the node was in a call of the parent process when this process was forked: load it here, after the fork"
                )
            case Status.BUSY:
                return ClocheError("the sandbox is in a call of another thread or greenlet")
            case Status.NO_MEMORY:
                return ClocheError(
                    "this process has no memory or address space left for another sandbox (each reserves 4 GiB of address "
                    "space): close nodes, or raise its limit (ulimit -v)"
                )
            case Status.ENGINE_FAILED:
                return ClocheError(
                    f"wasmtime could not make a sandbox ({self.message() or 'no reason given'}): if memory or address space has "
                    "run out, close nodes, or raise the limit (ulimit -v)"
                )
            case Status.REFUSED:
                return ProtocolError("the image's log ring, or its notice, lies outside of its memory")
            case _:
                return InternalError(f"the native core answered {status}")

    def message(self) -> str:
        """What the engine said about the last failure."""
        room = ctypes.create_string_buffer(256)
        length = core().message(self.handle.value, room, len(room))
        return room.raw[:length].decode(errors="replace")

    def close(self) -> None:
        """Free it now. Calling it again does nothing."""
        try:
            self._free(self.handle.value)
        except ctypes.ArgumentError:  # as in `core._translating`
            raise RecursionError("maximum recursion depth exceeded") from None

    def __del__(self) -> None:
        if hasattr(self, "_free") and self.handle.value:
            self._free(self.handle.value)


class StorePool:
    """The idle stores of one engine, each as pristine as a new one. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
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
