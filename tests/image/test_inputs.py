"""The digest that names an image changes with what the image is made of, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuild.inputs import cache_folder, copy_inputs, input_files, inputs_digest
from tests.image.conftest import TREE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("wasm/build.py", "wasm/shim/image.c", "guest/cloche_guest/boot.py", "guest/cloche_wire/abi.py"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    return tmp_path / "tree"


def rename(tree: Path) -> None:
    (tree / "wasm/shim/image.c").rename(tree / "wasm/shim/other.c")


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "guest/cloche_guest/boot.py").write_text("x"),
        lambda tree: (tree / "wasm/new.toml").write_text(""),
        lambda tree: (tree / "guest/cloche_wire/abi.py").unlink(),
        rename,
    ],
    ids=["changed", "added", "removed", "renamed"],
)
def test_a_change_of_an_input_changes_the_digest(tree: Path, change: Callable[[Path], object]) -> None:
    """Otherwise a stale image would be used."""
    before = inputs_digest(tree)
    change(tree)
    assert inputs_digest(tree) != before


def test_what_is_no_input_does_not(tree: Path, tmp_path: Path) -> None:
    """Compiled files, notes, the place of the tree, the rest of the project."""
    before = inputs_digest(tree)
    for name in (
        "wasm/__pycache__/build.pyc",
        "wasm/README.md",
        "wasm/.x.swp",
        "runtime/cloche/x.py",
        "guest/other/x.py",
    ):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", "utf-8")
    moved = tmp_path / "elsewhere"
    shutil.copytree(tree, moved)
    assert inputs_digest(tree) == inputs_digest(moved) == before


def test_the_project_s_own_inputs() -> None:
    """Pins, C sources and both guest packages are among them."""
    names = {path.relative_to(TREE).as_posix() for path in input_files(TREE)}
    wanted = {"wasm/pins.toml", "wasm/shim/image.c", "guest/cloche_guest/boot.py", "guest/cloche_wire/abi.py"}
    assert wanted <= names
    assert all(name.startswith(("wasm/", "guest/")) for name in names)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rule as the host library's."""
    from cloche._wasm import checkout

    for variables in ({"CLOCHE_CACHE": "/a"}, {"XDG_CACHE_HOME": "/b"}, {"HOME": "/c"}):
        for name in ("CLOCHE_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert cache_folder() == checkout.cache_folder()


def test_a_build_works_on_a_copy(tree: Path, tmp_path: Path) -> None:
    """An editor that saves while the image is built must not leave a stage that is not what its key says."""
    (tree / "wasm/README.md").write_text("left out", "utf-8")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/stale.py").touch()
    copy = copy_inputs(tree, tmp_path / "copy")
    assert inputs_digest(copy) == inputs_digest(tree)
    assert not (copy / "stale.py").exists()
