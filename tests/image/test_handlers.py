"""Which bytecode handlers are spared a load from the stop page is decided by their text, and in doubt none is."""

from __future__ import annotations

import re

import pytest

from imagebuild.handlers import STOP, evaluator, flowgraph, opcodes, transformed
from imagebuild.stages import BuildError

START = """// generated

#ifdef TIER_TWO
    #error "This file is for Tier 1 only"
#endif
#define TIER_ONE 1

"""


def handler(name: str, body: str, step: int = 1, label: bool = False) -> str:
    predicted = f"            PREDICTED({name});\n" if label else ""
    lines = "".join(f"            {line}\n" for line in body.splitlines())
    return (
        f"        TARGET({name}) {{\n            frame->instr_ptr = next_instr;\n            next_instr += {step};\n"
        f"            INSTRUCTION_STATS({name});\n{predicted}{lines}        }}\n\n"
    )


def cases(*handlers: str) -> str:
    filled = [handler(f"FILLER_{number}", "DISPATCH();") for number in range(200)]
    return START + "".join([*handlers, *filled]) + "#undef TIER_ONE\n"


def has_load(body: str, name: str = "X") -> bool:
    made = transformed(cases(handler(name, body), handler("GENERAL", "DISPATCH();", label=True)))
    text = re.search(rf"TARGET\({name}\) \{{.*?\n        \}}\n", made.text, re.DOTALL)
    assert text is not None
    assert (name in made.spared) == (STOP not in text[0])
    return STOP in text[0]


@pytest.mark.parametrize(
    "body",
    [
        "DISPATCH();",
        "PyObject *v = GETLOCAL(oparg);\nif (v == NULL) goto pop_1_error;\nDISPATCH();",
        "DEOPT_IF(!f(a, b), GENERAL);\nDISPATCH();",
        "if (x) {\n    JUMPBY(oparg);\n    DISPATCH();\n}\nDISPATCH();",
        "next_instr = this_instr;\n_Py_Specialize_X(next_instr, oparg);\nDISPATCH_SAME_OPARG();\nDISPATCH();",
        "SKIP_OVER(1);\nDISPATCH();",
        "/* next_instr = 0; goto nowhere; */ DISPATCH();",
        "DISPATCH_INLINED(new_frame);",
    ],
)
def test_a_handler_that_only_moves_forward_is_spared(body: str) -> None:
    """Or one whose other ways have loads already: JUMPBY, DISPATCH_SAME_OPARG, the error label, start_frame."""
    assert not has_load(body)


@pytest.mark.parametrize(
    "body",
    [
        "next_instr = somewhere;\nDISPATCH();",
        "next_instr -= 1;\nDISPATCH();",
        "next_instr--;\nDISPATCH();",
        "change(&next_instr);\nDISPATCH();",
        "SKIP_OVER(-1);\nDISPATCH();",
        "SKIP_OVER(oparg);\nDISPATCH();",
        "next_instr = this_instr;\nDISPATCH();",
        "goto resume_frame;",
        "goto elsewhere;",
        "frame = other;\nDISPATCH();",
        "opcode = 3;\nDISPATCH_GOTO();",
        "DISPATCH_GOTO();",
        "LOAD_IP(0);\nDISPATCH();",
        "INSTRUMENTED_JUMP(a, b, c);\nDISPATCH();",
        "GO_TO_INSTRUCTION(GENERAL);",
        "oparg >>= 8;\nDISPATCH();",
        "again:\nDISPATCH();",
    ],
)
def test_any_other_handler_begins_with_a_load(body: str) -> None:
    """A way back, another frame, the same instruction again, or a place that is not known."""
    assert has_load(body)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cases(handler("X", "NEW_MACRO(1);\nDISPATCH();")), "X uses NEW_MACRO: is there control flow in it?"),
        (
            cases(handler("X", "DEOPT_IF(a, Y);\nDISPATCH();"), handler("Y", "DISPATCH();")),
            "X goes to Y, which may lead back",
        ),
        (cases(handler("X", "DISPATCH();").replace("next_instr += 1;", "next_instr += n;")), "X begins in a way"),
        (cases(handler("X", "f();\nPREDICTED(Z);\nDISPATCH();")), "X has a label in its middle"),
        (cases() + "static int more;\n", "'static int more;' is not part of a handler"),
        (START, "0 handlers"),
    ],
)
def test_text_that_is_not_understood_fails_the_build(text: str, message: str) -> None:
    """A later CPython may write its handlers in another way."""
    with pytest.raises(BuildError, match=re.escape(message)):
        transformed(text)


def test_a_load_comes_behind_the_label_by_which_others_enter() -> None:
    """A specialised handler that gives up goes to the label of the general one."""
    made = transformed(cases(handler("X", "DEOPT_IF(a, Y);\nDISPATCH();"), handler("Y", "goto elsewhere;", label=True)))
    assert f"PREDICTED(Y);\n            {STOP}\n" in made.text


def test_a_ceval_without_the_known_places_fails_the_build() -> None:
    """Each must be there exactly once."""
    with pytest.raises(BuildError, match="0 times, not once"):
        evaluator("int main(void) { return 0; }")


def test_opcodes_are_numbered_as_the_header_says() -> None:
    """The proof knows them by number."""
    assert opcodes(
        "#define CACHE                                    0\n#define NOP                                     30\n",
        ["NOP"],
    ) == [30]


FLOWGRAPH = """
        INSTR_SET_OP0(inst, NOP);

        RETURN_IF_ERROR(
            basicblock_add_jump(
                bb, opcode, target->i_target, target->i_loc));

    RETURN_IF_ERROR(
        basicblock_add_jump(backwards_jump, JUMP, target, last->i_loc));
"""


def test_a_jump_that_replaces_another_keeps_its_exception_handler() -> None:
    """Both places of CPython's compiler that make one; else the end of a loop would lie outside of the ``try`` around it."""
    text = flowgraph(FLOWGRAPH)
    assert text.count("->i_except = ") == 2
    with pytest.raises(BuildError, match="0 times, not once"):
        flowgraph(text.replace("RETURN_IF_ERROR", "TRY"))
