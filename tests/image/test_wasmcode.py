"""The proof that the reply validator depends on no memory has to see every way to depend on it."""

from __future__ import annotations

import pytest
import wasmtime

from imagebuild.link import check_entry, check_validator
from imagebuild.stages import BuildError
from imagebuild.wasmcode import instructions, memory_symbols, writes_memory
from imagebuild.wasmfile import Module, WasmError, named, unsigned, vector


def module(body: str, more: str = "") -> Module:
    return Module.parse(wasmtime.wat2wasm(f"(module {more} (memory 1) (func (param i32) (result i32) {body}))"))


PURE = """(local i64 f64)
  (block $out (loop $again
    (br_if $out (i32.eqz (local.get 0)))
    (local.set 0 (i32.sub (local.get 0) (i32.load8_u offset=3 (local.get 0))))
    (br_table $again $out (i32.const 300))))
  (local.set 2 (f64.const 1.5)) (local.set 1 (i64.const -9000000000))
  (select (i32.const -1) (i32.const 65536) (i32.trunc_sat_f64_s (local.get 2)))"""


def test_reading_code_is_clean() -> None:
    """Every kind of immediate is skipped right: the walk ends with the body."""
    found = module(PURE)
    assert writes_memory(found) == []
    assert list(instructions(found))[-1] == (0x0B, 0)


@pytest.mark.parametrize(
    "body",
    [
        "(i32.store (i32.const 0) (i32.const 1)) (i32.const 0)",
        "(i64.store8 (i32.const 0) (i64.const 1)) (i32.const 0)",
        "(f64.store (i32.const 0) (f64.const 1)) (i32.const 0)",
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 0)",
        "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 0)",
        "(memory.grow (i32.const 1))",
    ],
    ids=["i32", "i64", "f64", "fill", "copy", "grow"],
)
def test_every_write_is_found(body: str) -> None:
    """A store, a bulk operation, or growth."""
    assert len(writes_memory(module(body))) == 1


def test_unknown_code_is_refused() -> None:
    """Better no proof than a wrong one."""
    simd = "(v128.store (i32.const 0) (v128.const i32x4 0 0 0 0)) (i32.const 0)"
    with pytest.raises(WasmError, match="not understood"):
        writes_memory(module(simd))


def entry(body: str) -> Module:
    text = f"""(module (import "m" "f" (func $answer (result i64))) (memory 1) (global $sp (mut i32) (i32.const 0))
      (func (i32.store (i32.const 0) (i32.const 0))) (func (export "node_call") (result i64) {body}))"""
    return Module.parse(wasmtime.wat2wasm(text))


def test_an_entry_without_a_frame_passes() -> None:
    """Another function of the module may do as it likes."""
    body = "(local i64) (local.tee 0 (call $answer)) (drop (i64.load (i32.const 8)))"
    check_entry(entry(body))
    with pytest.raises(BuildError, match="node_call"):  # a store is the difference
        check_entry(entry(f"{body} (i64.store (i32.const 8) (local.get 0))"))


@pytest.mark.parametrize(
    "body",
    ["(i64.store (i32.const 8) (call $answer)) (i64.load (i32.const 8))", "(drop (global.get $sp)) (call $answer)"],
    ids=["spills", "has a frame"],
)
def test_an_entry_that_keeps_the_reply_in_memory_fails_the_build(body: str) -> None:
    """Between the check and the return, nothing may be where the node can write."""
    with pytest.raises(BuildError, match="node_call"):
        check_entry(entry(body))


def object_file(symbol: str, *, body: str = PURE, more: str = "") -> bytes:
    """A relocatable object whose code holds the address of a symbol of linear memory."""
    code = module(body, more)
    position = next(k for k, (identity, _) in enumerate(code.sections) if identity == 10)
    table = vector([b"\x01" + unsigned(0x10) + named(symbol)])
    linking = named("linking") + b"\x02" + b"\x08" + unsigned(len(table)) + table
    relocations = named("reloc.CODE") + unsigned(position) + vector([b"\x04" + unsigned(5) + unsigned(0) + unsigned(0)])
    return Module([*code.sections, (0, linking), (0, relocations)]).encode()


def test_addresses_in_code_are_named() -> None:
    """By the symbol that they belong to."""
    assert memory_symbols(Module.parse(object_file("counter"))) == ["counter"]


def test_the_validator_may_know_where_the_heap_begins() -> None:
    """An immediate in code that nobody can change."""
    check_validator(object_file("__heap_base"))
    with pytest.raises(BuildError, match="__heap_end"):  # any other address is refused
        check_validator(object_file("__heap_end"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (object_file("table"), "table"),
        (object_file("__heap_base", more='(data (i32.const 0) "x")'), "1 data"),
        (object_file("__heap_base", body="(i32.store (i32.const 0) (i32.const 1)) (i32.const 0)"), "writes"),
        (object_file("__heap_base", more='(import "env" "__stack_pointer" (global (mut i32)))'), "shadow stack: True"),
    ],
    ids=["symbol", "data", "store", "stack"],
)
def test_a_validator_that_could_be_fooled_fails_the_build(body: bytes, message: str) -> None:
    """A node owns linear memory: whatever the validator keeps there, the node can forge."""
    with pytest.raises(BuildError, match=message):
        check_validator(body)
