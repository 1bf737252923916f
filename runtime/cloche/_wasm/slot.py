"""One guest of the native core: a store with the image instantiated, and the words that Python and the core share of it."""

from __future__ import annotations

import ctypes
from typing import Any, Final, Protocol

from cloche._wasm.core import WORDS, Status, core
from cloche.errors import ClocheError, ClosedError, InternalError, ProtocolError

__all__ = ["HasImage", "Slot"]

_UNLIMITED: Final = 4096 << 20


class HasImage(Protocol):
    """The engine, as far as a guest depends on it."""

    @property
    def image_address(self) -> int:
        """Address of the image's ``struct cloche_image``, which the engine keeps alive."""


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

    def __init__(self, engine: HasImage) -> None:
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
