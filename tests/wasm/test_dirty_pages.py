"""Which pages a guest has written to, from the kernel's pagemap: in pages of 4 KiB, however large the kernel's own are."""

from __future__ import annotations

import struct

import pytest

from cloche._wasm.memory import PAGE_BYTES, dirty_runs

UNTOUCHED, OF_THE_FILE, WRITTEN, SWAPPED = 0, (1 << 63) | (1 << 61), 1 << 63, 1 << 62


def pagemap(*entries: int) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries)


@pytest.mark.parametrize("kernel_page", [4096, 16384, 65536], ids=["4 KiB", "16 KiB", "64 KiB"])
def test_runs_are_in_pages_of_one_size_on_every_machine(kernel_page: int) -> None:
    """arm64 has kernels with 16 and 64 KiB; a snapshot that is made on one is restored on the others."""
    found = dirty_runs(pagemap(UNTOUCHED, WRITTEN, SWAPPED, OF_THE_FILE, WRITTEN), kernel_page)
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
    assert dirty_runs(pagemap(*entries), PAGE_BYTES) == runs
