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
WASM_MAY_IMPORT = (
    "cloche._wasm",
    "cloche._texts",
    "cloche.atomic_file",
    "cloche.clock",
    "cloche.errors",
    "cloche.metering",
    "cloche_wire",
)
"""Of Cloche: what stands beneath the boundary to the guests. What else it works with is given to it."""

RAW_ACCESS = {"CDLL", "data_len", "data_ptr", "from_address", "memmove", "memory_base", "memset", "string_at"}
MAY_REACH_MEMORY = {f"_wasm/{name}.py" for name in ("bindings", "core", "engine", "memory", "stores")}
MAY_USE_CTYPES = MAY_REACH_MEMORY | {"_wasm/artifacts.py", "_wasm/frames.py"}
MAY_MAKE_SYSTEM_CALLS = {"_isolation/confine.py", "_isolation/seccomp.py"}
"""A worker process gives up its own rights: ctypes leads to the C library there, never to a guest's memory."""


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Modules that a source imports absolutely, and how: "try" inside of a ``try``, "typing" for type checkers only, else ""."""

    def walk(node: ast.AST, how: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inside = how
            if isinstance(child, ast.Try):
                inside = how or "try"
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                inside = "typing"
            if isinstance(child, ast.Import):
                yield from ((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                yield child.module or "", inside
            else:
                yield from walk(child, inside)

    yield from walk(ast.parse(source), "")


def foreign(source: str, own: set[str]) -> list[str]:
    """Imports of a guest source that are neither the standard library nor its own, nor optional and guarded."""
    found = []
    for name, how in imports(source):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in own or (top in OPTIONAL_IN_GUEST and how):
            continue
        found.append(name)
    return found


def above_the_boundary(source: str) -> list[str]:
    """Imports of Cloche's own that the modules of ``_wasm`` may not have. What is for type checkers only does not count."""
    return [
        name
        for name, how in imports(source)
        if name.partition(".")[0].startswith("cloche")
        and how != "typing"
        and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in WASM_MAY_IMPORT)
    ]


def uses_of_ctypes(source: str) -> list[str]:
    """What a source takes from ctypes. Its error class is none: ctypes raises it in the callers of foreign functions."""
    found = [name for name, _ in imports(source) if name == "ctypes" or name.startswith("ctypes.")]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "ctypes" and _names(node) == ["ArgumentError"]:
            found.remove("ctypes")
    return found


def _names(node: ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names]


def raw_access(source: str) -> set[str]:
    """Names in a source that turn an address into bytes."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return RAW_ACCESS & (named | {node.id for node in nodes if isinstance(node, ast.Name)})


def _path(path: Path) -> str:
    return path.relative_to(HOST).as_posix()


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
def test_the_host_does_not_import_wasmtimes_python_package(path: Path) -> None:
    """The native core calls the engine; the package's modules would take 60 ms of each start, and know nothing of the core."""
    found = [name for name, _ in imports(path.read_text()) if name.partition(".")[0] == "wasmtime"]
    assert found == []


@pytest.mark.parametrize("path", _sources(HOST / "_wasm"))
def test_the_boundary_imports_nothing_that_is_built_on_it(path: Path) -> None:
    """Nodes, pools and services use instances; the modules that hold a guest's memory know none of them."""
    assert above_the_boundary(path.read_text()) == []


@pytest.mark.parametrize("path", _sources(HOST))
def test_only_the_boundary_uses_ctypes(path: Path) -> None:
    """A wrong argument of a foreign function ends the process, so the calls are few and in one place."""
    assert uses_of_ctypes(path.read_text()) == [] or _path(path) in MAY_USE_CTYPES | MAY_MAKE_SYSTEM_CALLS


@pytest.mark.parametrize("path", _sources(HOST))
def test_only_the_boundary_can_reach_raw_memory(path: Path) -> None:
    """Guest addresses are hostile: what turns an address into bytes is where the checks are, and nowhere else."""
    found = raw_access(path.read_text())
    assert not found or _path(path) in MAY_REACH_MEMORY or (found == {"CDLL"} and _path(path) in MAY_MAKE_SYSTEM_CALLS)


@pytest.mark.parametrize("name", sorted(MAY_USE_CTYPES | MAY_MAKE_SYSTEM_CALLS))
def test_each_exception_is_needed(name: str) -> None:
    """A file that no longer uses ctypes must not keep the right to."""
    assert uses_of_ctypes((HOST / name).read_text())


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
        ("from cloche._runtime.node import Node", ["cloche._runtime.node"]),
        ("def f():\n    import cloche", ["cloche"]),
        ("try:\n    import cloche.services\nexcept ImportError:\n    pass", ["cloche.services"]),
        ("from cloche._wasm_of_mine import x", ["cloche._wasm_of_mine"]),
        ("if TYPE_CHECKING:\n    from cloche._runtime.node import Node", []),
        ("from cloche._wasm.core import core\nfrom cloche_wire import abi\nimport ctypes", []),
    ],
)
def test_the_rule_for_the_boundary_finds_offenders(source: str, found: list[str]) -> None:
    """See above."""
    assert above_the_boundary(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ctypes", ["ctypes"]),
        ("def f():\n    import ctypes.util", ["ctypes.util"]),
        ("from ctypes import ArgumentError, string_at", ["ctypes"]),
        ("from ctypes import ArgumentError", []),
        ("from ctypes import ArgumentError\nimport ctypes", ["ctypes"]),
    ],
)
def test_the_rule_for_ctypes_finds_offenders(source: str, found: list[str]) -> None:
    """See above."""
    assert uses_of_ctypes(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("ctypes.string_at(8)", {"string_at"}),
        ("(c_char * 9).from_address(8)", {"from_address"}),
        ("memmove(a, b, 9)", {"memmove"}),
        ("'string_at'", set()),
    ],
)
def test_the_rule_for_memory_finds_offenders(source: str, found: set[str]) -> None:
    """See above."""
    assert raw_access(source) == found
