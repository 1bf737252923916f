"""pyconfig.h is made from the source's template and a list of answers, without configure."""

from __future__ import annotations

import pytest

from imagebuild.configure import compared
from imagebuild.cpython import builtin_modules, pyconfig
from imagebuild.stages import BuildError
from tests.image.conftest import TREE

TEMPLATE = "/* a */\n#undef HAVE_A\n\n#ifndef X\n# undef HAVE_B\n#endif\n#undef HAVE_C\n"
MADE = '/* made by configure */\n/* a */\n#define HAVE_A 1\n\n#ifndef X\n# define HAVE_B "b"\n#endif\n/* #undef HAVE_C */\n'


def test_answers_fill_the_template() -> None:
    """As config.status does it; what has no answer stays undefined."""
    text = pyconfig(TEMPLATE, '# comment\nHAVE_A 1\nHAVE_B "b"\n')
    assert text == TEMPLATE.replace("#undef HAVE_A", "#define HAVE_A 1").replace(
        "# undef HAVE_B", '# define HAVE_B "b"'
    )


def test_an_answer_without_a_question_is_an_error() -> None:
    """After an upgrade of CPython the list has to be made anew."""
    with pytest.raises(BuildError, match="HAVE_D"):
        pyconfig(TEMPLATE, "HAVE_D 1\n")


def test_configure_s_result_gives_the_answers_back() -> None:
    """The two directions agree."""
    assert compared(TEMPLATE, MADE) == 'HAVE_A 1\nHAVE_B "b"\n'


def test_what_is_built_in() -> None:
    """The modules that a user would miss first, and none that would be a way out."""
    modules = set(builtin_modules(TREE / "wasm/cpython"))
    assert {"zlib", "_bz2", "_lzma", "_decimal", "pyexpat", "_sha2", "unicodedata", "_json", "_zoneinfo"} <= modules
    assert not modules & {
        "_socket",
        "_posixsubprocess",
        "_multiprocessing",
        "_ssl",
        "readline",
    }  # `_ctypes` calls nothing: foreign.c
