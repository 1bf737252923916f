"""The table of stages names everything that a stage depends on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from imagebuild import cpython, uses
from imagebuild.pins import Pins
from imagebuild.recipe import AROUND, TABLE, Row, stages
from imagebuild.steps import Steps
from tests.image.conftest import TREE

# What runs before and after the stages, and the package's empty beginning.
OUTSIDE = frozenset("__init__ command configure inputs manifest numpyconfigure recipe steps uses".split())
each_row = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


@each_row
def test_a_stage_comes_after_what_it_reads(row: Row) -> None:
    """The keys are made in this order."""
    earlier = [before.name for before in TABLE[: TABLE.index(row)]]
    assert set(row.needs.split()) <= set(earlier)
    assert row.name not in earlier


@each_row
def test_what_a_row_names_exists(row: Row) -> None:
    """A file that was renamed would silently no longer count."""
    for pattern in row.files.split():
        assert list(TREE.glob(pattern)), pattern


def test_each_module_of_the_build_is_an_input_of_a_stage() -> None:
    """Or else a change in it would leave a stale image."""
    used = {name for row in TABLE for name in uses.modules(row.run, AROUND)}
    modules = {path.stem for path in (TREE / "wasm/imagebuild").glob("*.py")}
    assert modules - AROUND - OUTSIDE == used


def test_steps_holds_functions_alone() -> None:
    """What else stood there would be in no stage's key."""
    tree = ast.parse((TREE / "wasm/imagebuild/steps.py").read_text("utf-8"))
    kinds = [type(node) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    assert set(kinds) <= {ast.FunctionDef, ast.ClassDef}
    assert kinds.count(ast.ClassDef) == 1


@pytest.mark.parametrize(
    ("stage", "changed", "kept"),
    [
        ("frozen-guest", "freeze_library _freeze _tools abi", "freeze_guest"),
        ("interpreter", "compile_cpython _cpython_tools _tools shim", "compile_interpreter"),
        ("host-tools", "native_tools _fetched", "unpack_host_tools"),
    ],
)
def test_a_stage_counts_what_it_uses_of_steps(stage: str, changed: str, kept: str) -> None:
    """Its own function, the helpers behind it, and no other stage's."""
    row = next(row for row in TABLE if row.name == stage)
    names = {function.__name__ for function in uses.functions(row.run)}
    assert kept in names
    others = {other.run.__name__ for other in TABLE} - {kept}
    assert not names & others
    assert {*changed.split()} - others <= names


def test_each_c_file_of_the_shim_is_an_input() -> None:
    """As those of the libraries are, by their pins."""
    named = {path for row in TABLE for pattern in row.files.split() for path in TREE.glob(pattern)}
    assert set((TREE / "wasm/shim").iterdir()) <= named
    pins = {word for row in TABLE for word in row.pins.split()}
    assert {library.pin for library in cpython.libraries(TREE / "wasm/cpython")} <= pins


def test_a_pin_that_is_not_to_be_had_is_no_input(tmp_path: Path) -> None:
    """The stage is then another one: CPython without its security patches."""
    pins = Pins.load(TREE / "wasm/pins.toml")
    whole, without = (
        {stage.name: stage.inputs for stage in stages(Steps(TREE, tmp_path, tmp_path, pins, without=missing))}
        for missing in (frozenset[str](), frozenset({"cpython-patches"}))
    )
    assert [name for name in whole if whole[name] != without[name]] == ["cpython-source"]
