"""The image's own memcpy, memmove and memset (wasm/shim/mem.c), as Python's byte operations call them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

MOVES = """
SIZES = [*range(0, 140), 191, 192, 193, 255, 256, 257, 1000, 4096]

def copies(shift):
    room = bytearray(i * 7 + (i >> 8) & 255 for i in range(12000))
    for n in SIZES:
        for at in (0, 1, 3, 8, 15):
            before = bytes(room)
            view = memoryview(room)
            view[2000 + shift + at : 2000 + shift + at + n] = view[2000 + at : 2000 + at + n]
            view.release()
            want = [*before]
            for i in range(n):
                want[2000 + shift + at + i] = before[2000 + at + i]
            if room != bytes(want):
                return n, at
    return None

def fills(_):
    for n in SIZES:
        for at in range(17):
            for byte in (0, 1, 0x80, 0xFF):
                made = (b"<" * at + b">").center(2 * n + at + 1, bytes([byte]))
                if made[:n] + made[n + at + 1 :] != bytes([byte for _ in range(2 * n)]) or made[n : n + at + 1] != b"<" * at + b">":
                    return n, at, byte
    return None
"""


def test_every_length_and_overlap_moves_right(load, thorough):
    """Apart, and overlapping upwards and downwards by less than one vector, one block and more."""
    node = load(MOVES, "copies")
    shifts = (4500, 1, -1, 7, -7, 16, -16, 63, -63, 64, -64, 300, -300) if thorough else (4500, 7, -7, -64, 300)
    assert {shift: node.process(shift) for shift in shifts} == dict.fromkeys(shifts)


def test_every_length_fills_right_and_no_further(load):
    """Both ends of what is filled stay as they were."""
    assert load(MOVES, "fills").process(None) is None
