"""Which pages of memory this process has written to, as the kernel knows.

The image is mapped copy on write: a page that was written to has become anonymous memory, which the kernel's pagemap tells from
mapped ones (Documentation/admin-guide/mm/pagemap.rst: bit 61 file-mapped, 62 swapped, 63 present). Linux 6.7 and later answer the
question itself (the ioctl PAGEMAP_SCAN there), in half the time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from array import array
from typing import Final

from cloche._wasm.scarce import EXHAUSTED_ERRNOS, out_of_resources
from cloche.errors import ClocheError

__all__ = ["PAGE_BYTES", "dirty_runs", "keep_open", "parsed", "scanned"]

PAGE_BYTES: Final = 4096
"""Unit of the runs, and of a snapshot, on every machine: the kernel's own pages are of 4, 16 or 64 KiB."""
# Flags of a page in the highest byte of its pagemap entry: 0x80 present, 0x40 swapped, 0x20 file-mapped.
_IS_DIRTY: Final = bytes(bool(flags & 0xC0 and not flags & 0x20) for flags in range(256))
_PAGEMAP_SCAN: Final = 0xC060_6610
# size, flags, start, end, out: where it stopped, array, its length, pages, inverted, wanted, any wanted, returned (linux/fs.h)
_SCAN: Final = struct.Struct("<12Q")
_FILE, _PRESENT, _SWAPPED = 1 << 2, 1 << 3, 1 << 4
_REGIONS: Final = 512
"""Runs that one PAGEMAP_SCAN finds."""

_kept = -1


def keep_open() -> None:
    """Open the pagemap and keep it open.

    For a worker process, which soon gives up the right to open files. It never forks: a child would read its parent's pagemap.
    """
    global _kept
    _kept = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)


def dirty_runs(start: int, size: int) -> list[tuple[int, int]]:
    """The runs of pages that were written to, as pairs of (first page, number of pages), in pages of PAGE_BYTES, ascending.

    Args:
        start: address of the memory in this process, where a page begins.
        size: its bytes.

    Raises:
        ClocheError: the pagemap cannot be read.
    """
    if _kept >= 0:
        return _runs(_kept, start, size)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            return _runs(file.fileno(), start, size)
    except OSError as error:
        if error.errno in EXHAUSTED_ERRNOS:
            raise out_of_resources("to look at a guest's memory", error) from error
        raise ClocheError(
            f"the kernel does not let this process see its own page map ({error}): it is needed for snapshots. A process that has "
            "changed its user cannot see it: change the user before Python starts"
        ) from error


def _runs(file: int, start: int, size: int) -> list[tuple[int, int]]:
    try:
        return scanned(file, start, size)
    except OSError:  # an older kernel; or a worker process, whose filter of system calls allows no ioctl
        first, count = start // mmap.PAGESIZE, size // mmap.PAGESIZE
        return parsed(os.pread(file, 8 * count, 8 * first), mmap.PAGESIZE)


def scanned(file: int, start: int, size: int) -> list[tuple[int, int]]:
    """What `dirty_runs` returns, from the ioctl PAGEMAP_SCAN.

    Args:
        file: descriptor of the pagemap.
        start: see `dirty_runs`.
        size: see there.

    Raises:
        OSError: the kernel does not have it, or does not allow it.
    """
    runs: list[tuple[int, int]] = []
    regions = array("Q", bytes(24 * _REGIONS))  # start, end, categories
    at, end = start, start + size
    while at < end:
        question = bytearray(
            _SCAN.pack(
                *(_SCAN.size, 0, at, end, 0, regions.buffer_info()[0], _REGIONS, 0),
                *(_FILE, _FILE, _PRESENT | _SWAPPED, 0),
            )
        )
        found = 3 * fcntl.ioctl(file, _PAGEMAP_SCAN, question)
        for first, last in zip(regions[0:found:3], regions[1:found:3], strict=True):
            runs.append(((first - start) // PAGE_BYTES, (last - first) // PAGE_BYTES))
        at = _SCAN.unpack(question)[4]
    return runs


def parsed(pagemap: bytes, kernel_page: int) -> list[tuple[int, int]]:
    """What `dirty_runs` returns, from the entries of the pagemap.

    Args:
        pagemap: eight bytes for each page of the kernel, from the first page of the memory.
        kernel_page: bytes of one of those.
    """
    times = kernel_page // PAGE_BYTES
    marks = pagemap[7::8].translate(_IS_DIRTY)  # the highest byte of each little-endian entry
    runs = []
    start = marks.find(1)  # four times as fast as a regular expression
    while start >= 0:
        end = marks.find(0, start)
        if end < 0:
            end = len(marks)
        runs.append((start * times, (end - start) * times))
        start = marks.find(1, end)
    return runs
