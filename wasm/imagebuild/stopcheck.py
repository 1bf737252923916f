"""Proves for a finished module that it can be stopped: whatever it does, it soon loads from the stop page.

Written apart from stops.py, which puts the loads in: here a function is a graph of basic blocks, a block that loads from the stop
page is taken out, and what is left must have no cycle. The same for calls: what functions can call before a load of their own must
have no cycle, and an indirect call may be one of any function, so each must come after a load.

One edge is allowed for: CPython's bytecode loop, from its dispatch (a ``br_table`` over all opcodes) to the opcodes that
handlers.py has spared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from imagebuild.wasmfile import Module, Reader, WasmError

CODE, FUNCTION_SECTION = 10, 3
PAGE_BYTES = 4096
OPCODES = 200
"""A ``br_table`` with at least this number of targets is a dispatch of bytecodes."""

_LEB = rb"(?:[\x80-\xff]*+[\x00-\x7f])"
# Instructions that neither branch nor call, by their immediates (core specification, chapter 5.4).
_NOTHING = rb"[\x01\x1a\x1b\x45-\xc4\xd1]"
_ONE = rb"[\x20-\x26\x3f\x40\x41\x42\xd0\xd2]" + _LEB
_FIXED = rb"\x43.{4}|\x44.{8}|\x1c\x01.|\xfc[\x00-\x07]"
_MEMORY = rb"[\x28-\x3e]" + _LEB + _LEB
_SIMD = (
    rb"\xfd(?:[\x00-\x0b\x5c\x5d]" + _LEB + _LEB + rb"|[\x54-\x5b]" + _LEB + _LEB + rb"."
    rb"|[\x0c\x0d].{16}|[\x15-\x22].|[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff][\x01-\x7f])"
)
_STRAIGHT = re.compile(rb"(?s:(?:%b)+)" % rb"|".join([_NOTHING, _ONE, _FIXED, _MEMORY, _SIMD]))
_LOAD = re.compile(rb"\x41\x00\x28\x02(%b)\x1a" % _LEB)
_ONE_STRAIGHT = re.compile(rb"(?s:%b)" % rb"|".join([_NOTHING, _ONE, _FIXED, _MEMORY, _SIMD]))

_UNREACHABLE, _BLOCK, _LOOP, _IF, _ELSE, _END = 0x00, 0x02, 0x03, 0x04, 0x05, 0x0B
_BR, _BR_IF, _BR_TABLE, _RETURN, _CALL, _CALL_INDIRECT = 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11


@dataclass
class Block:
    """A basic block.

    Attributes:
        next: the blocks that may follow.
        loads: whether it loads from the stop page.
        calls: functions called before its first load; None: an indirect call.
        table: the targets of its ``br_table``, in order.
    """

    next: list[int] = field(default_factory=list)
    loads: bool = False
    calls: set[int | None] = field(default_factory=set)
    table: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Graph:
    """A function. Block 0 is its beginning.

    Attributes:
        places: of its loads, where their ``i32.load`` stands in the body.
        ends: of its loads, where the innermost block, loop or if around it ends.
        addresses: what they load.
        branches: where branches and calls stand.
    """

    blocks: list[Block]
    places: list[int]
    ends: list[int]
    addresses: list[int]
    branches: list[int]


def graph(body: bytes) -> Graph:
    """The basic blocks of one function body.

    Raises:
        WasmError: an instruction that is not understood.
    """
    reader = Reader(body)
    for _ in range(reader.unsigned()):
        reader.unsigned()
        reader.take(1)
    builder = _Builder(body)
    at = reader.at
    while at < len(body):
        at = builder.step(at)
    if builder.open:
        raise WasmError("a function ends within a block")
    return Graph(builder.blocks, builder.places, builder.ends, builder.addresses, builder.branches)


class _Builder:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.blocks = [Block(), Block()]
        self.here = 0  # the block that is being read
        self.open: list[tuple[int, int, int]] = [
            (_BLOCK, 1, 0)
        ]  # opcode, where a branch to it goes, where an absent else begins
        self.places: list[int] = []
        self.ends: list[int] = []
        self.addresses: list[int] = []
        self.branches: list[int] = []
        self.inside: list[list[int]] = [[]]  # the loads in each of `open`

    def close(self, at: int) -> None:
        for load in self.inside.pop():
            self.ends[load] = at

    def new(self) -> int:
        self.blocks.append(Block())
        return len(self.blocks) - 1

    def edge(self, target: int) -> None:
        self.blocks[self.here].next.append(target)

    def step(self, at: int) -> int:
        """Read a stretch of straight code, or one other instruction. Returns where the next one begins."""
        body = self.body
        if straight := _STRAIGHT.match(body, at):
            for found in _LOAD.finditer(body, at, straight.end()):
                self.load(at, found)
            return straight.end()
        opcode, reader = body[at], Reader(body, at + 1)
        if opcode not in (_BLOCK, _LOOP, _ELSE, _END):
            self.branches.append(at)
        if opcode in (_BLOCK, _LOOP, _IF):
            reader.unsigned()
            self.enter(opcode)
        elif opcode == _ELSE:
            kind, end, other = self.open.pop()
            if kind != _IF:
                raise WasmError("an else without its if")
            self.edge(end)
            self.open.append((_BLOCK, end, 0))
            self.close(at)
            self.inside.append([])
            self.here = other
        elif opcode == _END:
            kind, end, other = self.open.pop()
            self.close(at)
            if kind != _LOOP:
                self.edge(end)
                if kind == _IF:
                    self.here = other
                    self.edge(end)
                self.here = end
        elif opcode in (_BR, _BR_IF):
            self.edge(self.target(reader.unsigned()))
            if opcode == _BR_IF:
                after = self.new()
                self.edge(after)
                self.here = after
            else:
                self.here = self.new()
        elif opcode == _BR_TABLE:
            table = [self.target(reader.unsigned()) for _ in range(reader.unsigned() + 1)]
            self.blocks[self.here].table = table
            self.blocks[self.here].next += sorted(set(table))
            self.here = self.new()
        elif opcode in (_RETURN, _UNREACHABLE):
            self.here = self.new()
        elif opcode == _CALL:
            self.call(reader.unsigned())
        elif opcode == _CALL_INDIRECT:
            reader.unsigned()
            reader.unsigned()
            self.call(None)
        else:
            raise WasmError(f"opcode {opcode:#x} is not understood here")
        return reader.at

    def enter(self, opcode: int) -> None:
        self.inside.append([])
        inside = self.new()
        self.edge(inside)
        if opcode == _IF:
            other = self.new()
            self.edge(other)
            self.open.append((_IF, self.new(), other))
        else:
            self.open.append((opcode, inside if opcode == _LOOP else self.new(), 0))
        self.here = inside

    def target(self, depth: int) -> int:
        return self.open[-1 - depth][1]

    def call(self, callee: int | None) -> None:
        if not self.blocks[self.here].loads:
            self.blocks[self.here].calls.add(callee)

    def load(self, start: int, found: re.Match[bytes]) -> None:
        """The bytes may be part of another instruction's immediate: they are a load only if an instruction begins there."""
        at = start
        while at < found.start():
            one = _ONE_STRAIGHT.match(self.body, at)
            assert one is not None
            at = one.end()
        address = Reader(found[1]).unsigned()
        if at == found.start() and address <= PAGE_BYTES - 4:
            self.blocks[self.here].loads = True
            self.inside[-1].append(len(self.places))
            self.ends.append(0)
            self.places.append(found.start() + 2)
            self.addresses.append(address)


def _cycle(next_of: dict[int, Iterable[int]]) -> list[int]:
    """The members of some cycle, or nothing."""
    state: dict[int, int] = {}
    for root in next_of:
        if root in state:
            continue
        state[root] = 1
        path = [(root, iter(next_of[root]))]
        while path:
            node, edges = path[-1]
            for target in edges:
                if target not in next_of or state.get(target) == 2:
                    continue
                if target in state:
                    members = [member for member, _ in path]
                    return members[members.index(target) :]
                state[target] = 1
                path.append((target, iter(next_of[target])))
                break
            else:
                state[node] = 2
                path.pop()
    return []


@dataclass(frozen=True)
class Problem:
    """A function (its index counts imports) that can go on without a load, and how."""

    function: int
    what: str


@dataclass(frozen=True)
class Checked:
    """What `check` has found.

    Attributes:
        problems: empty if the module can be stopped.
        loads: of each function with loads, where each stands in the file, and where the innermost block around it ends.
        branches: where the branches and calls of all functions stand in the file.
        unstopped: the opcodes that lead back to the dispatch of bytecodes without a load.
    """

    problems: list[Problem]
    loads: dict[int, list[tuple[int, int]]]
    branches: list[int]
    unstopped: frozenset[int]


def check(wasm: bytes, spared: Iterable[int] = ()) -> Checked:
    """Look at every function of a module.

    Args:
        wasm: the module's file.
        spared: opcodes whose way round the dispatch of bytecodes may be without a load.
    """
    module = Module.parse(wasm)
    first = sum(1 for found in module.imports() if found.kind == "function")
    problems: list[Problem] = []
    calls: dict[int, set[int | None]] = {}
    loads: dict[int, list[tuple[int, int]]] = {}
    branches: list[int] = []
    dispatches = 0
    unstopped: frozenset[int] = frozenset()
    for function, (start, body) in enumerate(_bodies(wasm), first):
        made = graph(body)
        if len(set(made.addresses)) != len(made.addresses):
            problems.append(Problem(function, "two loads of one address, which may be merged"))
        if made.places:
            loads[function] = [(start + place, start + end) for place, end in zip(made.places, made.ends, strict=True)]
        branches += [start + place for place in made.branches]
        calls[function] = _early_calls(made)
        cycle = _cycle(_without_loads(made, None))
        if not cycle:
            continue
        cut = next((block for block in made.blocks if len(block.table) >= OPCODES), None)
        if cut is None or dispatches or (cycle := _cycle(_without_loads(made, cut))):
            problems.append(Problem(function, f"a way round without a load (blocks {cycle[:10]})"))
            continue
        dispatches += 1
        unstopped = frozenset(_unstopped(made, cut))
        if wrong := unstopped - set(spared):
            problems.append(Problem(function, f"opcodes {sorted(wrong)} lead back to the dispatch without a load"))
    problems += _check_calls(calls, first)
    return Checked(problems, loads, branches, unstopped)


def _without_loads(made: Graph, cut: Block | None) -> dict[int, Iterable[int]]:
    return {index: () if block is cut else block.next for index, block in enumerate(made.blocks) if not block.loads}


def _unstopped(made: Graph, cut: Block) -> list[int]:
    """The indices of the table from which the dispatch can be reached without a load."""
    before: dict[int, list[int]] = {}
    for index, block in enumerate(made.blocks):
        if not block.loads:
            for target in block.next:
                before.setdefault(target, []).append(index)
    if cut.loads:
        return []
    dispatch = made.blocks.index(cut)
    seen, todo = {dispatch}, [dispatch]
    while todo:
        for index in before.get(todo.pop(), ()):
            if index not in seen:
                seen.add(index)
                if index != dispatch:
                    todo.append(index)
    return [opcode for opcode, target in enumerate(cut.table) if target in seen]


def _early_calls(made: Graph) -> set[int | None]:
    """The functions that a function may call before its first load."""
    seen, todo = {0}, [0]
    found: set[int | None] = set()
    while todo:
        block = made.blocks[todo.pop()]
        found |= block.calls
        if not block.loads:
            new = [target for target in block.next if target not in seen]
            seen.update(new)
            todo += new
    return found


def _check_calls(calls: dict[int, set[int | None]], first: int) -> list[Problem]:
    problems = [
        Problem(function, "an indirect call before its first load")
        for function, found in calls.items()
        if None in found
    ]
    if problems:
        return problems  # each of them is in a cycle of its own, as far as can be known
    cycle = _cycle({function: [c for c in found if c is not None and c >= first] for function, found in calls.items()})
    return [Problem(cycle[0], f"calls itself without a load, through {cycle}")] if cycle else []


def names(wasm: bytes) -> dict[int, str]:
    """The names of functions in the name section, by index."""
    found: dict[int, str] = {}
    section = Module.parse(wasm).customs().get("name", b"")
    reader = Reader(section)
    while reader.at < len(section):
        kind, size = reader.take(1)[0], reader.unsigned()
        if kind != 1:
            reader.take(size)
            continue
        for _ in range(reader.unsigned()):
            index = reader.unsigned()
            found[index] = reader.name()
    return found


def _bodies(wasm: bytes) -> Iterable[tuple[int, bytes]]:
    """Each function body, and where it stands in the file."""
    reader = Reader(wasm, 8)
    while reader.at < len(wasm):
        identity, size = reader.take(1)[0], reader.unsigned()
        if identity != CODE:
            reader.take(size)
            continue
        for _ in range(reader.unsigned()):
            length = reader.unsigned()
            yield reader.at, reader.take(length)
