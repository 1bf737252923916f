"""What `import cloche` brings in: a program that takes one name from it does not wait for an engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import cloche

NEEDED = "cloche.Runtime, cloche.Limits, cloche.Grants, cloche.Source, cloche.DeadlineError"
SLOW = {
    "anyio", "asyncio", "concurrent.futures", "hashlib", "importlib.metadata", "logging", "multiprocessing", "numpy",
    "queue", "random", "rich", "socket", "ssl", "structlog", "subprocess", "tempfile", "typer", "zipfile",
}  # fmt: skip
"""Modules that take more than a millisecond to import, and that a program with one node does not need."""


def modules_after(program: str) -> set[str]:
    """What a fresh interpreter has imported after a program, and had not before."""
    code = f"import sys; before = set(sys.modules)\n{program}\nprint(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return set(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, timeout=300).split())


def test_importing_cloche_imports_nothing_else() -> None:
    """Not even `typing`: what is slow comes with the first name that needs it."""
    assert modules_after("import cloche") == {"cloche"}


def test_what_every_program_needs_imports_no_slow_module() -> None:
    found = modules_after(f"import cloche; {NEEDED}")
    assert "cloche._runtime.runtime" in found
    assert found & SLOW == set()


def test_an_error_can_be_caught_without_an_engine() -> None:
    """So that a program that only handles errors of nodes, in a process without nodes, stays small."""
    found = modules_after("import cloche; cloche.DeadlineError")
    assert "cloche.errors" in found
    assert not {name for name in found if name.partition(".")[0] in {"wasmtime", "cbor2", "ctypes"}}


def test_a_slow_module_would_be_found() -> None:
    """The tests above would be worth nothing if they could not fail."""
    assert modules_after("import cloche, logging; cloche.Pool") & SLOW >= {"logging", "concurrent.futures"}


@pytest.mark.parametrize("name", cloche.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each has a line in the table of homes; a name that is missing from it would be found by its first user."""
    value = getattr(cloche, name)
    assert getattr(value, "__name__", name) == name
    assert name in dir(cloche)


def test_the_table_of_homes_and_the_list_of_names_are_the_same() -> None:
    assert {*cloche._HOMES, "__version__"} == set(cloche.__all__)
    assert cloche.__all__ == sorted(cloche.__all__)


@pytest.mark.parametrize("name", cloche._MODULES)
def test_public_modules_need_no_import_of_their_own(name: str) -> None:
    assert modules_after(f"import cloche; cloche.{name}") >= {f"cloche.{name}"}


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'cloche' has no attribute 'Runtme'$"):
        cloche.Runtme  # noqa: B018


def test_from_import_and_star_import_work() -> None:
    found: dict[str, object] = {}
    exec("from cloche import *\nfrom cloche import Pool as P", found)
    assert found["P"] is cloche.Pool
    assert {name: found[name] for name in cloche.__all__} == {name: getattr(cloche, name) for name in cloche.__all__}


REFUSED = """
import sys
{lie}
try:
    {statement}
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("platform", ["win32", "cygwin", "emscripten", "wasi", "freebsd14"])
def test_other_systems_are_refused_at_import(platform: str) -> None:
    """In one line, which a program can catch; not by a module that is missing somewhere inside."""
    program = REFUSED.format(lie=f"sys.platform = {platform!r}", statement="import cloche")
    assert run(program) == (
        f"ImportError Cloche does not run on {platform}: it needs Linux, or macOS, which is less tested. On Windows, use WSL 2\n"
    )


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("_ctypes", "import cloche; cloche.Runtime"),
        ("ctypes", "from cloche import Runtime"),
        ("mmap", "from cloche import Runtime"),
        ("fcntl", "import cloche; cloche.Runtime(isolation='process')"),
    ],
)
def test_an_interpreter_without_what_is_needed_is_refused(module: str, statement: str) -> None:
    program = REFUSED.format(lie=f"sys.modules[{module!r}] = None", statement=statement)
    assert run(program) == (
        f"ImportError Cloche needs the module {module} of the standard library, which this Python was built without\n"
    )


def run(program: str) -> str:
    """What a program prints in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.check_output([sys.executable, "-c", program], env=environment, text=True, timeout=300)
