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
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType
from typing import Any

__all__ = ["Injected", "Where", "every", "inject", "within"]

Where = Callable[[CodeType], bool]


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


def within(*parts: str) -> Where:
    """Accepts the code of files whose path contains one of `parts`."""
    return lambda code: any(part in code.co_filename for part in parts)


@cache
def _leaving(code: CodeType) -> frozenset[int]:
    """Offsets of the bytecodes from the end of a `with` block until `__exit__` is called: None three times, and the call."""
    instructions = list(dis.get_instructions(code))
    found: set[int] = set()
    for index, instruction in enumerate(instructions):
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

    def at_bytecode(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count, place
        if event == "opcode" and not place and frame.f_lasti not in _leaving(frame.f_code):
            count += 1
            if count == number:
                code = frame.f_code
                place = f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_qualname}"
                raise exception  # the interpreter ends the tracing of this thread with it
        return at_bytecode

    def at_call(frame: FrameType, event: str, _: Any) -> Any:
        if event != "call" or place or not where(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return at_bytecode

    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks whether any frame wants them when it is told to trace
    sys.settrace(at_call)
    try:
        result = function()
    except BaseException as error:
        return Injected(place, error=error)
    finally:
        sys.settrace(previous)
    return Injected(place, result)


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
