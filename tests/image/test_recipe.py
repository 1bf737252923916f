"""The table of stages names everything that a stage depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild import cpython
from imagebuild.pins import Pins
from imagebuild.recipe import TABLE, Row, stages
from imagebuild.steps import Steps
from tests.image.conftest import TREE

# These decide when and in what order stages run, and what is written beside the image, but not what a stage makes.
AROUND = frozenset("__init__ command configure fetch inputs manifest pins progress recipe slots stages timing".split())
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
    for name in row.code.split():
        assert (TREE / f"wasm/imagebuild/{name}.py").is_file(), name


def test_each_module_of_the_build_is_an_input_of_a_stage() -> None:
    """Or else a change in it would leave a stale image."""
    named = {name for row in TABLE for name in row.code.split()}
    modules = {path.stem for path in (TREE / "wasm/imagebuild").glob("*.py")}
    assert modules - AROUND == named


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
