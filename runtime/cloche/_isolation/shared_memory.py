"""Shared memory between the host and one worker. Its size is sealed: a worker that shrank it would crash the host."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

from cloche._isolation.descriptors import Descriptor, memory_file
from cloche._wasm.scarce import nothing_left

__all__ = ["SharedMemory", "attach", "create"]

_SEALS: Final = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW (fcntl(2))
_F_ADD_SEALS: Final = 1033
_SMALLEST: Final = 256 * 1024


class SharedMemory:
    """A mapping of shared memory, unmapped when the last view of it has gone.

    What it holds may change while it is read: copy first, then look.

    Attributes:
        view: all of it, writable.
        size: in bytes.
    """

    __slots__ = ("size", "view")

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.view = memoryview(mmap.mmap(descriptor, size))


def create(size: int, *, exact: bool = False) -> tuple[SharedMemory, Descriptor]:
    """Make an area, and the descriptor that the other side needs for it: close it once it is sent.

    Args:
        size: bytes that it must hold.
        exact: whether it is for this one use only; otherwise it is rounded up, so that it seldom has to grow.

    Raises:
        ClocheError: the system has no memory, no address space or no descriptor for it.
    """
    if not exact:
        size = max(_SMALLEST, 1 << (size - 1).bit_length())
    try:
        return _create(size)
    except OSError as error:
        raise nothing_left(f"for the {size} bytes that it shares with a worker process", error) from error


def _create(size: int) -> tuple[SharedMemory, Descriptor]:
    descriptor = memory_file()
    try:
        descriptor.truncate(size)
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
        return SharedMemory(descriptor.fileno(), size), descriptor
    except BaseException:
        descriptor.close()
        raise


def attach(descriptor: int, size: int) -> SharedMemory:
    """Map what the other side made, and close the descriptor."""
    try:
        return SharedMemory(descriptor, size)
    finally:
        os.close(descriptor)
