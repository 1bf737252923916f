"""Which modules are frozen, under which names, and in which table."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.freeze import Source, sources, table
from imagebuild.link import inittab


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name in (
        "a.py",
        "b/__init__.py",
        "b/c.py",
        "b/tests/__init__.py",
        "b/data.txt",
        "no/x.py",
        "turtle.py",
        "test/__init__.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_modules_are_found_in_order(library: Path) -> None:
    """Sorted by name, tests and folders that are no packages left out."""
    found = sources(library, left_out=frozenset({"turtle"}))
    assert [(source.name, source.is_package) for source in found] == [("a", False), ("b", True), ("b.c", False)]


def test_only_what_is_asked_for(library: Path) -> None:
    """The tree's guest folder has more than the guest."""
    assert [source.name for source in sources(library, only=frozenset({"b"}))] == ["b", "b.c"]


@pytest.mark.parametrize(
    ("name", "is_package", "filename"),
    [
        ("json.decoder", False, "<cloche>/json/decoder.py"),
        ("json", True, "<cloche>/json/__init__.py"),
        ("importlib._bootstrap", False, "<frozen importlib._bootstrap>"),
    ],
)
def test_the_names_that_tracebacks_say(name: str, is_package: bool, filename: str) -> None:
    """No path of the building machine; CPython hides the frames of its import system by name."""
    assert Source(name, Path("/build/x.py"), is_package).filename == filename


def test_a_later_blob_replaces_an_earlier_module() -> None:
    """How the overlay takes the place of a module of the library."""
    boot = [(name, 0, 1, False) for name in ("importlib._bootstrap", "importlib._bootstrap_external", "zipimport")]
    text = table({"one": [*boot, ("x", 16, 4, False), ("y", 32, 4, True)], "two": [("x", 0, 9, False)]})
    assert '{"x", two + 0, 9, 0},' in text
    assert '{"y", one + 32, 4, 1},' in text
    assert "one + 16" not in text
    assert '{"_frozen_importlib", one + 0, 1, 0},' in text


def test_builtin_modules_are_declared_and_listed() -> None:
    """Each once, numpy's under their dotted names."""
    text = inittab(["math"], {"numpy.random.mtrand": "mtrand"})
    assert '    {"math", PyInit_math},' in text
    assert '    {"sys", NULL},' in text
    assert 'PyImport_AppendInittab("numpy.random.mtrand", PyInit_mtrand);' in text
    assert text.count("PyInit_mtrand(void)") == 1
