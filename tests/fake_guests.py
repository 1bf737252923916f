"""Fake guests in WebAssembly text: they speak the ABI, and break it where a test wants that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import wasmtime

from cloche._sandbox.instance import Instance
from cloche_wire import abi

RING = 0x20000
NOTICE = 0x70000
LAYOUT = 0x70100
"""Zeros: such a guest has no interpreter, and hears no notice."""
REPLY = 0x10400
"""Behind the stop page."""
HEAP = 0x80000

PROLOGUE = f"""
  (import "{abi.IMPORT_MODULE}" "clock" (func $clock (param i32) (result i64)))
  (import "{abi.IMPORT_MODULE}" "random" (func $random (result i64)))
  (import "{abi.IMPORT_MODULE}" "sleep" (func $sleep (param i64) (result i32)))
  (import "{abi.IMPORT_MODULE}" "exit" (func $exit (param i32)))
  (import "{abi.IMPORT_MODULE}" "call" (func $call (param i32 i32) (result i64)))
  (import "{abi.IMPORT_MODULE}" "poll" (func $poll (result i32)))
"""
ALLOC = "(local $at i32) (local.set $at (global.get $top)) (global.set $top (i32.add (local.get $at) (local.get $n)))\
 (local.get $at)"
ANSWER_NULL = f"(i64.const {REPLY << 32 | 3})"
"""The reply [RESULT, null]."""


def guest(
    node_call: str = ANSWER_NULL,
    *,
    alloc: str = ALLOC,
    check: str = "(i32.const 1)",
    data: bytes = b"\x82\x00\xf6",
    ring: int = RING,
    extra: str = "",
    imports: str = PROLOGUE,
    pages: int = 16,
) -> bytes:
    """A module whose `node_call` has that body; `data` lies at REPLY."""
    escaped = "".join(f"\\{byte:02x}" for byte in data)
    return wasmtime.wat2wasm(f"""(module {imports}
  (memory (export "memory") {pages})
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (global (export "cloche_ring") i32 (i32.const {ring}))
  (global (export "cloche_notice") i32 (i32.const {NOTICE}))
  (global (export "cloche_layout") i32 (i32.const {LAYOUT}))
  (global $top (mut i32) (i32.const {HEAP}))
  (func (export "node_alloc") (param $n i32) (result i32) {alloc})
  (func (export "node_free") (param i32))
  (func (export "node_call") (param $p i32) (param $n i32) (param $nodes i32) (param $depth i32) (result i64) {node_call})
  (func (export "node_check") (param $p i32) (param $n i32) (param $nodes i32) (param $depth i32) (result i32) {check})
  {extra}
  (data (i32.const {REPLY}) "{escaped}"))""")


@contextmanager
def cancelling(instance: Instance) -> Iterator[None]:
    """In the block another thread cancels, again and again, because a cancel does not count for a call that begins later."""
    done = threading.Event()

    def cancel() -> None:
        while not done.wait(0.005):
            instance.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
