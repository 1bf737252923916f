"""The tree is the architecture: which package may import which, and which modules alone touch what is dangerous.

Every import counts: absolute and relative, at the top, inside of a function, and for type checkers only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from .import_graph import circle, edges, imports, modules

TREE = Path(__file__).parents[2]
RUNTIME = TREE / "runtime"
GUEST = TREE / "guest"
HOST = RUNTIME / "cloche"

ORDER = (
    "_keywords texts _child",
    "_html _records _times frames limits clock _signatures mounts metering isolation _forks _atomic_file _pickles",
    "errors",
    "_live_source _container",
    "services source _codec _wasm",
    "grants image _requests remedies",
    "_arguments _files budget",
    "_sandbox",
    "_recording",
    "_isolation debug",
    "_runtime",
    "replay",
    "_profiling testing repl",
    "inspection profiling parking pipeline telemetry",
    "cluster",
    "dask ray",
    "cloche",
    "cloche_bench",
    "cli",
    "__main__",
)
"""Packages and modules of the host: each may import those of the lines above it, and nothing else of Cloche but the wire protocol.
"cloche" is the public face, `cloche/__init__.py`."""

IMPORTS_THE_GUEST = ("testing", "pipeline")
"""`LocalGuest` runs the guest's dispatch natively: that is its purpose. A pipeline's native nodes are found and built as the guest does."""

RUNS_IN_THE_GUEST = {"cloche/repl/session.py"}
"""Nodes of Cloche's own. The host reads them as text; they are held to the guest's rules."""

OPTIONAL_IN_GUEST = {"numpy", "cloudpickle", "cloche_tzdata"}
"""Parts of the image that the guest runtime does without: imported where their absence is handled, or by name where they are granted."""

RAW_ACCESS = {
    "CDLL", "POINTER", "data_len", "data_ptr", "from_address", "from_buffer", "memmove", "memory_base", "memset", "string_at",
}  # fmt: skip
"""Names that turn an address into bytes, or bytes into an address; `ctypes.cast` is looked for as well."""
MAY_REACH_MEMORY = {
    f"cloche/_wasm/{name}.py" for name in ("artifacts", "bindings", "core", "engine", "journal", "memory", "slot")
}
MAY_USE_CTYPES = MAY_REACH_MEMORY | {"cloche/_wasm/frames.py", "cloche/_wasm/sampler.py"}
READS_ARROW = {"cloche/frames/_arrow.py"}
"""Reads structs of libraries of the host's process, which it trusts; no address of a guest's comes there."""
SETS_CLOCKS = {"cloche/cli/_comparing/native_clock.py"}
"""Tells CPython that methods of `datetime` were replaced, in a process that has no sandbox; it reaches no address."""
MAY_MAKE_SYSTEM_CALLS = {"cloche/_isolation/confine.py", "cloche/_isolation/seccomp.py"}
"""A worker process gives up its own rights: ctypes leads to the C library there, never to a guest's memory."""


def layer(module: str) -> str:
    """What `ORDER` calls the module."""
    if module == "cloche":
        return "cloche"
    return module.split(".")[0 if module.startswith("cloche_bench") else 1]


def upward(graph: dict[str, set[str]], order: Iterable[str]) -> list[str]:
    """Imports of a package or module that is not in one of the lines above the importing one."""
    height = {name: row for row, line in enumerate(order) for name in line.split()}
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if (one := layer(module)) != (other := layer(target)) and height[other] >= height[one]
    ]


def foreign(source: str, own: set[str]) -> list[str]:
    """Imports of a guest source that are neither the standard library nor its own, nor optional and guarded."""
    return [
        module
        for module, _, where in imports(source)
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names
        and top not in own
        and not (top in OPTIONAL_IN_GUEST and where in ("try", "name"))
    ]


def uses_of_ctypes(source: str) -> list[str]:
    """What a source takes from ctypes, but for its error class: ctypes raises that in the callers of foreign functions."""
    return [
        f"{module}.{name}" if name else module
        for module, name, _ in imports(source)
        if module.partition(".")[0] == "ctypes" and name != "ArgumentError"
    ]


def raw_access(source: str) -> set[str]:
    """Names in a source that turn an address into bytes, or bytes into an address."""
    found = {name for module, name, _ in imports(source) if module == "ctypes" and name == "cast"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            found |= {node.id} & RAW_ACCESS
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & RAW_ACCESS
            if node.attr == "cast" and isinstance(node.value, ast.Name) and node.value.id == "ctypes":
                found.add("cast")
    return found


def host_files() -> dict[str, str]:
    """Path below runtime/ -> source, of the host's two packages."""
    paths = [path for package in ("cloche", "cloche_bench") for path in (RUNTIME / package).rglob("*.py")]
    assert len(paths) > 100
    return {path.relative_to(RUNTIME).as_posix(): path.read_text() for path in paths}


def host_graph() -> dict[str, set[str]]:
    return edges({name: path for name, path in modules(RUNTIME).items() if not name.startswith("native")})


def test_imports_go_one_way() -> None:
    """A package can be read, tested and replaced without those that are built on it."""
    assert upward(host_graph(), ORDER) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """In a circle nothing can be understood, or imported, before everything else."""
    assert circle(host_graph()) == []


def test_no_script_hides_a_module_of_the_standard_library() -> None:
    """Python puts a script's folder first on the path: a numbers.py there broke every later import of `decimal`."""
    folders = [RUNTIME / "native", TREE / "wasm", TREE / "tools", TREE]
    scripts = [path for folder in folders for path in folder.glob("*.py")]
    assert len(scripts) > 4
    assert [path.name for path in scripts if path.stem in sys.stdlib_module_names] == []


def test_the_protocol_imports_the_standard_library_alone() -> None:
    """Both sides import it, so it can depend on neither."""
    sources = list((GUEST / "cloche_wire").rglob("*.py"))
    assert sources
    assert {path.name: found for path in sources if (found := foreign(path.read_text(), {"cloche_wire"}))} == {}


def test_the_guest_imports_the_standard_library_and_the_protocol_alone() -> None:
    """It runs where nothing can be installed."""
    own = {"cloche_wire", "cloche_guest", "_cloche"}
    sources = list((GUEST / "cloche_guest").rglob("*.py"))
    assert sources
    assert {path.name: found for path in sources if (found := foreign(path.read_text(), own))} == {}


def test_the_host_does_not_import_the_guest() -> None:
    """What runs inside the sandbox must not run outside of it by accident."""
    users = {
        path
        for path, source in host_files().items()
        if "cloche_guest" in {m.partition(".")[0] for m, *_ in imports(source)} and path not in RUNS_IN_THE_GUEST
    }
    assert {path.split("/")[1] for path in users} == set(IMPORTS_THE_GUEST)


def test_nodes_of_our_own_are_read_and_not_imported() -> None:
    """Their code is for the sandbox: imported here, it would run outside of it. In the sandbox it finds nothing else of the host."""
    graph = host_graph()
    for path in RUNS_IN_THE_GUEST:
        module = path.removesuffix(".py").replace("/", ".")
        assert foreign((RUNTIME / path).read_text(), {"cloche_guest"}) == []
        assert [user for user, targets in graph.items() if module in targets] == []


def test_the_host_does_not_import_wasmtimes_python_package() -> None:
    """The native core calls the engine; the package's modules would take 60 ms of each start, and know nothing of the core."""
    assert [
        path
        for path, source in host_files().items()
        if "wasmtime" in {m.partition(".")[0] for m, *_ in imports(source)}
    ] == []


def test_only_the_boundary_uses_ctypes() -> None:
    """A wrong argument of a foreign function ends the process, so the calls are few and in one place. No file keeps a right unused."""
    users = {path for path, source in host_files().items() if uses_of_ctypes(source)}
    assert users == MAY_USE_CTYPES | MAY_MAKE_SYSTEM_CALLS | READS_ARROW | SETS_CLOCKS


def test_only_the_boundary_can_reach_raw_memory() -> None:
    """Guest addresses are hostile: what turns an address into bytes is where the checks are, and nowhere else."""
    users = {path: found for path, source in host_files().items() if (found := raw_access(source))}
    for path in users.keys() - MAY_REACH_MEMORY - READS_ARROW:
        assert path in MAY_MAKE_SYSTEM_CALLS and users[path] == {"CDLL"}, path
    assert users.keys() >= MAY_REACH_MEMORY


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
    ("source", "package", "found"),
    [
        ("from cloche._runtime.node import Node", "cloche._wasm", [("cloche._runtime.node", "Node")]),
        ("def f():\n    import cloche", "cloche._wasm", [("cloche", "")]),
        ("if TYPE_CHECKING:\n    from cloche.grants import Grants", "cloche", [("cloche.grants", "Grants")]),
        ("from . import memory", "cloche._wasm", [("cloche._wasm", "memory")]),
        ("from .._codec import codec", "cloche._wasm", [("cloche._codec", "codec")]),
        ("from .x import y", "cloche", [("cloche.x", "y")]),
        ("def f(): return importlib.import_module('cloche.cli').x", "cloche._wasm", [("cloche.cli", "")]),
        ("__import__('json')", "cloche", [("json", "")]),
    ],
)
def test_every_form_of_import_is_seen(source: str, package: str, found: list[tuple[str, str]]) -> None:
    """A lazy or relative import is one as well."""
    assert [(module, name) for module, name, _ in imports(source, package)] == found


def test_the_rule_of_direction_finds_offenders() -> None:
    """Upward, sideways in a line; within a package everything is allowed but a circle."""
    graph = {
        "cloche._wasm.a": {"cloche._runtime.b", "cloche.errors", "cloche._wasm.c", "cloche._codec.d"},
        "cloche": {"cloche.errors"},
        "cloche_bench.x": {"cloche.cli.y", "cloche"},
    }
    assert upward(graph, ORDER) == [
        "cloche._wasm.a imports cloche._codec.d",
        "cloche._wasm.a imports cloche._runtime.b",
        "cloche_bench.x imports cloche.cli.y",
    ]


def test_the_rule_of_circles_finds_them() -> None:
    """Of any length."""
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})) == {"b", "c"}
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    from p import m\nif TYPE_CHECKING:\n    from p.n import X", {"p.m", "p.n"}),
        ("from p import m, function", {"p", "p.m"}),
    ],
)
def test_an_import_leads_to_the_module_and_not_to_its_package(tmp_path: Path, source: str, found: set[str]) -> None:
    """A package's ``__init__`` would else be part of every circle."""
    (tmp_path / "x.py").write_text(source)
    (tmp_path / "p.py").touch()
    known = {"x": tmp_path / "x.py"} | dict.fromkeys(("p", "p.m", "p.n"), tmp_path / "p.py")
    assert edges(known)["x"] == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ctypes", ["ctypes"]),
        ("def f():\n    import ctypes.util", ["ctypes.util"]),
        ("from ctypes import ArgumentError, string_at", ["ctypes.string_at"]),
        ("from ctypes import ArgumentError", []),
    ],
)
def test_the_rule_for_ctypes_finds_offenders(source: str, found: list[str]) -> None:
    """In any form."""
    assert uses_of_ctypes(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("ctypes.string_at(8)", {"string_at"}),
        ("(c_char * 9).from_address(8)", {"from_address"}),
        ("memmove(a, b, 9)", {"memmove"}),
        ("ctypes.cast(a, b)", {"cast"}),
        ("from ctypes import cast", {"cast"}),
        ("typing.cast('int', x); memoryview(b'').cast('B'); 'string_at'", set()),
    ],
)
def test_the_rule_for_memory_finds_offenders(source: str, found: set[str]) -> None:
    """Names, not texts; and not what is called the same elsewhere."""
    assert raw_access(source) == found
