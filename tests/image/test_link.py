"""What the build refuses to publish."""

from __future__ import annotations

import pytest
import wasmtime

from imagebuild.link import check_no_bulk_memory
from imagebuild.stages import BuildError


def module(body: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f'(module (memory 1) (table 1 funcref) (data "x") (elem func $f) (func $f {body}))'))


@pytest.mark.parametrize(
    "instruction",
    [
        "memory.copy (i32.const 0) (i32.const 0) (i32.const 0)",
        "memory.fill (i32.const 0) (i32.const 0) (i32.const 0)",
        "memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)",
        "data.drop 0",
        "table.copy (i32.const 0) (i32.const 0) (i32.const 0)",
        "table.init 0 (i32.const 0) (i32.const 0) (i32.const 0)",
        "elem.drop 0",
    ],
    ids=lambda text: text.split()[0],
)
def test_a_bulk_memory_instruction_fails_the_build(instruction: str) -> None:
    """wasmtime runs it in native code, which a page guard would crash."""
    with pytest.raises(BuildError, match="bulk memory"):
        check_no_bulk_memory(module(f"({instruction})"))


def test_simd_and_growth_pass() -> None:
    """What the image's own memcpy is made of; growing touches no byte of memory that there was."""
    text = "(module (memory 1) (func (v128.store (i32.const 0) (v128.load (i32.const 16))) (drop (memory.grow (i32.const 1)))))"
    wasm = bytes(wasmtime.wat2wasm(text))
    check_no_bulk_memory(wasm)
    with pytest.raises(BuildError, match="bulk memory"):
        check_no_bulk_memory(
            bytes(
                wasmtime.wat2wasm(
                    text.replace("(drop", "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0)) (drop")
                )
            )
        )
