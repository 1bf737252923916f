"""Memory shared between the host and one worker. Its size is sealed: if a worker could shrink it, the host would crash (SIGBUS)."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from typing import Final

from cloche._isolation.descriptors import Descriptor, memory_file
from cloche._wasm import out_of_resources

__all__ = ["SharedMemory", "attach", "create", "put_columns"]

_SEALS: Final = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW (fcntl(2))
_F_ADD_SEALS: Final = 1033
_SMALLEST: Final = 256 * 1024


class SharedMemory:
    """A mapping of shared memory, unmapped when its last view is dropped.

    The other process may change the content at any time: copy first, then check the copy.

    Attributes:
        view: the whole mapping, writable.
        size: in bytes.
    """

    __slots__ = ("size", "view")

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.view = memoryview(mmap.mmap(descriptor, size))


def create(size: int, *, exact: bool = False) -> tuple[SharedMemory, Descriptor]:
    """New shared memory, and its descriptor for the other process: close the descriptor once it is sent.

    Args:
        size: bytes needed.
        exact: False rounds the size up, so that memory used repeatedly seldom has to be replaced.

    Raises:
        ClocheError: memory, address space or file descriptors have run out.
    """
    if not exact:
        size = max(_SMALLEST, 1 << (size - 1).bit_length())
    try:
        return _create(size)
    except OSError as error:
        raise out_of_resources(f"for the {size} bytes that it shares with a worker process", error) from error


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
    """Map the shared memory that the other process made, and close the descriptor."""
    try:
        return SharedMemory(descriptor, size)
    finally:
        os.close(descriptor)


def put_columns(view: memoryview, columns: Iterable[bytes]) -> None:
    """Copy the columns of a snapshot to the start of shared memory, one after the other."""
    at = 0
    for column in columns:
        view[at : at + len(column)] = column
        at += len(column)
