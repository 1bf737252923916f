"""The loads from the stop page: the pass puts them everywhere, the proof finds what lacks one, and compiled code keeps them."""

from __future__ import annotations

import ctypes
import mmap
import threading

import pytest
import wasmtime

from imagebuild import compiledcheck, stopcheck, stops
from imagebuild.wasmfile import Module, WasmError

STOP = "(drop (i32.load offset=4 (i32.const 0)))"
OTHER = "(drop (i32.load offset=8 (i32.const 0)))"
FAR = "(drop (i32.load offset=4096 (i32.const 0)))"
READ = "(drop (i32.load offset=4 (i32.const 8)))"
HIDDEN = "(drop (i64.const 0x1a04022800414141))"  # the bytes of a load, in a constant
ODD = """(drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31 (v128.const i64x2 3 11) (v128.const i32x4 11 12 13 14)))
  (drop (i16x8.extract_lane_s 3 (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 11 11))))
  (drop (f64.const 11)) (drop (f32.const 12)) (drop (i64.const -11111111111)) (drop (i32.trunc_sat_f64_s (f64.const 3)))
  (drop (v128.load8_lane 3 (i32.const 8) (v128.const i32x4 3 3 3 3)))
  (drop (select (result i32) (i32.const 11) (i32.const 12) (i32.const 13))) (global.set 0 (global.get 0)) (drop (memory.size))"""

LOOPS = [
    ("(loop)", 0),
    ("(loop (br 0))", 1),
    (f"(loop {READ} (br 0))", 1),
    (f"(loop {FAR} (br 0))", 1),
    (f"(loop {ODD} (br_if 0 (local.get 0)))", 1),
    ("(loop (call $pure) (br 0))", 1),
    ("(loop (call_indirect (i32.const 0)) (br 0))", 0),
    ("(loop (if (local.get 0) (then (call_indirect (i32.const 0)))) (br 0))", 1),
    ("(loop (if (local.get 0) (then (call_indirect (i32.const 0))) (else (return))) (br 0))", 0),
    ("(loop (block (br_if 0 (local.get 0)) (call_indirect (i32.const 0))) (br 0))", 1),
    ("(loop (loop (br_if 0 (local.get 0))) (br 0))", 1),
    ("(loop (loop (br 1)))", 1),
    ("(loop (block (loop (br_if 1 (local.get 0)) (br 0))) (br 0))", 1),
    ("(block (loop (block (br_table 0 1 2 (local.get 0))) (br 0)))", 1),
    (f"(loop (loop (br_if 1 (local.get 0)) {READ} (br 0)))", 1),
    ("(loop (result i32) (i32.const 1) (br_if 0 (local.get 0))) (drop)", 1),
]


def module(body: str, more: str = "") -> Module:
    text = f"""(module (memory 1) (global (mut i32) (i32.const 0)) (table 1 funcref)
      (func $main (param i32) (local i64 f32 v128) {body}) (func $pure) {more})"""
    return Module.parse(bytes(wasmtime.wat2wasm(text)))


def problems(body: str, more: str = "") -> list[str]:
    return [problem.what for problem in stopcheck.check(module(body, more).encode()).problems]


@pytest.mark.parametrize(("body", "count"), LOOPS)
def test_a_loop_that_may_go_round_without_a_load_is_given_one(body: str, count: int) -> None:
    """On any path, whatever lies between, and no more than it takes. The proof agrees, which knows nothing of the pass."""
    made = stops.stoppable(module(body))
    assert made.loops == count
    found = stopcheck.check(made.module.encode())
    assert found.problems == []
    assert sum(map(len, found.loads.values())) == made.loops + made.before_calls + made.entries
    assert stops.stoppable(made.module).loops == 0 or made.given
    assert stops.without(made.module).encode() == module(body).encode()
    wasmtime.Module(wasmtime.Engine(), made.module.encode())


@pytest.mark.parametrize(
    "body", ["(loop (br 0))", f"(loop {FAR} (br 0))", f"(loop {HIDDEN} (br 0))", f"{STOP} (loop (br 0))"]
)
def test_the_proof_finds_a_loop_without_a_load(body: str) -> None:
    """A load elsewhere, or something that looks like one, does not count."""
    assert "a way round without a load" in problems(body)[0]


def test_the_proof_finds_two_loads_of_one_address() -> None:
    """The optimiser may merge them, and then one of the two ways round has none."""
    assert problems(f"(loop {STOP} (br_if 0 (local.get 0))) (loop {OTHER} (br_if 0 (local.get 0)))") == []
    assert problems(f"(loop {STOP} (br_if 0 (local.get 0))) (loop {STOP} (br_if 0 (local.get 0)))") == [
        "two loads of one address, which may be merged"
    ]


@pytest.mark.parametrize(
    ("body", "more", "entries", "before_calls"),
    [
        ("(call $pure)", "", 0, 0),
        ("(call $main (i32.const 0))", "", 1, 0),
        ("(call $other)", "(func $other (call $main (i32.const 0)))", 1, 0),
        ("(call $a)", "(func $a (call $b)) (func $b (call $a) (call $c)) (func $c (call $b))", 1, 0),
        ("(call_indirect (i32.const 0)) (call_indirect (i32.const 0))", "", 0, 1),
        ("(call_indirect (i32.const 0)) (call $main (i32.const 0))", "", 0, 1),
        ("(if (local.get 0) (then (call_indirect (i32.const 0)))) (call_indirect (i32.const 0))", "", 0, 2),
    ],
)
def test_no_cycle_of_calls_is_without_a_load(body: str, more: str, entries: int, before_calls: int) -> None:
    """Recursion without a loop can take for ever, too: two calls of itself each, a thousand deep."""
    assert bool(problems(body, more)) == bool(entries or before_calls)
    made = stops.stoppable(module(body, more))
    assert (made.entries, made.before_calls) == (entries, before_calls)
    assert stopcheck.check(made.module.encode()).problems == []


def test_code_that_is_not_understood_fails_the_build() -> None:
    """Better no proof than a wrong one."""
    strange = module("(return_call $pure)")
    with pytest.raises(WasmError, match="opcode 0x12"):
        stops.stoppable(strange)
    with pytest.raises(WasmError, match="opcode 0x12"):
        stopcheck.check(strange.encode())


def dispatch(first: str, second: str) -> Module:
    """A loop like CPython's, whose opcodes run one of two handlers: opcode 0 the first one, all others the second."""
    targets = " ".join(["0", *["1"] * 255])
    return module(
        f"""(loop $again
          (block (block (br_table {targets} 1 (local.get 0))) {first} (br $again))
          {second} (br $again))"""
    )


def test_of_a_dispatch_of_bytecodes_only_those_that_are_spared_may_lack_a_load() -> None:
    """What the C code says of its handlers is compared with what has become of them."""
    assert stopcheck.check(dispatch(STOP, OTHER).encode()).problems == []
    found = stopcheck.check(dispatch("", OTHER).encode(), spared=[0])
    assert (found.problems, found.unstopped) == ([], {0})
    (problem,) = stopcheck.check(dispatch("", OTHER).encode(), spared=[1, 2, 3]).problems
    assert problem.what == "opcodes [0] lead back to the dispatch without a load"
    (problem,) = stopcheck.check(dispatch("(loop (br_if 0 (local.get 0)))", OTHER).encode(), spared=[0]).problems
    assert "a way round without a load" in problem.what


def test_the_pass_leaves_a_dispatch_alone_that_came_with_loads() -> None:
    """Its loads have been written in C; another loop in its handlers gets one."""
    made = stops.stoppable(dispatch("(loop (br_if 0 (local.get 0)))", STOP))
    assert (made.given, made.loops) == (1, 1)
    found = stopcheck.check(made.module.encode(), spared=[0])
    assert (found.problems, found.unstopped) == ([], frozenset())
    assert stops.stoppable(dispatch("", "")).loops == 1, "without loads of its own it is a loop as any other"


COUNT = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))"
ENDLESS = {
    "pure": f"(loop $l {COUNT} (br $l))",
    "nested": f"(loop $o (loop $i {COUNT} (br_if $i (local.get 0))) (br $o))",
    "after the same load": f"{STOP} (loop $o (loop $i {COUNT} (br_if $i (i32.ne (local.get 0) (i32.const -1)))) (br $o))",
}


@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_loop_without_memory_is_stopped_by_locking_the_page(body: str) -> None:
    """Without its load this would never end."""
    text = f'(module (memory (export "memory") 1) (func (export "main") (param i32) {body}))'
    made = stops.stoppable(Module.parse(bytes(wasmtime.wat2wasm(text))))
    assert made.loops
    engine = compiledcheck.engine()
    store = wasmtime.Store(engine)
    compiled = wasmtime.Module(engine, made.module.encode())
    exports = wasmtime.Instance(store, compiled, []).exports(store)
    base = ctypes.addressof(exports["memory"].data_ptr(store).contents)
    protect = ctypes.CDLL(None).mprotect
    started = threading.Event()
    ended = []

    def run() -> None:
        started.set()
        with pytest.raises(wasmtime.Trap) as caught:
            exports["main"](store, 0)
        ended.append(caught.value.trap_code)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    assert protect(ctypes.c_void_p(base), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    thread.join(30)
    protect(ctypes.c_void_p(base), ctypes.c_size_t(mmap.PAGESIZE), 3)
    assert ended == [wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS]


def compiled(text: str) -> tuple[wasmtime.Engine, bytes, stopcheck.Checked]:
    wasm = bytes(wasmtime.wat2wasm(text))
    engine = compiledcheck.engine()
    return engine, bytes(wasmtime.Module(engine, wasm).serialize()), stopcheck.check(wasm)


def test_all_loads_are_found_in_compiled_code() -> None:
    """Also in a large function, whose entries fill many blocks of the two sections."""
    body = "".join(f"(loop (drop (i32.load offset={4 * k} (i32.const 0))) (br_if 0 (local.get 0)))" for k in range(900))
    engine, elf, checked = compiled(f"(module (memory 1) (func (param i32) {body}) (func (param i32) {body}))")
    assert {function: len(places) for function, places in checked.loads.items()} == {0: 900, 1: 900}
    assert compiledcheck.lost(engine, elf, checked) == {}


def test_a_load_that_the_optimiser_has_merged_is_missed() -> None:
    """Three of the same address, no store between: one native load is all that is left of them."""
    loop = f"(loop {STOP} (br_if 0 (local.get 0)))"
    engine, elf, checked = compiled(f"(module (memory 1) (func {OTHER}) (func (param i32) {STOP} {loop} {loop}))")
    assert compiledcheck.lost(engine, elf, checked) == {1: 2}


def test_a_load_in_code_that_is_never_reached_is_not_missed() -> None:
    """The optimiser leaves out the whole loop. A loop that is there without its load is missed."""
    dead = f"(block (br_if 0 (i32.const 1)) (loop {STOP} {READ} (br_if 0 (local.get 0))))"
    engine, elf, checked = compiled(f"(module (memory 1) (func (param i32) {dead} {OTHER}))")
    assert len(checked.loads[0]) == 2
    assert compiledcheck.lost(engine, elf, checked) == {}
    merged = f"{STOP} (loop {STOP} (br_if 0 (local.get 0)))"
    engine, elf, checked = compiled(f"(module (memory 1) (func (param i32) {merged}))")
    assert compiledcheck.lost(engine, elf, checked) == {0: 1}


def test_another_format_of_compiled_code_fails() -> None:
    """No section that is misread may pass for a proof."""
    with pytest.raises(WasmError, match="not a 64-bit little-endian ELF file"):
        compiledcheck.sections(b"MZ" + bytes(64))
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # then nothing is merged, and the sample does not look as it must
    with pytest.raises(WasmError, match="formats of this wasmtime's compiled code are not understood"):
        compiledcheck.out_of_bounds(wasmtime.Engine(config))
