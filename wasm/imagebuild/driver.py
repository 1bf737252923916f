"""Runs modules of the image's ABI while the image is built: the freezer, the initialiser, the self-test.

The guest sees a clock that stands still and a counting source of "random" numbers, so what it computes depends on
nothing but the module.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import wasmtime

from imagebuild import cbor

MASK32 = 0xFFFF_FFFF
NOW_NS = 1_700_000_000 * 10**9
STACK_BYTES = 2 << 20  # as much as wasmtime's default for the native stack, which has no public setter
RING_HEADER_WORDS = 8

Abi = dict[str, Any]
"""The names of cloche_wire/abi.py."""


def load_abi(wire: Path) -> Abi:
    return runpy.run_path(str(wire / "abi.py"))


def engine() -> wasmtime.Engine:
    """An engine that compiles fast, into slow code. The results of floating-point operations do not depend on the CPU."""
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"
    config.cranelift_flag_set("regalloc_algorithm", "single_pass")
    config.cranelift_nan_canonicalization = True
    config.max_wasm_stack = STACK_BYTES
    return wasmtime.Engine(config)


class GuestError(Exception):
    """The guest trapped or ended; the message has what it wrote."""


class Guest:
    """One instance of a module that imports nothing but the ABI's functions, which `outside` has as methods."""

    def __init__(
        self, engine: wasmtime.Engine, module: wasmtime.Module, abi: Abi, outside: Outside | None = None
    ) -> None:
        self._abi = abi
        self._outside = outside or Outside()
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        for name, (parameters, results) in abi["IMPORTS"].items():
            kind = wasmtime.FuncType([_type(text) for text in parameters], [_type(text) for text in results])
            linker.define_func(abi["IMPORT_MODULE"], name, kind, getattr(self._outside, name))
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = memory

    @property
    def exit_code(self) -> int | None:
        """What the guest passed to `exit`, if it did."""
        return self._outside.exit_code

    def call(self, name: str, *arguments: int) -> int:
        """Call an export; the result is unsigned.

        Raises:
            GuestError: it trapped or ended.
        """
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        try:
            result = function(self.store, *arguments)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            ended = "" if self.exit_code is None else f" after exit({self.exit_code:#x})"
            raise GuestError(f"{name} failed{ended}: {error}\n{self.output()}") from error
        return result & 0xFFFF_FFFF_FFFF_FFFF if isinstance(result, int) else 0

    def read(self, address: int, size: int) -> bytes:
        if address + size > self.memory.data_len(self.store):
            raise GuestError(f"guest range [{address}, +{size}) lies outside of its memory")
        return bytes(self.memory.read(self.store, address, address + size))

    def read_packed(self, packed: int) -> bytes:
        """The bytes that a packed result, address << 32 | length, refers to."""
        return self.read(packed >> 32, packed & MASK32)

    def put(self, body: bytes, allocate: str = "node_alloc") -> int:
        """Copy bytes into memory that the guest allocates, and return their address."""
        address = self.call(allocate, len(body)) & MASK32
        if not address:
            raise GuestError(f"the guest has no {len(body)} bytes")
        self.memory.write(self.store, body, address)
        return address

    def global_value(self, name: str) -> Any:
        """An exported global's value as wasmtime gives it: an i32 is signed."""
        found = self.exports[name]
        assert isinstance(found, wasmtime.Global)
        return found.value(self.store)

    def records(self) -> list[Any]:
        """The records in the log ring, oldest first."""
        if "cloche_ring" not in self._abi["EXPORTS"] or self.exports.get("cloche_ring") is None:
            return []
        address = self.global_value("cloche_ring") & MASK32
        header = self.read(address, 4 * RING_HEADER_WORDS)
        _, capacity, head, used, *_ = (int.from_bytes(header[i : i + 4], "little") for i in range(0, len(header), 4))
        ring = self.read(address + len(header), capacity)
        flat, found = (ring + ring)[head : head + used], []
        while flat:
            size = int.from_bytes(flat[:4], "little")
            found.append(cbor.Reader(flat[4 : 4 + size], self.read).item())
            flat = flat[4 + size :]
        return found

    def output(self) -> str:
        """What the guest wrote to stdout and stderr, and its other records."""
        try:
            records = self.records()
        except (GuestError, ValueError, KeyError):
            return "(the log ring is damaged)"
        return "".join(r[1].decode(errors="replace") if r[0] in (1, 2) and len(r) == 2 else f"{r!r}\n" for r in records)


class Outside:
    """The imports. None of them raises: an exception must not cross compiled code.

    wasmtime-py keeps what a host function refers to until the store is gone, so this must not refer to the store.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._drawn = 0

    def clock(self, clock: int) -> int:
        return NOW_NS

    def random(self) -> int:
        self._drawn += 1
        return (self._drawn * 0x9E37_79B9_7F4A_7C15 ^ self._drawn << 31) & 0x7FFF_FFFF_FFFF_FFFF

    def sleep(self, ns: int) -> int:
        return 0

    def poll(self) -> int:
        return 0

    def exit(self, code: int) -> None:
        self.exit_code = code & MASK32

    def call(self, address: int, size: int) -> int:
        return 0


def _type(name: str) -> wasmtime.ValType:
    return {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}[name]()
