"""Gives CPython's bytecode loop its loads from the stop page, in C, before it is compiled.

Every other loop of the image gets one load on each way round (stops.py). A load for each bytecode would cost some 5 % of Python's
time, and CPython's own check (eval_breaker) cannot stand in for it: its address lies in memory that a hostile node can
overwrite, and bytecode that a node has made need not pass it. So the handlers of bytecodes are divided by their text:

- A handler that only moves ``next_instr`` forward, by a constant, and dispatches, gets none. A run of such handlers walks through
  linear memory in one direction: after at most 2 ** 31 bytecodes (less, the smaller the memory is) it leaves the memory or enters
  the stop page, and traps in either case.
- In the others each place that goes elsewhere has a load (JUMPBY, DISPATCH_SAME_OPARG, the labels that frames are entered and
  exceptions unwound by), or else the handler begins with one. That is the default: a handler is spared only if every statement of
  it that could move ``next_instr`` or change the frame is one of a few known forms.

`stopcheck` then looks at the compiled loop: the bytecodes whose way round has no load must be among those spared here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild.stages import BuildError
from imagebuild.toolchain import Toolchain

STOP = "CLOCHE_STOP();"
DEFINITION = """
#define CLOCHE_STOP() ((void)*(const volatile unsigned int *)4)
#undef JUMPBY
#define JUMPBY(x) (CLOCHE_STOP(), next_instr += (x))
#undef DISPATCH_SAME_OPARG
#define DISPATCH_SAME_OPARG() { CLOCHE_STOP(); opcode = next_instr->op.code; PRE_DISPATCH_GOTO(); DISPATCH_GOTO(); }
"""
"""The pass gives each load an address of its own; here all have the same."""

_HANDLER = re.compile(r"^        TARGET\((\w+)\) \{\n(.*?)^        \}\n", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TIER2 = re.compile(
    r"^\s*#ifdef _Py_TIER2\n(?:(?!\s*#if).*\n|\s*#if.*\n(?:(?!\s*#if).*\n)*?\s*#endif.*\n)*?\s*#endif.*\n", re.MULTILINE
)
_PROLOGUE = re.compile(
    r"\s*(?:_Py_CODEUNIT \*this_instr = )?frame->instr_ptr = next_instr;\n"
    r"(?:\s*\(void\)this_instr;\n)?"
    r"\s*next_instr \+= ([1-9]\d*);\n"
    r"\s*INSTRUCTION_STATS\(\w+\);\n"
    r"(?:\s*PREDICTED\((\w+)\);\n)?"
)

# What may stand in a handler that is spared. Each is removed from the handler's text; the rest must not contain control flow.
_HARMLESS = [
    re.compile(pattern)
    for pattern in (
        r"_Py_CODEUNIT \*this_instr = next_instr - \d+;",
        r"next_instr = this_instr;\s*_Py_Specialize_\w+\([^;]*\);\s*DISPATCH_SAME_OPARG\(\);",  # with a load
        r"\bDISPATCH\(\);",
        r"\bDISPATCH_INLINED\(\w+\);",  # goes to start_frame, which has a load
        r"\bJUMPBY\([^;]*\);",  # has a load
        r"\bSKIP_OVER\(\d+\);",
        r"\bgoto (?:error|pop_[1-4]_error|exception_unwind|start_frame);",  # have loads
        r"\bGOTO_ERROR\(error\);",
        r"\bCHECK_EVAL_BREAKER\(\);",
        r"\breturn \w+;",
        r"\bassert\([^;]*\);",
        r"next_instr(?:->op\.(?:code|arg)|\[oparg\]\.op\.code)",
        r"\(uint16_t\)\(next_instr - this_instr\)",
        r"_Py_Specialize_\w+\([^;]*\);",
    )
]
_DEOPT = re.compile(r"\bDEOPT_IF\(.*?, (\w+)\);", re.DOTALL)
_CONTROL = re.compile(
    r"next_instr|\bgoto\b|\bframe\s*=[^=]|DISPATCH|JUMP|SKIP_OVER|\bGO_?TO|LOAD_IP|LOAD_SP|\bopcode\b|\boparg\s*(?:=[^=]|<<=|>>=|\|=|\+\+|--)|^\s*\w+:\s*$|__asm",
    re.MULTILINE,
)
_MACRO = re.compile(r"\b([A-Z_][A-Z0-9_]{2,})\s*\(")
_KNOWN_MACROS = frozenset(
    """ADAPTIVE_COUNTER_TRIGGERS ADVANCE_ADAPTIVE_COUNTER BUILTINS CALL_STAT_INC COMPARISON_BIT DECREF_INPUTS_AND_REUSE_FLOAT
    DK_ENTRIES DK_IS_UNICODE DK_UNICODE_ENTRIES EMPTY EVAL_CALL_STAT_INC_IF_FUNCTION FT_ATOMIC_LOAD_UINTPTR_ACQUIRE
    FT_ATOMIC_STORE_UINT8_RELAXED GETITEM GETLOCAL GLOBALS INSTR_OFFSET LOCALS PAUSE_ADAPTIVE_COUNTER PEEK POP PUSH SETLOCAL
    STACK_LEVEL STACK_SHRINK STAT_INC TOP""".split()
)
"""Macros without control flow, but for ``goto error``."""


@dataclass(frozen=True)
class Handlers:
    """The transformed text, and the bytecodes whose handlers have got no load at their beginning."""

    text: str
    spared: tuple[str, ...]


def transformed(text: str) -> Handlers:
    """``generated_cases.c.h`` with its loads.

    Raises:
        BuildError: something in it is not understood.
    """
    found = {match[1]: match[2] for match in _HANDLER.finditer(text)}
    rest = _COMMENT.sub("", _HANDLER.sub("", text))
    if unknown := [line for line in rest.splitlines() if line.strip() and not _is_frame(line)]:
        raise BuildError(f"generated_cases.c.h: {unknown[0]!r} is not part of a handler")
    if len(found) < 200 or text.count("TARGET(") != len(found):
        raise BuildError(f"generated_cases.c.h: {text.count('TARGET(')} handlers, of which {len(found)} are understood")
    spared = {name for name, body in found.items() if _is_spared(name, body)}
    for (
        name
    ) in found:  # a handler that deoptimises jumps into the middle of another handler, behind the load at its beginning
        if wrong := {target for target in _DEOPT.findall(found[name]) if not _is_entered_safely(target, found)}:
            raise BuildError(
                f"generated_cases.c.h: {name} goes to {', '.join(sorted(wrong))}, which may lead back without a load"
            )

    def changed(match: re.Match[str]) -> str:
        body = _bounded(match[2])
        if match[1] in spared:
            return f"        TARGET({match[1]}) {{\n{body}        }}\n"
        prologue = _prologue(match[1], body)
        return f"        TARGET({match[1]}) {{\n{body[: prologue.end()]}            {STOP}\n{body[prologue.end() :]}        }}\n"

    return Handlers(_HANDLER.sub(changed, text), tuple(sorted(spared)))


def _bounded(body: str) -> str:
    """A handler that enters a frame asks first whether the recursion limit allows it, and else gives up to the one that raises.

    CPython 3.13 asks in two of six: a function that has defaults, say, could call itself until the memory was full.
    """
    if "tstate->py_recursion_remaining--;" not in body or "DEOPT_IF(tstate->py_recursion_remaining" in body:
        return body
    first = _DEOPT.search(body)
    if first is None:
        raise BuildError("generated_cases.c.h: a handler enters a frame and cannot give up")
    return f"{body[: first.start()]}DEOPT_IF(tstate->py_recursion_remaining <= 1, {first[1]});\n            {body[first.start() :]}"


def _is_frame(line: str) -> bool:
    return (
        re.fullmatch(r'\s*(#\s*(ifdef TIER_TWO|error ".*"|endif|define TIER_ONE 1|undef TIER_ONE))?\s*', line)
        is not None
    )


def _prologue(name: str, body: str) -> re.Match[str]:
    prologue = _PROLOGUE.match(body)
    if prologue is None or (prologue[2] is not None and prologue[2] != name):
        raise BuildError(f"generated_cases.c.h: the handler of {name} begins in a way that is not understood")
    return prologue


def _is_spared(name: str, body: str) -> bool:
    left = _TIER2.sub(_kept_if_else, _COMMENT.sub("", body[_prologue(name, body).end() :]))
    if "PREDICTED(" in left:
        raise BuildError(f"generated_cases.c.h: the handler of {name} has a label in its middle")
    left = _DEOPT.sub("", left)
    for pattern in _HARMLESS:
        left = pattern.sub("", left)
    if _CONTROL.search(left):
        return False
    if unknown := set(_MACRO.findall(left)) - _KNOWN_MACROS:
        raise BuildError(f"generated_cases.c.h: {name} uses {', '.join(sorted(unknown))}: is there control flow in it?")
    return True


def _kept_if_else(match: re.Match[str]) -> str:
    return match[0] if "#else" in match[0] else ""  # this build has no tier 2


def _is_entered_safely(target: str, found: dict[str, str]) -> bool:
    """Whether a handler can be entered at its label: it exists, behind the step forward, and a load of its own comes behind it."""
    prologue = _prologue(target, found[target])
    return prologue[2] == target and not _DEOPT.search(found[target])


def evaluator(text: str) -> str:
    """``ceval.c`` with the loads outside of the handlers.

    Raises:
        BuildError: a place was not found exactly once.
    """
    text = _once(text, '#include "ceval_macros.h"\n', f'#include "ceval_macros.h"\n{DEFINITION}')
    text = _once(text, "\nresume_frame:\n", f"\nresume_frame:\n    {STOP}\n")  # start_frame leads here
    text = _once(
        text, "\nexception_unwind:\n        {\n", f"\nexception_unwind:\n        {{\n            {STOP}\n"
    )  # and error
    line = "    {\n        _Py_CODEUNIT *prev = frame->instr_ptr;\n"  # INSTRUMENTED_LINE
    return _once(text, line, line.replace("{\n", f"{{\n        {STOP}\n", 1))


def _once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise BuildError(f"CPython's source has {old.strip()!r} {text.count(old)} times, not once")
    return text.replace(old, new)


def flowgraph(text: str) -> str:
    """``flowgraph.c`` whose jumps keep the exception handler of the jump that they replace.

    Without it CPython's compiler leaves the ends of many loops out of the ``try`` or ``with`` around them. Between bytecodes a
    notice is raised at just such a place, so ``finally`` blocks would not run.

    Raises:
        BuildError: a place was not found exactly once.
    """
    text = _once(
        text,
        """        INSTR_SET_OP0(inst, NOP);

        RETURN_IF_ERROR(
            basicblock_add_jump(
                bb, opcode, target->i_target, target->i_loc));
""",
        """        INSTR_SET_OP0(inst, NOP);
        basicblock *handler = inst->i_except; /* inst moves */

        RETURN_IF_ERROR(
            basicblock_add_jump(
                bb, opcode, target->i_target, target->i_loc));
        basicblock_last_instr(bb)->i_except = handler;
""",
    )
    line = "        basicblock_add_jump(backwards_jump, JUMP, target, last->i_loc));\n"
    return _once(text, line, f"{line}    basicblock_last_instr(backwards_jump)->i_except = last->i_except;\n")


def opcodes(text: str, names: Iterable[str]) -> list[int]:
    """The numbers of bytecodes in ``opcode_ids.h``."""
    numbers = {name: int(number) for name, number in re.findall(r"^#define (\w+)\s+(\d+)$", text, re.MULTILINE)}
    return sorted(numbers[name] for name in names)


@dataclass(frozen=True)
class Replacing(Toolchain):
    """A toolchain that compiles changed copies in place of some of CPython's own files.

    Attributes:
        changed: see `copies`.
    """

    changed: Mapping[Path, Path] = field(default_factory=dict)

    def compile(self, source: Path, target: Path, flags: Sequence[str]) -> None:
        """As `Toolchain.compile`."""
        copy = self.changed.get(source)
        if copy is not None:
            source, flags = copy, [*flags, f"-I{source.parent}"]  # for what it includes from beside it
        super().compile(source, target, flags)


_CHANGES: dict[str, Callable[[str], str]] = {"ceval.c": evaluator, "flowgraph.c": flowgraph}


def write(source: Path, out: Path) -> None:
    """The changed files of CPython's source into `out`.

    Beside them lies ``spared.txt``: the numbers of the bytecodes that may go round without a load.
    """
    made = transformed((source / "Python/generated_cases.c.h").read_text("utf-8"))
    (out / "generated_cases.c.h").write_text(made.text, "utf-8")
    spared = opcodes((source / "Include/opcode_ids.h").read_text("utf-8"), made.spared)
    (out / "spared.txt").write_text(" ".join(map(str, spared)) + "\n", "ascii")
    for name, change in _CHANGES.items():
        (out / name).write_text(change((source / "Python" / name).read_text("utf-8")), "utf-8")


def copies(source: Path, written: Path) -> dict[Path, Path]:
    """The files that `write` has written into a folder, by the originals to compile them for."""
    return {source / "Python" / name: written / name for name in _CHANGES}
