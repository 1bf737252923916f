"""The proof that a page guard can stop every loop has to see every way round, and what it puts in has to hold."""

from __future__ import annotations

import threading

import pytest
import wasmtime

from cloche import DeadlineError, Limits
from cloche._engine import Engine
from cloche._instance import Instance
from cloche_wire import Op
from imagebuild.loops import interruptible, untouched
from imagebuild.wasmcode import bodies
from imagebuild.wasmfile import Module, WasmError
from tests.host import guests

READ = "(drop (i32.load offset=4 (i32.const 8)))"
WRITE = "(i64.store8 (i32.const 8) (i64.const 1))"
SIMD = "(drop (v128.load8_lane 3 (i32.const 8) (v128.const i32x4 3 3 3 3)))"
ODD = """(drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31 (v128.const i64x2 3 11) (v128.const i32x4 11 12 13 14)))
  (drop (i16x8.extract_lane_s 3 (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 11 11))))
  (drop (f64.const 11)) (drop (f32.const 12)) (drop (i64.const -11111111111)) (drop (i32.trunc_sat_f64_s (f64.const 3)))
  (drop (select (result i32) (i32.const 11) (i32.const 12) (i32.const 13))) (global.set 0 (global.get 0)) (drop (memory.size))"""


def module(body: str) -> Module:
    text = f"""(module (memory 1) (global (mut i32) (i32.const 0)) (table 1 funcref)
      (func (param i32) (local i64 f32 v128) {body}) (func $pure))"""
    return Module.parse(wasmtime.wat2wasm(text))


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("(loop)", 0),
        ("(loop (br 0))", 1),
        (f"(loop {READ} (br 0))", 0),
        (f"(loop {WRITE} (br 0))", 0),
        (f"(loop {SIMD} (br 0))", 0),
        (f"{READ} (loop (br 0))", 1),
        (f"(loop {ODD} (br_if 0 (local.get 0)))", 1),
        (f"(loop {ODD} {READ} {ODD} (br_if 0 (local.get 0)))", 0),
        ("(loop (call $pure) (br 0))", 1),
        ("(loop (call_indirect (i32.const 0)) (br 0))", 1),
        (f"(loop (if (local.get 0) (then {READ})) (br 0))", 1),
        (f"(loop (if (local.get 0) (then {READ}) (else {WRITE})) (br 0))", 0),
        (f"(loop (if (local.get 0) (then {READ}) (else (return))) (br 0))", 0),
        (f"(loop (if (local.get 0) (then {READ}) (else (unreachable))) (br 0))", 0),
        (f"(loop (block (br_if 0 (local.get 0)) {READ}) (br 0))", 1),
        (f"(loop (br_if 0 (local.get 0)) {READ} (br 0))", 1),
        (f"(block (loop (br_if 1 (local.get 0)) {READ} (br 0)))", 0),
        (f"(loop (loop {READ} (br_if 0 (local.get 0))) (br 0))", 0),
        (f"(loop {READ} (loop (br_if 0 (local.get 0))) (br 0))", 1),
        ("(loop (loop (br_if 0 (local.get 0))) (br 0))", 2),
        ("(loop (loop (br 1)))", 1),
        (f"(loop (loop (br_if 1 (local.get 0)) {READ} (br 0)))", 1),
        (f"(block (loop (block (br_table 0 1 2 (local.get 0))) {READ} (br 0)))", 1),
        (f"(block (loop (block (br_table 0 0 2 (local.get 0))) {READ} (br 0)))", 0),
        (f"(loop (result i32) (i32.const 1) (br_if 0 (local.get 0))) (drop) {READ}", 1),
    ],
)  # fmt: skip
def test_loops_that_may_go_round_without_touching_memory_are_found(body: str, count: int) -> None:
    """On any path, whatever lies between; each of them is then given a load, and none is left."""
    before = module(body)
    after, found = interruptible(before, 4096)
    assert found == count
    assert all(untouched(function) == [] for function in bodies(after))
    wasmtime.Module(wasmtime.Engine(), after.encode())
    assert found or after.encode() == before.encode()


def test_code_that_is_not_understood_fails_the_build() -> None:
    """Better no proof than a wrong one."""
    with pytest.raises(WasmError, match="opcode 0x12"):
        interruptible(module("(return_call $pure)"), 4096)


COUNT = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))"
PURE = f"(loop $l {COUNT} (br $l)) (unreachable)"
NESTED = f"(loop $o (loop $i {COUNT} (br_if $i (local.get 0))) (br $o)) (unreachable)"
INNER = f"(drop (i32.load (i32.const 4096))) (loop $o (loop $i {COUNT} (br_if $i (i32.ne (local.get 0) (i32.const -1)))) (br $o)) (unreachable)"


@pytest.mark.parametrize("body", [PURE, NESTED, INNER], ids=["pure", "nested", "after the same load"])
def test_a_loop_without_memory_is_stopped_by_the_guard(body: str) -> None:
    """wasmtime's optimiser leaves the loads in; without them this would never end."""
    made, count = interruptible(Module.parse(guests.guest(body)), 8192)
    assert count
    engine = Engine("guard", lambda engine: wasmtime.Module(engine, made.encode()))
    instance = Instance(engine, Limits(deadline_s=0.02, memory_bytes=32 << 20), "fake", lambda records, name: None)
    ended = []

    def run() -> None:
        try:
            instance.exchange(Op.PROCESS, [1], "data")
        except DeadlineError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert len(ended) == 1
    engine.close()
