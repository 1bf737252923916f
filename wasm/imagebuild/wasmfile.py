"""The WebAssembly binary format, as far as the build reads and rewrites it (core specification, chapter 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\0asm\1\0\0\0"
CUSTOM, TYPE, IMPORT, MEMORY, GLOBAL, EXPORT, START, DATA, DATACOUNT = 0, 1, 2, 5, 6, 7, 8, 11, 12
KINDS = ("function", "table", "memory", "global")
TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128", 0x70: "funcref", 0x6F: "externref"}
END = 0x0B

Signature = tuple[tuple[str, ...], tuple[str, ...]]


class WasmError(ValueError):
    """Not a module that this build understands."""


class Reader:
    """A position in a section."""

    def __init__(self, body: bytes, at: int = 0) -> None:
        self.body = body
        self.at = at

    def unsigned(self) -> int:
        result = shift = 0
        while True:
            byte = self.take(1)[0]
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.body):
            raise WasmError(f"cut off at byte {len(self.body)}")
        self.at += size
        return self.body[self.at - size : self.at]

    def name(self) -> str:
        return self.take(self.unsigned()).decode("utf-8")

    def constant(self) -> bytes:
        """A constant expression with its `end`."""
        start = self.at
        while (opcode := self.take(1)[0]) != END:
            if opcode in (0x41, 0x42, 0x23, 0xD2):  # i32.const, i64.const, global.get, ref.func
                self.unsigned()
            elif opcode in (0x43, 0x44):  # f32.const, f64.const
                self.take(4 if opcode == 0x43 else 8)
            elif opcode == 0xD0:  # ref.null
                self.take(1)
            else:
                raise WasmError(f"opcode {opcode:#x} in a constant expression")
        return self.body[start : self.at]

    def limits(self) -> tuple[int, int, int | None]:
        flags, minimum = self.unsigned(), self.unsigned()
        return flags, minimum, self.unsigned() if flags & 1 else None


def unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 127, value >> 7
        if value == (-1 if byte & 64 else 0):
            return bytes([*out, byte])
        out.append(byte | 128)


def vector(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)


def named(name: str) -> bytes:
    return unsigned(len(body := name.encode())) + body


@dataclass(frozen=True)
class Import:
    module: str
    name: str
    kind: str
    type: Signature | bytes


@dataclass(frozen=True)
class Export:
    name: str
    kind: str
    index: int

    def encode(self) -> bytes:
        return named(self.name) + bytes([KINDS.index(self.kind)]) + unsigned(self.index)


@dataclass(frozen=True)
class Global:
    """`index` counts the imported ones too; `initial` is a constant expression with its end."""

    index: int
    type: int
    mutable: bool
    initial: bytes

    def encode(self) -> bytes:
        return bytes([self.type, self.mutable]) + self.initial

    def with_value(self, value: int | float) -> Global:
        """The same global with another initial value."""
        match self.type:
            case 0x7F:
                code = b"\x41" + signed(_wrapped(int(value), 32))
            case 0x7E:
                code = b"\x42" + signed(_wrapped(int(value), 64))
            case 0x7D:
                code = b"\x43" + struct.pack("<f", value)
            case 0x7C:
                code = b"\x44" + struct.pack("<d", value)
            case _:
                raise WasmError(f"a mutable global of type {TYPES.get(self.type, self.type)}")
        return Global(self.index, self.type, self.mutable, code + bytes([END]))


def _wrapped(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Module:
    """A module as its sections, in order. `replaced` returns another module."""

    def __init__(self, sections: list[tuple[int, bytes]]) -> None:
        self.sections = sections

    @classmethod
    def parse(cls, body: bytes) -> Module:
        if body[:8] != MAGIC:
            raise WasmError("not a core WebAssembly module")
        reader, sections = Reader(body, 8), []
        while reader.at < len(body):
            identity = reader.take(1)[0]
            sections.append((identity, reader.take(reader.unsigned())))
        return cls(sections)

    def encode(self) -> bytes:
        return MAGIC + b"".join(bytes([identity]) + unsigned(len(body)) + body for identity, body in self.sections)

    def section(self, identity: int) -> bytes:
        """The section's body; an empty vector if it is absent."""
        return next((body for found, body in self.sections if found == identity and found != CUSTOM), b"\0")

    def customs(self) -> dict[str, bytes]:
        found = {}
        for identity, body in self.sections:
            if identity == CUSTOM:
                reader = Reader(body)
                name = reader.name()
                found[name] = body[reader.at :]
        return found

    def replaced(self, new: dict[int, bytes | None]) -> Module:
        """The module with the bodies of some sections replaced; None leaves a section out. An absent section is not added."""
        exchanged = ((identity, new.get(identity, body)) for identity, body in self.sections)
        return Module([(identity, body) for identity, body in exchanged if body is not None])

    def _entries(self, identity: int) -> Iterator[Reader]:
        reader = Reader(self.section(identity))
        for _ in range(reader.unsigned()):
            yield reader

    def types(self) -> list[Signature]:
        found = []
        for reader in self._entries(TYPE):
            if reader.take(1) != b"\x60":
                raise WasmError("only function types are understood")
            parameters, results = ([TYPES[byte] for byte in reader.take(reader.unsigned())] for _ in range(2))
            found.append((tuple(parameters), tuple(results)))
        return found

    def imports(self) -> list[Import]:
        types, found = self.types(), []
        for reader in self._entries(IMPORT):
            module, name, kind = reader.name(), reader.name(), KINDS[reader.take(1)[0]]
            start = reader.at
            if kind == "function":
                found.append(Import(module, name, kind, types[reader.unsigned()]))
                continue
            if kind == "global":
                reader.take(2)
            else:
                if kind == "table":
                    reader.take(1)
                reader.limits()
            found.append(Import(module, name, kind, reader.body[start : reader.at]))
        return found

    def exports(self) -> list[Export]:
        return [Export(r.name(), KINDS[r.take(1)[0]], r.unsigned()) for r in self._entries(EXPORT)]

    def globals(self) -> list[Global]:
        first = sum(1 for found in self.imports() if found.kind == "global")
        entries = enumerate(self._entries(GLOBAL), first)
        return [Global(index, r.take(1)[0], bool(r.take(1)[0]), r.constant()) for index, r in entries]

    def memory(self) -> tuple[int, int, int | None]:
        """Flags, minimum and maximum (in pages) of the one memory."""
        reader = Reader(self.section(MEMORY))
        if reader.unsigned() != 1:
            raise WasmError("expected one memory of the module's own")
        return reader.limits()

    def features(self) -> list[str]:
        """The features that the code uses, from the target_features section (tool conventions)."""
        body = self.customs().get("target_features", b"\0")
        reader = Reader(body)
        return sorted(r[1] for r in [(reader.take(1), reader.name()) for _ in range(reader.unsigned())] if r[0] == b"+")
