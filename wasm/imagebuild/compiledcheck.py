"""Proves for compiled code that each load from the stop page is still there: an optimiser may merge loads, or drop them.

What wasmtime makes of a module is an ELF file. Its section ``.wasmtime.addrmap`` says of which instruction of the module a native
instruction has been made, ``.wasmtime.traps`` which native instructions may trap, and how. A load is there if a native instruction
that has been made of it may trap as an access out of bounds does: that is how wasmtime takes a fault at it. A load may be missing
only if no branch and no call that follows it in its loop or block is there either: the optimiser has seen that this code is never
reached. (A native loop cannot be without a branch, and that has been made of one in the module's loop.)

Both sections have the same outline (wasmtime 50): the number of entries and of blocks; for each block the first native offset and
where the block begins; then the blocks, of variable length. The formats are wasmtime's own and change with its versions, so
`out_of_bounds` first reads a small module, of which it knows what must come out.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator

import wasmtime

from imagebuild import stopcheck
from imagebuild.driver import STACK_BYTES
from imagebuild.wasmfile import Reader, WasmError

ADDRESSES, TRAPS = ".wasmtime.addrmap", ".wasmtime.traps"
NO_POSITION = -1


def engine() -> wasmtime.Engine:
    """One that compiles as the host's do under ``metering="guard"`` (`cloche._engine.options`)."""
    config = wasmtime.Config()
    config.wasm_bulk_memory = False
    config.cranelift_opt_level = "speed"
    config.memory_may_move = False
    config.memory_reservation = 4 << 30
    config.max_wasm_stack = (
        STACK_BYTES  # for the self-test, which then runs this code; compilation does not depend on it
    )
    return wasmtime.Engine(config)


def sections(elf: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file, by name.

    Raises:
        WasmError: it is another kind of file.
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise WasmError("compiled code is not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * index) for index in range(count)]
    strings = headers[names][4]
    found = {}
    for name, kind, _, _, offset, length in headers:
        start = strings + name
        found[elf[start : elf.index(0, start)].decode()] = b"" if kind == 8 else elf[offset : offset + length]
    return found


def _blocks(section: bytes) -> Iterator[tuple[int, Reader, int]]:
    """The first native offset of each block, its body, and where that ends."""
    _, count = struct.unpack_from("<II", section)
    index = [struct.unpack_from("<II", section, 8 + 8 * number) for number in range(count)]
    bodies = section[8 + 8 * count :]
    for (first, start), (_, end) in zip(index, [*index[1:], (0, len(bodies))], strict=True):
        yield first, Reader(bodies, start), end


def positions(section: bytes) -> list[tuple[int, int]]:
    """``.wasmtime.addrmap``: (native offset, offset in the module's file or NO_POSITION), ascending.

    An entry reaches to the next one.
    """
    found = []
    for native, body, end in _blocks(section):
        position = None
        while body.at < end:
            token = body.unsigned()
            native += token >> 1
            if token & 1:
                found.append((native, NO_POSITION))
                continue
            position = body.unsigned() if position is None else position + _signed(body)
            found.append((native, position))
    return found


def traps(section: bytes) -> list[tuple[int, int]]:
    """``.wasmtime.traps``: (native offset, code), ascending."""
    found = []
    for native, body, end in _blocks(section):
        common = body.take(1)[0]  # of the block; entries with another code bring it along
        while body.at < end:
            token = body.unsigned()
            native += token >> 1
            found.append((native, body.take(1)[0] if token & 1 else common))
    return found


def _signed(body: Reader) -> int:
    value = shift = 0
    while True:
        byte = body.take(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value - (1 << shift) if byte & 64 else value


def trapping(elf: bytes) -> tuple[dict[int, set[int]], set[int]]:
    """What the native instructions of each position in a module's file may trap as; all positions that have any."""
    found: dict[int, set[int]] = {}
    parts = sections(elf)
    entries = positions(parts[ADDRESSES])
    at = -1
    for native, code in traps(parts[TRAPS]):
        while at + 1 < len(entries) and entries[at + 1][0] <= native:
            at += 1
        if at >= 0 and entries[at][1] != NO_POSITION:
            found.setdefault(entries[at][1], set()).add(code)
    return found, {position for _, position in entries} - {NO_POSITION}


SAMPLE = """(module (memory 1) (func (param i32 i32) (result i32)
  (drop (i32.load (i32.const 0))) (drop (i32.load offset=8 (i32.const 0))) (drop (i32.load offset=8 (i32.const 0)))
  (i32.div_u (local.get 0) (local.get 1))))"""


def out_of_bounds(engine: wasmtime.Engine) -> int:
    """The code of an access out of bounds, read off a module with two loads, a third that is merged, and a division.

    Raises:
        WasmError: the sections do not say what they must: this wasmtime's formats are others.
    """
    wasm = bytes(wasmtime.wat2wasm(SAMPLE))
    loads = [at + 2 for at in range(len(wasm)) if wasm.startswith(b"\x41\x00\x28", at)]
    divide = wasm.index(b"\x20\x00\x20\x01\x6e") + 4
    try:
        found, _ = trapping(bytes(wasmtime.Module(engine, wasm).serialize()))
        (code,) = found[loads[0]]
    except (KeyError, ValueError, IndexError, struct.error) as error:
        raise WasmError(f"the formats of this wasmtime's compiled code are not understood: {error!r}") from error
    if (
        len(loads) != 3
        or found != {loads[0]: {code}, loads[1]: {code}, divide: found.get(divide)}
        or code in found[divide]
    ):
        raise WasmError(f"the formats of this wasmtime's compiled code are not understood: {found}")
    return code


def lost(engine: wasmtime.Engine, elf: bytes, checked: stopcheck.Checked) -> dict[int, int]:
    """How many loads of each function are not in compiled code, though a branch or a call behind them is; empty if all are.

    Args:
        engine: that has compiled it.
        elf: what `wasmtime.Module.serialize` answers.
        checked: what there is in the module.
    """
    code = out_of_bounds(engine)
    found, positions_there = trapping(elf)
    present = sorted(positions_there & set(checked.branches))

    def is_lost(place: int, end: int) -> bool:
        if code in found.get(place, ()):
            return False
        following = bisect.bisect_left(present, place)
        return following < len(present) and present[following] < end

    missing = {function: sum(is_lost(*load) for load in found_in) for function, found_in in checked.loads.items()}
    return {function: count for function, count in missing.items() if count}
