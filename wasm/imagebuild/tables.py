"""Finds out which functions are called through the table, and names them first.

The engine keeps a record for each function that has a place in the table, in the order in which it meets them in the module,
and fills a record in when its function is first called that way. The records of the few hundred functions that every sandbox
calls would be all over some 350 KB of each instance's own memory; named first, they lie together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagebuild.wasmcode import CODE
from imagebuild.wasmfile import END, Module, Reader, WasmError, signed, unsigned, vector

FUNCTION, ELEMENT = 3, 9


@dataclass(frozen=True)
class Table:
    """What an active segment fills the table with: `functions`, from place `first` on."""

    first: int
    functions: tuple[int, ...]

    def encode(self) -> bytes:
        head = b"\0\x41" + signed(self.first) + bytes([END])
        return head + vector([unsigned(function) for function in self.functions])


def table(module: Module) -> Table | None:
    """The one segment that a linker writes; None: the module has no function in its table.

    Raises:
        WasmError: there are several, or they are of another form.
    """
    reader = Reader(module.section(ELEMENT))
    count = reader.unsigned()
    if not count:
        return None
    if count > 1 or reader.take(2) != b"\0\x41":
        raise WasmError("expected one active element segment with a constant offset")
    first = reader.unsigned()
    if reader.take(1) != bytes([END]):
        raise WasmError("expected a constant offset of the element segment")
    return Table(first, tuple(reader.unsigned() for _ in range(reader.unsigned())))


def counted(module: Module, found: Table, marks: int) -> Module:
    """The module with functions in its table that set a byte of memory and call the real one.

    Args:
        module: the same module that `found` is of.
        found: its table.
        marks: the address of the bytes, one for each place of the table that is filled.
    """
    imported = sum(1 for entry in module.imports() if entry.kind == "function")
    declared = Reader(module.section(FUNCTION))
    kinds = [declared.unsigned() for _ in range(declared.unsigned())]
    types = module.types()
    wrapped = list(found.functions)
    bodies: list[bytes] = []
    own_kinds: list[int] = []
    for index, function in enumerate(found.functions):
        if function < imported:
            continue
        kind = kinds[function - imported]
        mark = b"\x41\0\x41\x01\x3a\0" + unsigned(marks + index)  # i32.const 0, i32.const 1, i32.store8
        arguments = b"".join(b"\x20" + unsigned(number) for number in range(len(types[kind][0])))
        body = b"\0" + mark + arguments + b"\x10" + unsigned(function) + bytes([END])
        wrapped[index] = imported + len(kinds) + len(bodies)
        bodies.append(unsigned(len(body)) + body)
        own_kinds.append(kind)
    code = Reader(module.section(CODE))
    count = code.unsigned()
    return module.replaced(
        {
            FUNCTION: vector([unsigned(kind) for kind in (*kinds, *own_kinds)]),
            ELEMENT: vector([Table(found.first, tuple(wrapped)).encode()]),
            CODE: unsigned(count + len(bodies)) + module.section(CODE)[code.at :] + b"".join(bodies),
        }
    )


def named_first(found: Table, called: Iterable[int]) -> bytes:
    """An element section that fills the same table, with segments for these places of it before the whole.

    Only active segments: a declared one would need the bulk-memory proposal.
    """
    segments = [
        Table(found.first + run[0], found.functions[run[0] : run[-1] + 1]) for run in _runs(sorted(called)) if run
    ]
    return vector([segment.encode() for segment in (*segments, found)])


def _runs(places: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
