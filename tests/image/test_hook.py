"""The wheel carries the image of its own source tree."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from imagebuild.inputs import cache_folder, inputs_digest
from tests.image.conftest import TREE
from tests.loading import module_at

pytest.importorskip("hatchling", reason="only the build needs it")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the least that the hook reads, and a cache with no image in it; its native core is this user's."""
    root = tmp_path / "tree"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "native").symlink_to(cache_folder() / "native")
    for name in ("wasm/imagebuild", "guest/cloche_wire", "guest/cloche_guest", "runtime/native"):
        shutil.copytree(TREE / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(TREE / "pyproject.toml", root / "pyproject.toml")
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    return root


@pytest.fixture
def module() -> ModuleType:
    return module_at(TREE / "hatch_build.py", "hatch_build")


def hook(module: ModuleType, root: Path) -> Any:
    return module.ImageHook(str(root), {}, None, None, str(root / "dist"), "wheel")


def cached(tree: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "cache/images" / inputs_digest(tree)
    folder.mkdir(parents=True)
    return folder


def test_the_cached_image_goes_into_the_wheel(module: ModuleType, tree: Path, tmp_path: Path) -> None:
    """Below cloche/_image, where the installed library looks first; and the core below cloche/_native."""
    folder = cached(tree, tmp_path)
    build_data: dict[str, Any] = {"force_include": {}}
    hook(module, tree).initialize("standard", build_data)
    name, inside = build_data["force_include"].popitem()
    assert Path(name).is_file() and Path(name).is_relative_to(tmp_path / "cache" / "native")
    assert inside == f"cloche/_native/{Path(name).name}"
    assert build_data["force_include"] == {
        str(folder / "cloche.wasm"): "cloche/_image/cloche.wasm",
        str(folder / "manifest.json"): "cloche/_image/manifest.json",
    }
    assert build_data["tag"].startswith("py3-none-") and not build_data["pure_python"]


def test_an_editable_install_has_none(module: ModuleType, tree: Path) -> None:
    """It follows the tree; an image in it would be stale after the first change."""
    build_data: dict[str, Any] = {"force_include": {}}
    hook(module, tree).initialize("editable", build_data)
    assert build_data == {"force_include": {}}


def test_wasmtime_is_asked_for_only_to_build(module: ModuleType, tree: Path, tmp_path: Path) -> None:
    """An isolated build needs it if the image is missing, in the project's own version."""
    (asked,) = hook(module, tree).dependencies()
    assert asked.startswith("wasmtime>=")
    cached(tree, tmp_path)
    assert hook(module, tree).dependencies() == []


@pytest.mark.parametrize("version", ["standard", "editable"])
@pytest.mark.parametrize(("system", "machine"), [("win32", "AMD64"), ("linux", "riscv64"), ("freebsd14", "amd64")])
def test_other_systems_are_refused_when_it_is_installed(
    module: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, version: str, system: str, machine: str
) -> None:
    """In one line, before anything is built."""
    monkeypatch.setattr(module.sys, "platform", system)
    monkeypatch.setattr(module.platform, "machine", lambda: machine)
    with pytest.raises(SystemExit) as refused:
        hook(module, tree).initialize(version, {"force_include": {}})
    assert refused.value.code == (
        f"cloche does not run on {system} on {machine}: it needs Linux or macOS, on x86-64 or arm64. On Windows, use WSL 2"
    )
