"""Runs a module's initialiser and writes the module again with the memory it left.

The result depends on the module alone (see driver.py). The initialiser's exports, the start section and the bytes of the C stack
are left out, because nothing needs them afterwards: the stack is empty while no call runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

from imagebuild import driver, layout, tables
from imagebuild.driver import Abi, Guest
from imagebuild.wasmfile import (
    DATA,
    DATACOUNT,
    END,
    EXPORT,
    GLOBAL,
    MEMORY,
    START,
    Export,
    Module,
    signed,
    unsigned,
    vector,
)

INITIALISER, CONSTRUCTORS, STACK_POINTER = "image_init", "_initialize", "__stack_pointer"
PAGE = 64 * 1024
GAP = 4096
MIN_DENSITY = 0.5
"""wasmtime maps a module's memory copy-on-write only if data fills about half of its address range; below that it
copies the whole image for every instance."""


class SnapshotError(Exception):
    """The initialiser failed, or its memory makes a bad image."""


@dataclass(frozen=True)
class Snapshot:
    """A module with its memory, and figures about that memory."""

    wasm: bytes
    pages: int
    segments: int
    data_bytes: int
    density: float


def snapshot(wasm: bytes, abi: Abi, *, need_density: bool = True) -> Snapshot:
    """Run the initialiser and bake its result in.

    Raises:
        SnapshotError: it trapped or ended, or the density is below MIN_DENSITY.
    """
    module = Module.parse(wasm)
    exports, own = module.exports(), module.globals()
    mutable = [found for found in own if found.mutable]
    probes = [Export(f"probe {found.index}", "global", found.index) for found in mutable]
    probed = module.replaced({EXPORT: vector([export.encode() for export in [*exports, *probes]])}).encode()

    engine = driver.engine()
    names = {export.name for export in exports}
    elements, hot = None, None
    if layout.EXPORT in names and (table := tables.table(module)):
        counting = tables.counted(Module.parse(probed), table, layout.MARKS)
        compiled = wasmtime.Module(engine, counting.encode())
        hot = _used(engine, compiled, abi, len(table.functions))
        elements = tables.named_first(table, hot.called)
    else:
        compiled = wasmtime.Module(engine, probed)
    guest = Guest(engine, compiled, abi)
    before = guest.global_value(STACK_POINTER)
    try:
        if CONSTRUCTORS in names:
            guest.call(CONSTRUCTORS)
        if hot:
            layout.place(guest, hot.blocks)
        if INITIALISER in names:
            guest.call(INITIALISER)
    except driver.GuestError as error:
        raise SnapshotError(f"the initialiser failed: {error}") from error
    if guest.exit_code is not None or guest.global_value(STACK_POINTER) != before:
        raise SnapshotError("the initialiser did not return as it should")

    memory = bytearray(guest.memory.read(guest.store))
    memory[:before] = bytes(before)
    found = segments(memory)
    data_bytes = sum(len(body) for _, body in found)
    density = data_bytes / (found[-1][0] + len(found[-1][1]) - found[0][0])
    if need_density and density < MIN_DENSITY:
        raise SnapshotError(f"data fills {density:.0%} of the memory image, not {MIN_DENSITY:.0%}: it would be copied")
    values = {found.index: guest.global_value(f"probe {found.index}") for found in mutable}
    flags, _, maximum = module.memory()
    pages = len(memory) // PAGE
    limits = unsigned(flags) + unsigned(pages) + (b"" if maximum is None else unsigned(maximum))
    kept = [export for export in exports if export.name not in (INITIALISER, CONSTRUCTORS, layout.EXPORT, layout.WATCH)]
    new = {
        MEMORY: vector([limits]),
        GLOBAL: vector([(g.with_value(values[g.index]) if g.mutable else g).encode() for g in own]),
        EXPORT: vector([export.encode() for export in kept]),
        START: None,
        **({} if elements is None else {tables.ELEMENT: elements}),
        DATACOUNT: unsigned(len(found)),
        DATA: vector([b"\0\x41" + signed(at) + bytes([END]) + unsigned(len(body)) + body for at, body in found]),
    }
    return Snapshot(module.replaced(new).encode(), pages, len(found), data_bytes, round(density, 4))


def _used(engine: wasmtime.Engine, module: wasmtime.Module, abi: Abi, places: int) -> layout.Hot:
    """The blocks that sample nodes write to and the functions that they call, found in an instance of its own."""
    guest = Guest(engine, module, abi)
    try:
        guest.call(CONSTRUCTORS)
        trace = layout.trace(guest)
        guest.call(INITIALISER)
        return layout.written(guest, trace, places)
    except driver.GuestError as error:
        raise SnapshotError(f"the samples of the layout failed: {error}") from error


def segments(memory: bytes | bytearray, gap: int = GAP) -> list[tuple[int, bytes]]:
    """The stretches of memory without a run of `gap` zero bytes, and where they begin."""
    zeros, found, at = bytes(gap), [], 0
    while at < len(memory):
        if memory.startswith(zeros, at):
            at += gap
            continue
        end = memory.find(zeros, at)
        end = len(memory) if end < 0 else end
        piece = bytes(memory[at:end])
        body = piece.strip(b"\0")
        if body:
            found.append((at + len(piece) - len(piece.lstrip(b"\0")), body))
        at = end
    return found or [(0, b"\0")]
