"""numpy's generated headers come from its own templates and a list of answers, without its build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuild import numpyext
from imagebuild.numpyconfigure import asked, compare, compiled, written
from imagebuild.numpyext import configured
from imagebuild.stages import BuildError
from tests.image.conftest import TREE

TEMPLATE = (
    '/* a */\n#mesondefine HAVE_A\n#mesondefine HAVE_B\n#mesondefine SIZE\n#define V "@V@" @W@\n"b": r"@EMPTY@",\n'
)
MADE = '/* a */\n#define HAVE_A\n/* #undef HAVE_B */\n#define SIZE 4\n#define V "1.2" x y\n"b": r"",\n'
ANSWERS = {"HAVE_A": "", "HAVE_B": None, "SIZE": "4", "V": "1.2", "W": "x y", "EMPTY": ""}


def test_answers_fill_the_template() -> None:
    """As meson does it: what has no value is defined all the same, what is None is not."""
    assert configured(TEMPLATE, ANSWERS) == MADE


def test_what_was_made_gives_the_answers_back() -> None:
    """The two directions agree."""
    assert asked(TEMPLATE, MADE) == ANSWERS


def test_a_question_without_an_answer_is_an_error() -> None:
    """After an upgrade of numpy the list has to be made anew."""
    with pytest.raises(BuildError, match="HAVE_D"):
        configured("#mesondefine HAVE_D\n", ANSWERS)


def test_the_answers_say_nothing_about_this_machine() -> None:
    """They are in the image."""
    answers: dict[str, str | None] = json.loads((TREE / "wasm/numpy/config.json").read_text("utf-8"))
    assert not any(value for name, value in answers.items() if name.startswith(("PYTHON_", "BUILD_")))
    assert not any("/" in (value or "") for value in answers.values())


def test_each_source_is_named_once() -> None:
    """But for those that are compiled into a folder of their own as well."""
    places = [(group.folder, name) for group in numpyext.groups(TREE / "wasm/numpy") for name in group.sources]
    assert len(set(places)) == len(places)
    modules = {name.rpartition("/")[2].partition(".")[0] for _, name in places if ".pyx" in name}
    assert modules == {name.rpartition(".")[2] for name in numpyext.MODULES if name.startswith("numpy.random")}


def test_what_is_added_to_numpy_is_compiled() -> None:
    """A source of wasm/numpy that the table does not name would not be in the image."""
    named = {name for group in numpyext.groups(TREE / "wasm/numpy") for name in group.sources}
    added = {path.name for path in (TREE / "wasm/numpy").glob("*.c")}
    assert added
    assert {f"numpy/_core/src/common/{name}" for name in added} <= named


def unit(output: str, file: str) -> dict[str, str]:
    return {"output": output, "file": file}


def test_what_numpy_compiles_for_other_modules_does_not_count() -> None:
    """Its tests and the SIMD test module are not in the image."""
    units = [
        unit("numpy/_core/_multiarray_umath.cpython-311.so.p/a.o", "../source/a.c"),
        unit("numpy/_core/libloops.dispatch.h_baseline.a.p/b.o", "numpy/_core/libloops.p/b.dispatch.c"),
        unit("numpy/_core/_umath_tests.cpython-311.so.p/c.o", "../source/c.c"),
        unit("numpy/_core/lib_simd.dispatch.h_baseline.a.p/d.o", "../source/d.c"),
    ]
    assert compiled(units) == {"a.c", "b.dispatch.c"}


@pytest.mark.parametrize("theirs", [{"a.c"}, {"a.c", "r.pyx", "r.pyx.c", "new.c"}])
def test_another_list_of_sources_fails(theirs: set[str]) -> None:
    """Something new in numpy would be an undefined symbol, or not there at all."""
    ours = {"numpy/a.c.src", "numpy/random/r.pyx.in"}
    compare({"a.c", "r.pyx", "r.pyx.c"}, ours)
    with pytest.raises(BuildError, match=r"new\.c|r\.pyx"):
        compare(theirs, ours)


def test_python_files_without_tests_and_tools(tmp_path: Path) -> None:
    """And with the module that tells how numpy was built."""
    source = tmp_path / "source"
    for name in ("numpy/__init__.py", "numpy/linalg/a.py", "numpy/tests/b.py", "numpy/f2py/c.py", "numpy/x.c"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("", "utf-8")
    (source / "numpy/__config__.py.in").write_text('version = "@V@"\n', "utf-8")
    (tmp_path / "config.json").write_text(written({"V": "1"}, source), "utf-8")
    numpyext.write_python(tmp_path, source, tmp_path / "out")
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.py")}
    assert made == {"numpy/__init__.py", "numpy/linalg/a.py", "numpy/__config__.py"}
    assert (tmp_path / "out/numpy/__config__.py").read_text("utf-8") == 'version = "1"\n'


def test_answers_of_another_source_fail(tmp_path: Path) -> None:
    """A patch may change what numpy's build asks, or which sources there are."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/meson.build").write_text("1", "utf-8")
    (tmp_path / "config.json").write_text(written({"V": None, "PYTHON_PATH": "/usr"}, tmp_path), "utf-8")
    assert numpyext.answers(tmp_path, tmp_path) == {"V": None, "PYTHON_PATH": ""}
    (tmp_path / "numpy/meson.build").write_text("2", "utf-8")
    with pytest.raises(BuildError, match="configure"):
        numpyext.answers(tmp_path, tmp_path)
