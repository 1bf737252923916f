"""A snapshot is the module as its initialiser left it, and the same each time."""

from __future__ import annotations

from typing import Any

import pytest

from imagebuild.snapshot import SnapshotError, segments, snapshot
from imagebuild.wasmfile import Module
from tests.image.modules import PAGE, image, instantiate


def test_memory_and_globals_survive(abi: dict[str, Any]) -> None:
    """The instance starts where the initialiser ended: nothing of it runs again."""
    guest = instantiate(snapshot(image(), abi).wasm, abi)
    assert guest.call("byte", 1024) == ord("A")
    assert guest.call("byte", 70000) == ord("B")
    assert guest.call("count") == -5000000000 & 0xFFFF_FFFF_FFFF_FFFF
    assert guest.exports["ratio"](guest.store) == 0.1
    assert guest.memory.size(guest.store) == 2


def test_the_stack_is_empty(abi: dict[str, Any]) -> None:
    """What lies below the stack pointer at rest is rubbish of finished calls."""
    assert instantiate(snapshot(image(), abi).wasm, abi).read(0, 1024) == bytes(1024)


def test_the_initialiser_cannot_be_called_again(abi: dict[str, Any]) -> None:
    """Its exports are gone, the others stay in their order."""
    exports = [export.name for export in Module.parse(snapshot(image(), abi).wasm).exports()]
    assert exports == ["memory", "__stack_pointer", "cloche_ring", "count", "ratio", "byte"]


def test_it_depends_on_the_module_alone(abi: dict[str, Any]) -> None:
    """Clock and random numbers are fixed while the initialiser runs: the same bytes each time."""
    assert snapshot(image(), abi) == snapshot(image(), abi)


def test_the_limit_of_memory_is_kept(abi: dict[str, Any]) -> None:
    """The minimum grows to what is used, the maximum stays."""
    assert Module.parse(snapshot(image(), abi).wasm).memory() == (1, 2, 16)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("(call $exit (i32.const 65538)) unreachable", "0x10002"),
        ("unreachable", "unreachable"),
        ("(call $exit (i32.const 0))", "did not return"),
        ("(global.set $sp (i32.const 512))", "did not return"),
        ("(drop (memory.grow (i32.const 8))) (i32.store (i32.const 500000) (i32.const 1))", "density|fills"),
    ],
    ids=["exit", "trap", "exit without end", "stack", "sparse"],
)
def test_a_bad_initialiser_fails_the_build(abi: dict[str, Any], init: str, message: str) -> None:
    """Better no image than one that is torn, or copied for every instance."""
    with pytest.raises(SnapshotError, match=message):
        snapshot(image(init), abi)


def test_segments_leave_out_zeros() -> None:
    """Only runs shorter than the gap are stored."""
    memory = bytearray(3 * PAGE)
    memory[10:20] = b"x" * 10
    memory[100:110] = b"y" * 10
    memory[2 * PAGE : 2 * PAGE + 5] = b"zzzzz"
    found = segments(memory)
    assert [(at, len(body)) for at, body in found] == [(10, 100), (2 * PAGE, 5)]
    again = bytearray(len(memory))
    for at, body in found:
        again[at : at + len(body)] = body
    assert again == memory


def test_segments_of_nothing() -> None:
    """An empty memory still makes a valid data section."""
    assert segments(bytes(PAGE)) == [(0, b"\0")]
