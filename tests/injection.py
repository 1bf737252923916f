"""Raises an exception at a chosen bytecode, as a signal's handler or a full stack may, so that each gets its turn.

`inject` runs a function and raises before the bytecode with the given number. Numbers are counted in the code that `where`
accepts, on the calling thread, from 1. A test walks through all of them with `every`, and looks after each at what is left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
        if event == "opcode" and not place:
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
    while (injected := inject(function, number, exception(), where)).place:
        yield injected
        number += step
    assert number > 1, "no bytecode was met: `where` accepts nothing that ran"
