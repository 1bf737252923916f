"""Raises an exception at a chosen bytecode, as a signal's handler or a full stack may, so that each gets its turn.

`inject` runs a function and raises before the bytecode with the given number. Numbers are counted in the code that `where`
accepts, on the calling thread, from 1. A test walks through all of them with `every`, and looks after each at what is left.

The bytecodes with which a `with` block is left in the ordinary way do not count: the interpreter raises nothing between the end of the
block and `__exit__` (handlers of signals run after calls and at jumps back), and no code could put that right.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType
from typing import Any

import cloche

__all__ = ["Injected", "Where", "every", "inject", "within"]

Where = Callable[[CodeType], bool]
ROOTS = (Path(cloche.__file__).parent, Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class Injected:
    """How a run with an injected exception ended.

    Attributes:
        place: file, line and name of the code where it was raised; "" if the run ended before.
        result: what the function returned, if it did.
        error: what it raised, if it did: the injected exception, or one made of it.
    """

    place: str
    result: Any = None
    error: BaseException | None = None


@cache
def within(*parts: str) -> Where:
    """Accepts the code of files whose path contains one of `parts`; each has to name a source that exists."""
    sources = [path.as_posix() for root in ROOTS for path in root.rglob("*.py")]
    unknown = [part for part in parts if not any(part in source for source in sources)]
    assert not unknown, f"no source has such a path: {unknown}"
    return lambda code: any(part in code.co_filename for part in parts)


@cache
def _leaving(code: CodeType) -> frozenset[int]:
    """Offsets of bytecodes before which nothing is raised.

    They are those from the end of a `with` block until `__exit__` is called, which are None three times and the call; and NOT_TAKEN of
    Python 3.14, which does nothing, and which `try` blocks do not cover.
    """
    instructions = list(dis.get_instructions(code))
    found: set[int] = set()
    for index, instruction in enumerate(instructions):
        if instruction.opname == "NOT_TAKEN":
            found.add(instruction.offset)
        if instruction.opname not in ("CALL", "PRECALL"):
            continue
        before = [index - 1 - place for place in range(3)]
        if before[-1] > 0 and all(_is_none(instructions[place]) for place in before):
            found.update(instructions[place].offset for place in (*before, index, index + 1))
            if instructions[index - 4].opname == "SWAP":  # what the block returns
                found.add(instructions[index - 4].offset)
    return frozenset(found)


def _is_none(instruction: dis.Instruction) -> bool:
    return instruction.opname.startswith("LOAD_CONST") and instruction.argval is None


def inject(function: Callable[[], Any], number: int, exception: BaseException, where: Where) -> Injected:
    """Run `function`, and raise `exception` before the bytecode with that number.

    Args:
        function: what to interrupt.
        number: of the bytecode, from 1.
        exception: what to raise.
        where: whether the bytecodes of a code object count.
    """
    count = 0
    place = ""

    def look(code: CodeType, offset: int) -> None:
        nonlocal count, place
        if place or offset in _leaving(code):
            return
        count += 1
        if count == number:
            place = f"{code.co_filename.rpartition('/')[2]}:{_line(code, offset)} {code.co_qualname}"
            raise exception

    try:
        with _watched(where, look):
            result = next(_alone(function))
    except BaseException as error:
        return Injected(place, error=error)
    return Injected(place, result)


Look = Callable[[CodeType, int], None]
"""Told of each bytecode before it runs: its code and offset. What it raises is raised there."""

if sys.version_info >= (3, 12):

    @contextmanager
    def _watched(where: Where, look: Look) -> Iterator[None]:
        """Have `look` told of this thread's bytecodes. Not by a trace function: 3.13 misses the first run of each code object."""
        monitoring, me = sys.monitoring, get_ident()

        def on_instruction(code: CodeType, offset: int) -> Any:
            if not where(code):
                return monitoring.DISABLE
            if get_ident() == me:
                look(code, offset)
            return None

        monitoring.use_tool_id(_TOOL, "injection")
        monitoring.register_callback(_TOOL, monitoring.events.INSTRUCTION, on_instruction)
        monitoring.set_events(_TOOL, monitoring.events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(_TOOL, 0)
            monitoring.register_callback(_TOOL, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(_TOOL)
            monitoring.restart_events()

    _TOOL = 4

else:

    @contextmanager
    def _watched(where: Where, look: Look) -> Iterator[None]:
        """Have `look` told of this thread's bytecodes; what it raises ends that."""

        def at_bytecode(frame: FrameType, event: str, _: Any) -> Any:
            if event == "opcode":
                look(frame.f_code, frame.f_lasti)
            return at_bytecode

        def at_call(frame: FrameType, event: str, _: Any) -> Any:
            if event != "call" or not where(frame.f_code):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return at_bytecode

        previous = sys.gettrace()
        sys.settrace(at_call)
        try:
            yield
        finally:
            sys.settrace(previous)


def _line(code: CodeType, offset: int) -> int:
    return max((line for start, line in dis.findlinestarts(code) if line and start <= offset), default=0)


def _alone(function: Callable[[], Any]) -> Iterator[Any]:
    """In a generator, which has a state of its own: CPython 3.13 can be left in a handler by an exception in the middle of one."""
    yield function()


def every(
    function: Callable[[], Any], exception: Callable[[], BaseException], where: Where, *, step: int = 1
) -> Iterator[Injected]:
    """Interrupt `function` at one bytecode after the other, until a run ends before its number comes.

    Args:
        function: as for `inject`; it is run once for each bytecode.
        exception: makes a new one for each run.
        where: as for `inject`.
        step: from one number to the next, if not all of them can be had in time.
    """
    number = 1
    ended = [inject(function, number, exception(), where)]
    while ended[0].place:
        yield ended.pop()  # not kept: its traceback holds what the function had
        number += step
        ended = [inject(function, number, exception(), where)]
    assert number > 1, "no bytecode was met: `where` accepts nothing that ran"
