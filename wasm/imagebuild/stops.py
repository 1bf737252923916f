"""Puts the loads from the stop page into the linked module: the host stops a guest by making that page inaccessible.

The rule: between two loads a guest executes a bounded number of instructions. So there is one on each way round a loop, and one in
each cycle of calls:

- a load stands before a ``call_indirect``, unless its function has certainly executed one already (the bytecode loop's function
  begins with one);
- direct calls that may come before a load of their function form a graph; as many functions as it takes to leave that graph
  without a cycle begin with a load;
- a loop that has a way round without any of these gets one at its head.

The bytecode loop of CPython is the exception. Its loads have been written in C (handlers.py), because they depend on the bytecode.

wasmtime keeps a load whose value is dropped, since a load that may trap has an effect, but it merges two of the same address if
no store lies between them. So each load of a function has an address of its own. `stopcheck` proves the rule for the finished
module, and `compiledcheck` that every load is there in native code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from imagebuild.wasmcode import CODE
from imagebuild.wasmfile import Module, Reader, WasmError, unsigned, vector

BLOCK, LOOP, IF, ELSE, END, BR, BR_IF, BR_TABLE = 0x02, 0x03, 0x04, 0x05, 0x0B, 0x0C, 0x0D, 0x0E
CALL, CALL_INDIRECT = 0x10, 0x11
SLOTS = 1024
"""The most loads that a function may have: each has 4 bytes of its own, within the smallest page of a host."""
OPCODES = 200
"""A ``br_table`` with at least this number of targets, in the function that came with loads, is the dispatch of bytecodes."""

_LEB = rb"[\x80-\xff]*+[\x00-\x7f]"
_MEMARG = _LEB + _LEB
_LOAD = rb"\x41\x00\x28\x02(?:[\x00-\x7f]|[\x80-\xff][\x00-\x1f])\x1a"  # i32.const 0, i32.load of less than 4096, drop
_PLAIN = rb"|".join(
    [
        rb"[\x01\x1a\x1b\x45-\xc4\xd1]",
        rb"(?!" + _LOAD + rb")\x41" + _LEB,
        rb"[\x20-\x26\x3f\x40\x42\xd0\xd2]" + _LEB,
        rb"\x43.{4}|\x44.{8}|\x1c\x01.|\xfc[\x00-\x07]",  # f32.const, f64.const, typed select, saturating conversions
        rb"[\x28-\x3e]" + _MEMARG,
        rb"\xfd(?:[\x0c\x0d].{16}|[\x15-\x22].|[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff][\x01-\x7f])",  # SIMD
        rb"\xfd(?:[\x00-\x0b\x5c\x5d]" + _MEMARG + rb"|[\x54-\x5b]" + _MEMARG + rb".)",
    ]
)
# Code without control flow, and what ends it: a load from the stop page (1), a call (2) or a control instruction (3).
_STRETCH = re.compile(rb"(?s:(?:%b)*+(?:(%b)|([\x10\x11])|([\x00\x02-\x05\x0b-\x0f])))" % (_PLAIN, _LOAD))
_NEVER = 1 << 30


@dataclass(frozen=True)
class Inserted:
    """What `stoppable` has put in.

    Attributes:
        module: the result.
        before_calls: loads before indirect calls.
        entries: loads at the beginning of a function.
        loops: loads at the head of a loop.
        given: loads that came with the code.
    """

    module: Module
    before_calls: int
    entries: int
    loops: int
    given: int


@dataclass
class _Scan:
    """Of one function: where loops begin that have a way round without a load, where each loop ends, and where the loop begins that
    dispatches bytecodes; where indirect calls stand before which there may have been no load since its beginning; which functions
    it may call before a load; how many loads it has.
    """

    loops: set[int] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)
    dispatch: int = 0
    indirect: list[int] = field(default_factory=list)
    calls: set[int] = field(default_factory=set)
    loads: int = 0


def stoppable(module: Module) -> Inserted:
    """The module with a load from the stop page wherever the rule asks for one.

    Raises:
        WasmError: an instruction that is not understood here, a function with too many loads, or more than one function that came
            with loads.
    """
    reader = Reader(module.section(CODE))
    bodies = [reader.take(reader.unsigned()) for _ in range(reader.unsigned())]
    first = sum(1 for found in module.imports() if found.kind == "function")
    given = before_calls = loops = 0
    graph: dict[int, set[int]] = {}
    evaluators = set()
    for index, body in enumerate(bodies):
        scan = scanned(body)
        if scan.loads:
            evaluators.add(index)
            given += scan.loads
            body = _inserted(
                body, [_behind_locals(body)]
            )  # one for each call of it, none before its many indirect calls
            scan = scanned(body)
        before_calls += len(scan.indirect)
        bodies[index] = _inserted(body, scan.indirect)
        graph[index] = {callee - first for callee in scan.calls if callee >= first}
    if len(evaluators) > 1:
        raise WasmError(
            f"functions {sorted(evaluators)} came with loads from the stop page: the bytecode loop alone has some"
        )
    entries = cut(graph, [len(body) for body in bodies])
    for index, body in enumerate(bodies):
        if index in entries:
            body = _inserted(body, [_behind_locals(body)])
        while places := _loops(scanned(body), index in evaluators):
            loops += len(places)
            body = _inserted(body, places)
        bodies[index] = _numbered(body)
    code = vector([unsigned(len(body)) + body for body in bodies])
    return Inserted(module.replaced({CODE: code}), before_calls, len(entries) + len(evaluators), loops, given)


def _loops(scan: _Scan, evaluator: bool) -> list[int]:
    """The loops to put a load into first: the innermost ones, since those around them may then have one on each way round."""
    wanted = scan.loops - ({scan.dispatch} if evaluator else set())
    return sorted(at for at in wanted if not any(at < inner < scan.ends[at] for inner in wanted))


def without(module: Module) -> Module:
    """The module without its loads from the stop page, to measure their cost. It cannot be stopped."""
    reader = Reader(module.section(CODE))
    bodies = [_removed(reader.take(reader.unsigned())) for _ in range(reader.unsigned())]
    return module.replaced({CODE: vector([unsigned(len(body)) + body for body in bodies])})


def _load(number: int) -> bytes:
    return b"\x41\x00\x28\x02" + unsigned(4 * number) + b"\x1a"


def _inserted(body: bytes, places: Iterable[int]) -> bytes:
    parts, start = [], 0
    for place in places:
        parts += [body[start:place], _load(0)]
        start = place
    return b"".join([*parts, body[start:]])


def _places(body: bytes) -> list[tuple[int, int]]:
    """Where the loads of a function begin and end."""
    at, found = _behind_locals(body), []
    while at < len(body):
        stretch = _matched(body, at)
        at = stretch.end()
        if stretch[1] is not None:
            found.append(stretch.span(1))
        elif stretch[2] is not None:
            at = _skip_call(body, at, stretch[2][0])
        else:
            at = _skip_control(body, at, stretch[3][0])
    return found


def _numbered(body: bytes) -> bytes:
    places = _places(body)
    if len(places) > SLOTS:
        raise WasmError(f"a function has {len(places)} loads from the stop page, which has room for {SLOTS}")
    parts, start = [], 0
    for number, (begin, end) in enumerate(places):
        parts += [body[start:begin], _load(number)]
        start = end
    return b"".join([*parts, body[start:]])


def _removed(body: bytes) -> bytes:
    parts, start = [], 0
    for begin, end in _places(body):
        parts.append(body[start:begin])
        start = end
    return b"".join([*parts, body[start:]])


def scanned(body: bytes) -> _Scan:
    """One pass over a function, as if it had the loads before its indirect calls already.

    `touched` is how many of the loops around an instruction, from the outermost one, have certainly executed a load since they were
    last entered or went round; the function itself counts as the outermost one. A load in an inner loop is one of the outer ones.
    """
    at = _behind_locals(body)
    scan = _Scan()
    frames = [_Frame(BLOCK, 1, 0)]
    depth, touched = 1, 0
    while at < len(body):
        stretch = _matched(body, at)
        at = stretch.end()
        if stretch[1] is not None:
            scan.loads += 1
            if touched != _NEVER:
                touched = depth
            continue
        if stretch[2] is not None:
            opcode = stretch[2][0]
            if opcode == CALL_INDIRECT and touched == 0:
                scan.indirect.append(at - 1)
                touched = depth
            elif opcode == CALL and touched == 0:
                scan.calls.add(Reader(body, at).unsigned())
            at = _skip_call(body, at, opcode)
            continue
        opcode = stretch[3][0]
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
                scan.ends[frame.at] = at
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
                    scan.loops.add(frame.at)
            if len(targets) >= OPCODES:
                scan.dispatch = next((frame.at for frame in reversed(frames) if frame.opcode == LOOP), 0)
            if opcode != BR_IF:
                touched = _NEVER
    return scan


class _Frame:
    """A block, loop or if that is open: the loops around it, what was touched at its start, and where branches leave it."""

    __slots__ = ("at", "depth", "entered", "left", "opcode")

    def __init__(self, opcode: int, depth: int, entered: int, at: int = 0) -> None:
        self.opcode, self.depth, self.entered, self.at = opcode, depth, entered, at
        self.left = _NEVER

    def leave(self, touched: int) -> None:
        self.left = min(self.left, touched)


def cut(graph: dict[int, set[int]], sizes: list[int]) -> set[int]:
    """Nodes without which the graph has no cycle. Large functions first: there a load costs least."""
    chosen: set[int] = set()
    left = [set(graph)]
    while left:
        for component in components({node: graph[node] & part for part in [left.pop()] for node in part}):
            inside = set(component)
            if len(inside) == 1 and component[0] not in graph[component[0]]:
                continue
            calls = {node: len(graph[node] & inside) for node in inside}
            callers = dict.fromkeys(inside, 0)
            for node in inside:
                for callee in graph[node] & inside:
                    callers[callee] += 1
            ranked = sorted(inside, key=lambda node: (-calls[node] * callers[node] * min(sizes[node], 4000), node))
            taken = set(ranked[: max(1, len(ranked) // 100)])
            chosen |= taken
            left.append(inside - taken)
    for node in sorted(chosen, key=lambda node: sizes[node]):  # leave out those without which there is no cycle either
        chosen.discard(node)
        if _reaches_itself(graph, node, chosen):
            chosen.add(node)
    return chosen


def _reaches_itself(graph: dict[int, set[int]], start: int, without: set[int]) -> bool:
    seen, todo = set(), list(graph[start] - without)
    while todo:
        node = todo.pop()
        if node == start:
            return True
        if node not in seen:
            seen.add(node)
            todo += graph[node] - without
    return False


def components(graph: dict[int, set[int]]) -> list[list[int]]:
    """The strongly connected components (Tarjan), without recursion."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found = []
    for root in graph:
        if root in order:
            continue
        work = [(root, iter(graph[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, edges = work[-1]
            for callee in edges:
                if callee not in order:
                    order[callee] = low[callee] = len(order)
                    stack.append(callee)
                    on_stack.add(callee)
                    work.append((callee, iter(graph[callee])))
                    break
                if callee in on_stack:
                    low[node] = min(low[node], order[callee])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    found.append(component)
    return found


def _matched(body: bytes, at: int) -> re.Match[bytes]:
    stretch = _STRETCH.match(body, at)
    if stretch is None:
        raise WasmError(f"opcode {body[at]:#x} or one behind it is not understood here")
    return stretch


def _skip(body: bytes, at: int) -> int:
    while body[at] > 127:
        at += 1
    return at + 1


def _skip_call(body: bytes, at: int, opcode: int) -> int:
    at = _skip(body, at)
    return _skip(body, at) if opcode == CALL_INDIRECT else at


def _skip_control(body: bytes, at: int, opcode: int) -> int:
    if opcode in (BLOCK, LOOP, IF):
        return _skip(body, at)
    return _targets(body, at, opcode)[1]


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
