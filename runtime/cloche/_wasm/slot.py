"""One guest of the native core: a store with the image instantiated, and the words of memory that Python and the core share."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Final, Protocol

from cloche._wasm.core import WORDS, Status, core
from cloche._wasm.scarce import no_thread, refused, shortage
from cloche.errors import ClocheError, ClosedError, InternalError, ProtocolError

__all__ = ["HasImage", "Slot"]

_UNLIMITED: Final = 4096 << 20
"""Limit of linear memory in bytes, when none is set: all that 32-bit addresses reach."""


class HasImage(Protocol):
    """The part of `cloche._wasm.engine.Engine` that a guest depends on."""

    @property
    def image_address(self) -> int:
        """Address of the ``struct cloche_image`` from which guests are made. It is valid as long as the engine lives."""


class Slot:
    """One guest of the core, freed by `close` or with the last reference to this object.

    An instance refers to its slot, and so does every view of the guest's memory that may outlive the instance.

    Args:
        engine: the engine whose image is instantiated; kept alive by the slot.

    Attributes:
        handle: the number by which the core knows the guest.
        words: view of the 64-bit unsigned numbers that Python and the core share, indexed by `cloche._wasm.core.Word`.

    Raises:
        ClocheError: this process has no memory or address space left.
    """

    __slots__ = ("__weakref__", "_engine", "_free", "_words_at", "handle", "words")

    def __init__(self, engine: HasImage) -> None:
        # without this reference the engine may be freed while the guest still uses its code
        self._engine = engine
        self.handle = ctypes.c_uint64()
        self._words_at = ctypes.c_uint64()
        self._free = core().free
        status = core().new(engine.image_address, _UNLIMITED, ctypes.byref(self.handle), ctypes.byref(self._words_at))
        if status:
            failure = self.failure(status)
            self.close()  # now, and not when nobody holds the error any more
            raise failure
        self.words: Any = memoryview((ctypes.c_uint64 * WORDS).from_address(self._words_at.value)).cast("B").cast("Q")

    def failure(self, status: int) -> ClocheError:
        """The error for a negative status of the core (`cloche._wasm.core.Status`): the guest has not run."""
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
                return refused("this process has no memory or address space left for a sandbox", shortage())
            case Status.NO_THREAD:
                return no_thread("to keep deadlines", OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
            case Status.ENGINE_FAILED:
                reason = " ".join((self.message() or "no reason given").split())
                return refused(f"wasmtime could not make a sandbox ({reason})", shortage())
            case Status.REFUSED:
                return ProtocolError("the image's log ring, or its notice, lies outside of its memory")
            case _:
                return InternalError(f"the native core answered {status}")

    def message(self) -> str:
        """The engine's own text about the guest's last failure, of at most 256 bytes."""
        room = ctypes.create_string_buffer(256)
        length = core().message(self.handle.value, room, len(room))
        return room.raw[:length].decode(errors="replace")

    def close(self) -> None:
        """Free the guest now. Calling it again does nothing."""
        try:
            self._free(self.handle.value)
        except ctypes.ArgumentError:  # ctypes makes it of a RecursionError: see `core._raising_recursion_error`
            raise RecursionError("maximum recursion depth exceeded") from None

    def __del__(self) -> None:
        if hasattr(self, "_free") and self.handle.value:
            self._free(self.handle.value)
