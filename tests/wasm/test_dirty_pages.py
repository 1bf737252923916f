"""Which pages a guest has written to, from the kernel's pagemap: in pages of 4 KiB, however large the kernel's own are."""

from __future__ import annotations

import errno
import mmap
import os
import random
import struct
import tempfile
from pathlib import Path

import pytest

from cloche._wasm import pagemap as kernel
from cloche._wasm.memory import address_of
from cloche._wasm.pagemap import PAGE_BYTES, parsed, scanned

UNTOUCHED, OF_THE_FILE, WRITTEN, SWAPPED = 0, (1 << 63) | (1 << 61), 1 << 63, 1 << 62


def pagemap(*entries: int) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries)


@pytest.mark.parametrize("kernel_page", [4096, 16384, 65536], ids=["4 KiB", "16 KiB", "64 KiB"])
def test_runs_are_in_pages_of_one_size_on_every_machine(kernel_page: int) -> None:
    """arm64 has kernels with 16 and 64 KiB; a snapshot that is made on one is restored on the others."""
    found = parsed(pagemap(UNTOUCHED, WRITTEN, SWAPPED, OF_THE_FILE, WRITTEN), kernel_page)
    assert [(first * PAGE_BYTES, count * PAGE_BYTES) for first, count in found] == [
        (kernel_page, 2 * kernel_page),
        (4 * kernel_page, kernel_page),
    ]


@pytest.mark.parametrize(
    ("entries", "runs"),
    [
        ((), []),
        ((UNTOUCHED, OF_THE_FILE), []),
        ((WRITTEN,), [(0, 1)]),
        ((WRITTEN, UNTOUCHED, WRITTEN), [(0, 1), (2, 1)]),
    ],
    ids=["empty", "clean", "all", "both ends"],
)
def test_a_run_is_what_was_written_and_nothing_else(entries: tuple[int, ...], runs: list[tuple[int, int]]) -> None:
    assert parsed(pagemap(*entries), PAGE_BYTES) == runs


def test_the_kernel_and_its_table_agree_on_many_runs() -> None:
    """More than one PAGEMAP_SCAN tells, of a mapped file and of anonymous memory: the two ways find the same pages."""
    pages, rng = 3000, random.Random(3)
    with tempfile.TemporaryFile() as file:
        file.truncate(pages * mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
    written = sorted(rng.sample(range(pages), pages // 2))
    for page in range(pages):
        assert mapped[page * mmap.PAGESIZE] == 0  # so that those that were only read are there, too
    for page in written:
        mapped[page * mmap.PAGESIZE] = 1
    start = address_of(memoryview(mapped))
    table = Path("/proc/self/pagemap").open("rb", buffering=0)  # noqa: SIM115  # closed below
    with table:
        entries = os.pread(table.fileno(), 8 * pages, 8 * (start // mmap.PAGESIZE))
        found = parsed(entries, mmap.PAGESIZE)
        try:
            runs = scanned(table.fileno(), start, pages * mmap.PAGESIZE)
        except OSError as error:
            assert error.errno in (errno.ENOTTY, errno.EPERM)  # a kernel before 6.7
            runs = found
    times = mmap.PAGESIZE // PAGE_BYTES
    each = [page for first, count in found for page in range(first, first + count)]
    assert each == [page * times + part for page in written for part in range(times)]
    assert [page for first, count in runs for page in range(first, first + count)] == each
    assert kernel.dirty_runs(start, pages * mmap.PAGESIZE) == runs
