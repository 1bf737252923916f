"""The command line and the bench are built as a stranger would build them: on public names, and without circles of imports."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime"
BENCH = RUNTIME / "cloche_bench"
SHARED = ("cloche._atomic_file", "cloche._atomic_file.AtomicFile")
"""Writes files in one step. Library, command line and bench all need it, and it is no topic of a library of sandboxes."""
SOURCES = sorted([*(RUNTIME / "cloche" / "cli").rglob("*.py"), *BENCH.rglob("*.py")])


def imported(source: str) -> Iterator[str]:
    """Every module that a source imports, and every name that it takes from one as if that were a module of it: at the top,
    inside of functions, and for type checkers alike."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private(source: str) -> list[str]:
    """Names of the library that begin with an underscore, and that a source imports."""
    return [
        name
        for name in imported(source)
        if name.split(".")[0] == "cloche"
        and name not in SHARED
        and any(part.startswith("_") for part in _beyond_cli(name))
    ]


def _beyond_cli(name: str) -> list[str]:
    parts = name.split(".")
    if parts[1:2] == ["cli"]:  # its own
        return []
    return [part for part in parts if not (part.startswith("__") and part.endswith("__"))]


def edges(source: str, modules: Collection[str]) -> set[str]:
    """Which of some modules a source imports. ``from package import module`` imports the module, not what the package names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= set(modules) else names | {node.module}
    return found & set(modules)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other, in order, or nothing if no module leads back to itself."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := walk(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def _module(path: Path) -> str:
    parts = path.relative_to(RUNTIME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_only_public_names_of_the_library_are_used(path: Path) -> None:
    """What these two need and users cannot have is missing from the library's public names."""
    assert private(path.read_text()) == []


@pytest.mark.parametrize("folder", [BENCH, RUNTIME / "cloche" / "cli"], ids=["cloche_bench", "cloche.cli"])
def test_no_files_import_each_other_in_a_circle(folder: Path) -> None:
    """Each file can be read with only those that it imports; lazy imports, and those for type checkers, count."""
    modules = {_module(path): path for path in folder.rglob("*.py")}
    assert circle({name: edges(path.read_text(), modules) for name, path in modules.items()}) == []


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


def test_the_rule_for_circles_finds_one() -> None:
    """See above."""
    assert edges("def f():\n    from p import m\nif TYPE_CHECKING:\n    from p.n import X", ["p", "p.m", "p.n"]) == {
        "p.m",
        "p.n",
    }
    assert edges("from p import m, function", ["p", "p.m"]) == {"p", "p.m"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
