"""The tree is the architecture: who may import whom, and which module alone touches what is dangerous."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
GUEST = TREE / "guest" / "cloche_guest"
WIRE = TREE / "guest" / "cloche_wire"
HOST = TREE / "runtime" / "cloche"

OPTIONAL_IN_GUEST = {"numpy", "cloudpickle", "cloche_tzdata"}
"""Parts of the image that the guest runtime does without: imported only where their absence is handled."""

HOST_MAY_IMPORT_GUEST = {"testing"}  # LocalGuest runs the guest's dispatch natively: that is what it is for
MAY_REACH_MEMORY = {"_ffi.py", "_memory.py"}
RAW_ACCESS = {"data_len", "data_ptr", "from_address", "memmove", "memory_base", "memset", "string_at"}


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Modules that a source imports absolutely, and whether that is inside a ``try`` or for type checkers only."""

    def walk(node: ast.AST, guarded: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            inside = guarded or isinstance(child, ast.Try)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                inside = True
            if isinstance(child, ast.Import):
                yield from ((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                yield child.module or "", inside
            else:
                yield from walk(child, inside)

    yield from walk(ast.parse(source), False)


def foreign(source: str, own: set[str]) -> list[str]:
    """Imports of a guest source that are neither the standard library nor its own, nor optional and guarded."""
    found = []
    for name, guarded in imports(source):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in own or (top in OPTIONAL_IN_GUEST and guarded):
            continue
        found.append(name)
    return found


def private_wasmtime(source: str) -> list[str]:
    """Private names of wasmtime that a source imports or reads."""
    found = [name for name, _ in imports(source) if name.startswith("wasmtime._")]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "wasmtime":
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id == "wasmtime":
                found.append(node.attr)
    return found


def _sources(folder: Path) -> list[pytest.param]:
    paths = sorted(folder.rglob("*.py"))
    assert paths, f"{folder} has no sources"
    return [pytest.param(path, id=path.relative_to(TREE).as_posix()) for path in paths]


@pytest.mark.parametrize("path", _sources(WIRE))
def test_the_protocol_imports_the_standard_library_alone(path: Path) -> None:
    """Both sides import it, so it can depend on neither."""
    assert foreign(path.read_text(), {"cloche_wire"}) == []


@pytest.mark.parametrize("path", _sources(GUEST))
def test_the_guest_imports_the_standard_library_and_the_protocol_alone(path: Path) -> None:
    """It runs where nothing can be installed."""
    assert foreign(path.read_text(), {"cloche_wire", "cloche_guest", "_cloche"}) == []


@pytest.mark.parametrize("path", _sources(HOST))
def test_the_host_does_not_import_the_guest(path: Path) -> None:
    """What runs inside the sandbox must not run outside of it by accident."""
    found = [name for name, _ in imports(path.read_text()) if name.partition(".")[0] == "cloche_guest"]
    assert found == [] or path.relative_to(HOST).parts[0] in HOST_MAY_IMPORT_GUEST


@pytest.mark.parametrize("path", _sources(HOST))
def test_only_ffi_names_private_parts_of_wasmtime(path: Path) -> None:
    """So that a new wasmtime-py can break one module only, and that one says which name moved."""
    assert private_wasmtime(path.read_text()) == [] or path.name == "_ffi.py"


@pytest.mark.parametrize("path", _sources(HOST))
def test_only_memory_and_ffi_can_reach_raw_memory(path: Path) -> None:
    """Guest addresses are hostile: what turns an address into bytes is where the checks are, and nowhere else."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        node.id for node in nodes if isinstance(node, ast.Name)
    }
    assert not named & RAW_ACCESS or path.name in MAY_REACH_MEMORY


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy", ["numpy"]),
        ("def f():\n    import numpy.fft", ["numpy.fft"]),
        ("try:\n    import numpy\nexcept ImportError:\n    pass", []),
        ("from cloche.errors import NodeError", ["cloche.errors"]),
        ("import json, cloche_wire.tags", []),
        ("if True:\n    from requests import get", ["requests"]),
    ],
)
def test_the_rule_for_guests_finds_offenders(source: str, found: list[str]) -> None:
    """The rules above would be worth nothing if they could not fail."""
    assert foreign(source, {"cloche_wire"}) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from wasmtime import _ffi", ["_ffi"]),
        ("import wasmtime._bindings", ["wasmtime._bindings"]),
        ("import wasmtime\nwasmtime.Store._ptr", ["_ptr"]),
        ("import wasmtime\nwasmtime.__version__\nself._ptr", []),
    ],
)
def test_the_rule_for_wasmtime_finds_offenders(source: str, found: list[str]) -> None:
    """See above."""
    assert private_wasmtime(source) == found
