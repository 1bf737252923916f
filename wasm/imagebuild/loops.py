"""Makes every loop of the image touch linear memory in every turn, so that a page guard can stop it.

Under ``metering="guard"`` a guest is stopped by the next load or store after its memory has been locked, and a loop without
any would run on. Nearly all loops have one on every way round; the others get a load whose value is dropped. wasmtime
keeps it, because a load that may trap has an effect; it may only merge two loads of the same address, so each loop of a
function has an address of its own.
"""

from __future__ import annotations

import re

from imagebuild.wasmcode import CODE
from imagebuild.wasmfile import Module, Reader, WasmError, unsigned, vector

UNREACHABLE, BLOCK, LOOP, IF, ELSE, END, BR, BR_IF, BR_TABLE, RETURN = (
    0x00,
    0x02,
    0x03,
    0x04,
    0x05,
    0x0B,
    0x0C,
    0x0D,
    0x0E,
    0x0F,
)
SLOTS = 1024
"""Loads that a function may get: they lie in one page."""

_LEB = rb"[\x80-\xff]*+[\x00-\x7f]"
_MEMARG = _LEB + _LEB
_TOUCH = rb"[\x28-\x3e]" + _MEMARG + rb"|\xfd(?:[\x00-\x0b\x5c\x5d]" + _MEMARG + rb"|[\x54-\x5b]" + _MEMARG + rb".)"
_PLAIN = rb"|".join(
    [
        rb"[\x01\x1a\x1b\x45-\xc4\xd1]",
        rb"[\x10\x20-\x26\x3f-\x42\xd0\xd2]" + _LEB,
        rb"\x11" + _LEB + _LEB,  # call_indirect
        rb"\x43.{4}|\x44.{8}|\x1c\x01.|\xfc[\x00-\x07]",  # f32.const, f64.const, typed select, saturating conversions
        rb"\xfd(?:[\x0c\x0d].{16}|[\x15-\x22].|[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff][\x01-\x7f])",  # SIMD
    ]
)
# A stretch of code without branches, whether it touches memory (group 1), and the control instruction (2) that ends it. One
# match for many instructions: the image has millions.
_STRETCH = re.compile(
    rb"(?s:(?:%b)*+((?:%b)(?:%b|%b)*+)?+([\x00\x02-\x05\x0b-\x0f]))" % (_PLAIN, _TOUCH, _PLAIN, _TOUCH)
)
_NEVER = 1 << 30


def interruptible(module: Module, address: int) -> tuple[Module, int]:
    """The module with a load in each loop that may go round without touching memory, and their number.

    Args:
        module: linked, without relocations.
        address: of SLOTS readable words, in a page that is in use anyway.

    Raises:
        WasmError: an instruction that is not understood here.
    """
    reader = Reader(module.section(CODE))
    bodies, count = [], 0
    for _ in range(reader.unsigned()):
        body = reader.take(reader.unsigned())
        if places := untouched(body):
            if len(places) > SLOTS:
                raise WasmError(f"a function has {len(places)} loops that touch no memory")
            count += len(places)
            body = _with_loads(body, places, address)
        bodies.append(unsigned(len(body)) + body)
    return module.replaced({CODE: vector(bodies)}), count


def _with_loads(body: bytes, places: list[int], address: int) -> bytes:
    parts, start = [], 0
    for number, place in enumerate(places):
        load = b"\x41\x00\x28\x02" + unsigned(address + 4 * number) + b"\x1a"  # i32.const 0, i32.load, drop
        parts += [body[start:place], load]
        start = place
    return b"".join([*parts, body[start:]])


def untouched(body: bytes) -> list[int]:
    """Where the loops of a function begin, behind their opcode and type, that have a way round without a load or store.

    A call does not count: what is called may touch nothing. `touched` is how many of the loops around an instruction, from the
    outermost one, have certainly touched memory since they were last entered or went round. Touching in an inner loop is
    touching in the outer ones, so one number is enough.
    """
    at = _behind_locals(body)
    frames = [_Frame(BLOCK, 0, 0)]
    depth = touched = 0
    found = set()
    while at < len(body):
        stretch = _STRETCH.match(body, at)
        if stretch is None:
            raise WasmError(f"opcode {body[at]:#x} or one behind it is not understood here")
        if stretch[1] is not None and touched != _NEVER:
            touched = depth
        at, opcode = stretch.end(), stretch[2][0]
        if opcode in (BLOCK, LOOP, IF):
            at = _skip(body, at)
            depth += opcode == LOOP
            frames.append(_Frame(opcode, depth, touched, at))
        elif opcode == ELSE:
            frame = frames[-1]
            frame.leave(touched)
            touched, frame.opcode = frame.entered, ELSE
        elif opcode == END:
            frame = frames.pop()
            if frame.opcode == LOOP:
                depth -= 1
            else:
                touched = min(touched, frame.left, frame.entered if frame.opcode == IF else _NEVER)
            if touched != _NEVER:
                touched = min(touched, depth)
        else:
            targets, at = _targets(body, at, opcode)
            for target in targets:
                frame = frames[-1 - target]
                if frame.opcode != LOOP:
                    frame.leave(touched)
                elif touched < frame.depth:
                    found.add(frame.at)
            if opcode != BR_IF:
                touched = _NEVER
    return sorted(found)


class _Frame:
    """A block, loop or if that is open: the loops around it, what was touched at its start, and where branches leave it."""

    __slots__ = ("at", "depth", "entered", "left", "opcode")

    def __init__(self, opcode: int, depth: int, entered: int, at: int = 0) -> None:
        self.opcode, self.depth, self.entered, self.at = opcode, depth, entered, at
        self.left = _NEVER

    def leave(self, touched: int) -> None:
        self.left = min(self.left, touched)


def _skip(body: bytes, at: int) -> int:
    while body[at] > 127:
        at += 1
    return at + 1


def _behind_locals(body: bytes) -> int:
    reader = Reader(body)
    for _ in range(reader.unsigned()):
        reader.unsigned()
        reader.take(1)
    return reader.at


def _targets(body: bytes, at: int, opcode: int) -> tuple[list[int], int]:
    reader = Reader(body, at)
    if opcode == BR_TABLE:
        return [reader.unsigned() for _ in range(reader.unsigned() + 1)], reader.at
    return ([reader.unsigned()] if opcode in (BR, BR_IF) else []), reader.at
