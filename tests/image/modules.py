"""Small modules in the text format that stand for an image."""

from __future__ import annotations

from typing import Any

import wasmtime

PAGE = 64 * 1024

# Has what the snapshot needs: a stack that comes first, mutable globals, an initialiser that leaves traces everywhere.
IMAGE = """(module
  (import "cloche_v4" "exit" (func $exit (param i32)))
  (import "cloche_v4" "random" (func $random (result i64)))
  (import "cloche_v4" "clock" (func $clock (param i32) (result i64)))
  (memory (export "memory") 1 16)
  (global $sp (export "__stack_pointer") (mut i32) (i32.const 1024))
  (global $ring (export "cloche_ring") i32 (i32.const 2048))
  (global $count (mut i64) (i64.const -1))
  (global $ratio (mut f64) (f64.const 0))
  (data (i32.const 1024) "before")
  (func (export "_initialize") (i32.store8 (i32.const 1024) (i32.const 65)))
  (func (export "image_init") {init})
  (func (export "count") (result i64) (global.get $count))
  (func (export "ratio") (result f64) (global.get $ratio))
  (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0))))
"""
INIT = """
  (i32.store (i32.const 16) (i32.const -1))                          ;; what a call leaves on the stack
  (global.set $count (i64.const -5000000000))
  (global.set $ratio (f64.const 0.1))
  (drop (memory.grow (i32.const 1)))
  (memory.fill (i32.const 1030) (i32.const 66) (i32.const 70000))
  (i64.store (i32.const 3000) (call $random))
  (i64.store (i32.const 3008) (call $clock (i32.const 0)))
"""


def image(init: str = INIT) -> bytes:
    """IMAGE with another initialiser."""
    return bytes(wasmtime.wat2wasm(IMAGE.replace("{init}", init)))


def instantiate(wasm: bytes, abi: dict[str, Any]) -> Any:
    """A guest of that module, through the build's own driver."""
    from imagebuild import driver

    engine = driver.engine()
    return driver.Guest(engine, wasmtime.Module(engine, wasm), abi)
