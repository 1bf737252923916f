"""Reads function bodies instruction by instruction, to prove what code cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from imagebuild.wasmfile import CUSTOM, Module, Reader, WasmError

CODE, DATA_SECTION = 10, 11
MEMORY_GROW, MISC, SIMD, ATOMIC = 0x40, 0xFC, 0xFD, 0xFE
GLOBALS = frozenset({0x23, 0x24})
STORES = frozenset(range(0x36, 0x3F))
# Relocations (tool conventions, "Relocation Sections") that put an address of linear memory into code.
MEMORY_RELOCATIONS = frozenset({3, 4, 5, 11, 14, 15, 16, 17, 21})
WITH_ADDEND = MEMORY_RELOCATIONS | {8, 9, 22, 23, 25}
SYMBOL_TABLE = 8
UNDEFINED, EXPLICIT_NAME = 0x10, 0x40

_BLOCKS = frozenset({0x02, 0x03, 0x04, 0x06})
_ONE_INDEX = frozenset({0x0C, 0x0D, 0x10, 0x12, 0x20, 0x21, 0x22, 0x25, 0x26, 0xD0, 0xD2, 0x3F, 0x40})
_TWO_INDEXES = frozenset({0x11, 0x13}) | frozenset(range(0x28, 0x3F))
_MISC_INDEXES = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}


def instructions(module: Module) -> Iterator[tuple[int, int]]:
    """(opcode, sub-opcode) of every instruction; the sub-opcode is 0 but for the prefixed ones.

    Raises:
        WasmError: an opcode that is not understood, such as SIMD.
    """
    for body in bodies(module):
        yield from instructions_of(body)


def bodies(module: Module) -> Iterator[bytes]:
    """The code of every function that the module defines, in order."""
    reader = Reader(module.section(CODE))
    for _ in range(reader.unsigned()):
        yield reader.take(reader.unsigned())


def instructions_of(body: bytes) -> Iterator[tuple[int, int]]:
    """Like `instructions`, for one function. The sub-opcode of global.get and global.set is the index of the global."""
    reader = Reader(body)
    for _ in range(reader.unsigned()):  # groups of locals
        reader.unsigned()
        reader.take(1)
    while reader.at < len(body):
        yield _instruction(reader)


def _instruction(reader: Reader) -> tuple[int, int]:
    opcode = reader.take(1)[0]
    if opcode in GLOBALS:
        return opcode, reader.unsigned()
    if opcode in _BLOCKS or opcode in _ONE_INDEX or opcode in (0x41, 0x42):
        reader.unsigned()  # signed ones have the same length
    elif opcode in _TWO_INDEXES:
        reader.unsigned()
        reader.unsigned()
    elif opcode == 0x0E:  # br_table
        for _ in range(reader.unsigned() + 1):
            reader.unsigned()
    elif opcode in (0x43, 0x44):
        reader.take(4 if opcode == 0x43 else 8)
    elif opcode == 0x1C:  # typed select
        reader.take(reader.unsigned())
    elif opcode == MISC:
        sub = reader.unsigned()
        for _ in range(_MISC_INDEXES.get(sub, 0)):
            reader.unsigned()
        return opcode, sub
    elif opcode in (SIMD, ATOMIC):
        raise WasmError(f"opcode {opcode:#x} is not understood here")
    return opcode, 0


def writes_memory(module: Module) -> list[str]:
    """Names the instructions of a module that write to linear memory or grow it; empty if there is none."""
    return sorted({f"{opcode:#x} {sub}" for opcode, sub in instructions(module) if is_write(opcode, sub)})


def is_write(opcode: int, sub: int) -> bool:
    return opcode in STORES or opcode == MEMORY_GROW or (opcode == MISC and sub in (8, 10, 11))


def memory_symbols(module: Module) -> list[str]:
    """The symbols of linear memory whose addresses a relocatable object's code holds, by name."""
    customs = module.customs()
    names = _symbols(customs.get("linking", b""))
    found = set()
    for section, body in customs.items():
        if not section.startswith("reloc."):
            continue
        reader = Reader(body)
        target = reader.unsigned()
        if module.sections[target][0] == CUSTOM:
            continue  # debugging information and the like
        for _ in range(reader.unsigned()):
            kind = reader.take(1)[0]
            reader.unsigned()
            index = reader.unsigned()
            if kind in WITH_ADDEND:
                reader.unsigned()
            if kind in MEMORY_RELOCATIONS:
                found.add(names[index])
    return sorted(found)


def _symbols(linking: bytes) -> list[str]:
    reader = Reader(linking)
    if reader.unsigned() != 2:
        raise WasmError("not a relocatable object of the known version")
    names: list[str] = []
    while reader.at < len(linking):
        kind, size = reader.take(1)[0], reader.unsigned()
        if kind != SYMBOL_TABLE:
            reader.take(size)
            continue
        count = reader.unsigned()
        names += [_symbol(reader) for _ in range(count)]
    return names


def _symbol(reader: Reader) -> str:
    kind, flags = reader.take(1)[0], reader.unsigned()
    if kind == 1:  # data
        name = reader.name()
        if not flags & UNDEFINED:
            for _ in range(3):
                reader.unsigned()
        return name
    index = reader.unsigned()
    if kind == 3:  # section
        return f"section {index}"
    return reader.name() if not flags & UNDEFINED or flags & EXPLICIT_NAME else f"import {index}"
