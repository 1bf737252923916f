"""The function table stays what it is, whichever of its functions are named first."""

from __future__ import annotations

import pytest
import wasmtime

from imagebuild.tables import Table, counted, named_first, table
from imagebuild.wasmfile import Module, WasmError

MARKS = 100
TEXT = """(module
  (type $unary (func (param i32) (result i32)))
  (import "host" "negate" (func $negate (type $unary)))
  (memory (export "memory") 1)
  (table 8 funcref)
  (elem (i32.const 2) func $negate $double $one $quarter)
  (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func $one (result i64) (i64.const 1))
  (func $quarter (type $unary) (i32.div_s (local.get 0) (i32.const 4)))
  (func (export "apply") (param i32 i32) (result i32)
    (call_indirect (type $unary) (local.get 1) (local.get 0))))"""


def instance(module: Module) -> tuple[wasmtime.Store, wasmtime.InstanceExports]:
    """Running, with a host that negates."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    kind = wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()])
    negate = wasmtime.Func(store, kind, lambda number: -number)
    made = wasmtime.Instance(store, wasmtime.Module(engine, module.encode()), [negate])
    return store, made.exports(store)


def parsed() -> tuple[Module, Table]:
    module = Module.parse(bytes(wasmtime.wat2wasm(TEXT)))
    found = table(module)
    assert found is not None
    return module, found


def test_the_table_is_found() -> None:
    """Where it begins, and its functions in order."""
    assert parsed()[1] == Table(2, (0, 1, 2, 3))


def test_a_module_without_a_table_has_none() -> None:
    """Nothing to name first."""
    assert table(Module.parse(bytes(wasmtime.wat2wasm("(module)")))) is None


@pytest.mark.parametrize(
    "segments", ["(elem (i32.const 0) $f) (elem (i32.const 1) $f)", "(elem declare func $f)"], ids=["two", "declared"]
)
def test_another_form_is_refused(segments: str) -> None:
    """Rather than a table with holes."""
    with pytest.raises(WasmError):
        table(Module.parse(bytes(wasmtime.wat2wasm(f"(module (table 4 funcref) (func $f) {segments})"))))


def test_calls_through_the_table_leave_a_mark() -> None:
    """And give what they gave before; an imported function is called as it is."""
    module, found = parsed()
    store, exports = instance(counted(module, found, MARKS))
    assert [exports["apply"](store, place, 8) for place in (2, 5)] == [-8, 2]
    assert bytes(exports["memory"].read(store, MARKS, MARKS + 4)) == bytes([0, 0, 0, 1])


@pytest.mark.parametrize("called", [set(), {0}, {1, 3}, {0, 1, 2, 3}], ids=str)
def test_naming_some_first_changes_no_place(called: set[int]) -> None:
    """Every place of the table has its function."""
    module, found = parsed()
    store, exports = instance(module.replaced({9: named_first(found, called)}))
    assert [exports["apply"](store, place, 8) for place in (2, 3, 5)] == [-8, 16, 2]
    with pytest.raises(wasmtime.Trap):
        exports["apply"](store, 6, 8)


def test_those_that_are_called_come_first() -> None:
    """Neighbours share a segment; the whole table follows."""
    found = Table(2, (7, 8, 9, 10))
    assert named_first(found, {3, 0, 1}) == b"\3\0\x41\2\x0b\2\7\x08" + b"\0\x41\5\x0b\1\x0a" + found.encode()
