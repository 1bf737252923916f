"""Granted packages: wheels, zips and folders, importable and read-only."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

import cloche
from tests.wheels import metadata, write_wheel

pytestmark = pytest.mark.isolation("none", reason="a node is loaded by the guest, which is the same in a worker")

USER = "import helper\nclass N:\n    def process(self, x):\n        return helper.double(x)\n"


@pytest.fixture
def wheel(tmp_path):
    """A small wheel with metadata, package data and a submodule."""
    members = {
        "helper/__init__.py": "from helper.core import double\n",
        "helper/core.py": "from importlib.resources import files\nFACTOR = int(files('helper').joinpath('factor.txt').read_text())\n"
        "def double(x):\n    return FACTOR * x\n",
        "helper/node.py": "class Doubler:\n    def process(self, x):\n        from . import double\n        return double(x)\n",
        "helper/factor.txt": "2",
    }
    return write_wheel(tmp_path / "helper-1.2-py3-none-any.whl", members | metadata("helper", "1.2"))


def test_wheel(load, wheel):
    """With its package data."""
    assert load(USER, grants=cloche.Grants(packages=[wheel])).process(4) == 8


def test_without_the_grant_it_does_not_exist(load):
    """Deny by default; the remedy names the grant."""
    with pytest.raises(cloche.NodeLoadError, match="Grants"):
        load(USER)


def test_folder(load, tmp_path):
    """A package folder, or one that holds packages."""
    folder = tmp_path / "site" / "helper"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("def double(x):\n    return x + x\n")
    assert load(USER, grants=cloche.Grants(packages=[folder])).process("ab") == "abab"
    assert load(USER, grants=cloche.Grants(packages=[folder.parent])).process(3) == 6


def test_node_from_a_granted_package(runtime, wheel):
    """load("package.module", entry=...)"""
    with runtime.load("helper.node", entry="Doubler", grants=cloche.Grants(packages=[wheel])) as node:
        assert node.process(21) == 42


def test_metadata_of_a_wheel(load, wheel):
    """importlib.metadata finds it."""
    source = "from importlib.metadata import version\ndef f(x):\n    return version('helper')\n"
    assert load(source, "f", grants=cloche.Grants(packages=[wheel])).process(0) == "1.2"


def test_metadata_of_a_folder(load, tmp_path):
    """A .dist-info folder of its own, beside the package's."""
    folder = tmp_path / "helper-1.3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: helper\nVersion: 1.3\n")
    source = "from importlib.metadata import version\ndef f(x):\n    return version('helper')\n"
    assert load(source, "f", grants=cloche.Grants(packages=[folder])).process(0) == "1.3"


def test_compiled_extension_is_named(load, tmp_path):
    """The error says which file cannot be imported."""
    path = tmp_path / "native-1.0-cp311-cp311-linux_x86_64.whl"
    fast = "native/_fast.cpython-311-x86_64-linux-gnu.so"
    write_wheel(path, {"native/__init__.py": "from native import _fast\n", fast: b"\x7fELF"})
    with pytest.raises(cloche.NodeLoadError, match=r"native/_fast\.cpython-311-x86_64-linux-gnu\.so"):
        load(
            "import native\nclass N:\n    def process(self, x):\n        return x\n",
            grants=cloche.Grants(packages=[path]),
        )


def test_packages_from_the_index_work_from_their_installed_folders(load):
    """Pure Python with pure-Python dependencies, as pip laid them out here: rich's markdown-it and its mdurl."""
    site = Path(sysconfig.get_path("purelib"))
    source = "from markdown_it import MarkdownIt\ndef f(text):\n    return MarkdownIt().render(text)\n"
    node = load(source, "f", grants=cloche.Grants(packages=[site / "markdown_it", site / "mdurl"]))
    assert node.process("*hi* [x](http://y.z)") == '<p><em>hi</em> <a href="http://y.z">x</a></p>\n'


def test_granted_files_cannot_be_written(load, wheel):
    """The package is a read-only folder."""
    source = "import helper\ndef f(x):\n    open(helper.__file__, 'w')\n"
    with pytest.raises(cloche.NodeRaisedError, match="Read-only file system"):
        load(source, "f", grants=cloche.Grants(packages=[wheel])).process(0)


@pytest.mark.parametrize("kind", ["missing", "text", "string"])
def test_bad_grant_says_what_is_wrong(load, tmp_path, kind):
    """Before anything is loaded."""
    if kind == "missing":
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(USER, grants=cloche.Grants(packages=[tmp_path / "nowhere.whl"]))
    elif kind == "text":
        (tmp_path / "x.whl").write_text("not a zip")
        with pytest.raises(cloche.ClocheError, match=r"x\.whl"):
            load(USER, grants=cloche.Grants(packages=[tmp_path / "x.whl"]))
    else:
        with pytest.raises(TypeError, match="list of paths"):
            cloche.Grants(packages="helper.whl")
