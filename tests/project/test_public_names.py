"""The command line and the bench are built as a stranger would build them: on public names."""

from __future__ import annotations

from pathlib import Path

import pytest

from .import_graph import imports

RUNTIME = Path(__file__).parents[2] / "runtime"
BENCH = RUNTIME / "cloche_bench"
SHARED = (
    "cloche._atomic_file",
    "cloche._atomic_file.AtomicFile",
    "cloche._child",
    "cloche._child.start",
    "cloche._container",
)
"""Files written in one step, and their format; processes with a connection: library and command line need them, and none is a topic
of sandboxes."""
SOURCES = sorted([*(RUNTIME / "cloche" / "cli").rglob("*.py"), *BENCH.rglob("*.py")])


def private(source: str) -> list[str]:
    """Names of the library that begin with an underscore, and that a source imports."""
    return [
        name
        for module, taken, _ in imports(source)
        for name in dict.fromkeys((module, f"{module}.{taken}" if taken else module))
        if name.split(".")[0] == "cloche"
        and name not in SHARED
        and any(part.startswith("_") for part in _beyond_cli(name))
    ]


def _beyond_cli(name: str) -> list[str]:
    parts = name.split(".")
    if parts[1:2] == ["cli"]:  # its own
        return []
    return [part for part in parts if not (part.startswith("__") and part.endswith("__"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_only_public_names_of_the_library_are_used(path: Path) -> None:
    """What these two need and users cannot have is missing from the library's public names."""
    assert private(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from cloche._forks import watch", ["cloche._forks", "cloche._forks.watch"]),
        ("def f():\n    from cloche import _forks", ["cloche._forks"]),
        ("if TYPE_CHECKING:\n    import cloche._wasm.image as images", ["cloche._wasm.image"]),
        ("import cloche\nfrom cloche import Node, __version__", []),
        ("from cloche.cli import _options\nfrom cloche.cli._console import say", []),
    ],
)
def test_the_rule_for_names_finds_offenders(source: str, found: list[str]) -> None:
    """The rules above would be worth nothing if they could not fail."""
    assert private(source) == found
