"""The binary format is read as written, and written as read."""

from __future__ import annotations

import struct

import pytest
import wasmtime

from imagebuild.wasmfile import EXPORT, Export, Global, Import, Module, Reader, WasmError, signed, unsigned
from tests.image.modules import image


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 16384, 2**31 - 1, 2**32 - 1, 2**63])
def test_leb128_round_trip(value: int) -> None:
    """The borders are where a byte more is needed."""
    assert Reader(unsigned(value)).unsigned() == value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (63, "3f"), (64, "c000"), (-1, "7f"), (-64, "40"), (-65, "bf7f"), (-(2**31), "8080808078")],
)
def test_signed_leb128(value: int, encoded: str) -> None:
    """Values of the core specification's rule: the sign is the last byte's bit 6."""
    assert signed(value).hex() == encoded


def test_a_module_is_written_as_it_was_read() -> None:
    """Nothing is lost or reordered."""
    wasm = image()
    assert Module.parse(wasm).encode() == wasm


def test_imports_exports_and_globals() -> None:
    """With their types; globals count the imported ones."""
    module = Module.parse(
        wasmtime.wat2wasm(
            """(module (import "m" "f" (func (param i32 f64) (result i64))) (import "m" "g" (global (mut i32)))
               (import "m" "t" (table 1 2 funcref)) (import "m" "mem" (memory 3))
               (global (mut i64) (i64.const 7)) (global f32 (f32.const 1)) (export "e" (func 0)) (export "g" (global 1)))"""
        )
    )
    assert module.imports()[0] == Import("m", "f", "function", (("i32", "f64"), ("i64",)))
    assert [(found.name, found.kind) for found in module.imports()] == [
        ("f", "function"),
        ("g", "global"),
        ("t", "table"),
        ("mem", "memory"),
    ]
    assert module.exports() == [Export("e", "function", 0), Export("g", "global", 1)]
    assert [(found.index, found.mutable) for found in module.globals()] == [(1, True), (2, False)]


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (0x7F, 2**32 - 1, b"\x41\x7f"),
        (0x7F, -1, b"\x41\x7f"),
        (0x7E, 2**63, b"\x42" + signed(-(2**63))),
        (0x7D, 0.5, b"\x43" + struct.pack("<f", 0.5)),
        (0x7C, -0.0, b"\x44" + struct.pack("<d", -0.0)),
    ],
    ids=["i32 unsigned", "i32 signed", "i64", "f32", "f64"],
)
def test_a_global_takes_a_value(kind: int, value: float, code: bytes) -> None:
    """Whatever wasmtime answers for the type, signed or not."""
    assert Global(0, kind, True, b"").with_value(value).initial == code + b"\x0b"


def test_sections_can_be_replaced_or_dropped() -> None:
    """And what is not there is not added."""
    module = Module.parse(wasmtime.wat2wasm('(module (func (export "a")))'))
    assert Module.parse(module.replaced({EXPORT: b"\0"}).encode()).exports() == []
    assert module.replaced({EXPORT: None, 11: b"\0"}).sections == [s for s in module.sections if s[0] != EXPORT]


@pytest.mark.parametrize("body", [b"", b"\0asm\2\0\0\0", b"\0asm\1\0\0\0\1\5\1"], ids=["empty", "version", "cut off"])
def test_what_is_no_module_is_refused(body: bytes) -> None:
    """With an error of its own."""
    with pytest.raises(WasmError):
        Module.parse(body)


def test_features_come_from_the_linker_s_section() -> None:
    """Those used, sorted; not those that are merely allowed."""
    section = b"\x03+\x07simd128+\x08sign-ext-\x07atomics"
    custom = unsigned(len(b"\x0ftarget_features" + section)) + b"\x0ftarget_features" + section
    assert Module.parse(b"\0asm\1\0\0\0\0" + custom).features() == ["sign-ext", "simd128"]
    assert Module.parse(b"\0asm\1\0\0\0").features() == []
