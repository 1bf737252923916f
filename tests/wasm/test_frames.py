"""Reading frames from hostile memory: what a walk costs the host is bounded, whatever lies there. The memory is made up."""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace

import pytest

from cloche._wasm import frames
from cloche._wasm.core import Status

NAMES = """current_frame frame_executable frame_previous frame_instr_ptr frame_owner object_type object_size code_filename code_qualname
code_firstlineno code_linetable code_instructions bytes_data text_length text_state text_ascii_data text_data""".split()
LAYOUT = {name: 4 * index for index, name in enumerate(NAMES)} | {
    "current_frame": 16, "frame_owned_by_cstack": 3, "code_type": 1, "bytes_type": 2, "text_type": 3, "text_compact_bit": 1,
    "text_ascii_bit": 2, "text_kind_shift": 2, "text_kind_mask": 7,
}  # fmt: skip
CODE, TEXT, TABLE, FRAMES = 0x100, 0x200, 0x400, 0x20000
ONE_BYTE_ENTRIES = b"\x80"


class World:
    """A guest whose frames lie 256 bytes apart; reads are counted."""

    def __init__(self, table=ONE_BYTE_ENTRIES, *, count=1, name=TEXT):
        self.memory = bytearray(1 << 18)
        self.reads = 0
        self.put(LAYOUT["current_frame"], FRAMES)
        self.put(CODE + LAYOUT["object_type"], 1)
        self.put(CODE + LAYOUT["code_filename"], TEXT)
        self.put(CODE + LAYOUT["code_qualname"], name)
        self.put(CODE + LAYOUT["code_firstlineno"], 7)
        self.put(CODE + LAYOUT["code_linetable"], TABLE)
        self.put(TEXT + LAYOUT["object_type"], 3)
        self.put(TEXT + LAYOUT["text_length"], 1)
        self.put(TEXT + LAYOUT["text_state"], 1 | 2 | 1 << 2)
        self.put(TEXT + LAYOUT["text_ascii_data"], ord("f"))
        self.memory[TABLE + LAYOUT["bytes_data"] : TABLE + LAYOUT["bytes_data"] + len(table)] = table
        self.put(TABLE + LAYOUT["object_type"], 2)
        self.put(TABLE + LAYOUT["object_size"], len(table))
        for index in range(count):
            at = FRAMES + 256 * index
            self.put(at + LAYOUT["frame_executable"], CODE)
            self.put(at + LAYOUT["frame_instr_ptr"], CODE + LAYOUT["code_instructions"])
            self.put(at + LAYOUT["frame_previous"], at + 256 if index < count - 1 else 0)

    def put(self, address, word):
        struct.pack_into("<I", self.memory, address, word & 0xFFFF_FFFF)

    def read(self, _handle, address, to, length):
        self.reads += 1
        if address + length > len(self.memory):
            return Status.REFUSED
        ctypes.memmove(to, bytes(self.memory[address : address + length]), length)
        return Status.DONE


@pytest.fixture
def walk(monkeypatch):
    """The frames of a world."""

    def walked(world):
        monkeypatch.setattr(frames, "core", lambda: world)
        return frames.python_frames(SimpleNamespace(handle=ctypes.c_uint64(1)), LAYOUT)

    return walked


def test_frames_come_with_their_lines_the_outermost_first(walk):
    """The made-up memory is read as a guest's."""
    assert walk(World(count=3)) == (frames.FrameInfo("f", 7, "f"),) * 3


@pytest.mark.parametrize("kind", ["of frames that make no sense", "of frames of C code", "of the runtime's own frames"])
def test_a_walk_in_a_circle_ends(walk, kind):
    """After a bounded number of reads: the caller waits for its error meanwhile."""
    world = World(name=0 if kind == "of frames that make no sense" else TEXT)
    world.put(FRAMES + LAYOUT["frame_previous"], FRAMES)
    if kind == "of frames of C code":
        world.put(FRAMES + LAYOUT["frame_owner"], 3)
    elif kind == "of the runtime's own frames":
        own = b"<cloche>/cloche_"
        world.put(TEXT + LAYOUT["text_length"], len(own))
        at = TEXT + LAYOUT["text_ascii_data"]
        world.memory[at : at + len(own)] = own
    assert walk(world) == ()
    assert world.reads <= frames._MAX_READS


def test_line_tables_are_looked_through_up_to_a_bound_in_all(walk, monkeypatch):
    """A hundred frames, each at the end of a table as long as any: the innermost have their lines, the others none."""
    size = 1 << 16
    world = World(ONE_BYTE_ENTRIES * size, count=100)
    for index in range(100):
        at = FRAMES + 256 * index + LAYOUT["frame_instr_ptr"]
        world.put(at, CODE + LAYOUT["code_instructions"] + 2 * (size - 1))
    walked = []
    line = frames._line

    def counting(table, first, offset):
        walked.append(len(table))
        return line(table, first, offset)

    monkeypatch.setattr(frames, "_line", counting)
    found = walk(world)
    assert len(found) == frames.MAX_FRAMES
    assert sum(walked) <= frames._MAX_WALKED_TABLE_BYTES
    assert [info.line for info in found[-2:]] == [7, 7]
    assert {info.line for info in found[:-2]} == {0}
