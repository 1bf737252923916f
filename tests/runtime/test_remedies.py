"""What an error recommends is tried: after it, the node loads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche import remedies
from tests.wheels import write_wheel

pytestmark = pytest.mark.isolation("none", reason="the advice is the host's, the same for every sandbox")

Load = Callable[..., cloche.Node]
USER = "def process(x): return {}\n"


def advice(load: Callable[[], Any]) -> str:
    """The remedy of the error that loading raises."""
    with pytest.raises(cloche.NodeLoadError) as caught:
        load()
    assert str(caught.value).endswith(caught.value.remedy)
    return caught.value.remedy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module that a node wants."""
    made = tmp_path / "nodes"
    made.mkdir()
    (made / "helpful.py").write_text("ANSWER = 42")
    return made


def wheel(folder: Path, name: str, **files: str) -> Path:
    return write_wheel(folder / f"{name}-1-py3-none-any.whl", {f"{name}/{file}": text for file, text in files.items()})


def test_a_package_that_is_not_granted(load: Load, tmp_path: Path) -> None:
    text = f"import helpful\n{USER.format('helpful.ANSWER')}"
    assert "Grants(packages=[the wheel])" in advice(lambda: load(text))
    granted = cloche.Grants(packages=[wheel(tmp_path, "helpful", **{"__init__.py": "ANSWER = 42"})])
    assert load(text, grants=granted).process(0) == 42


def test_a_module_beside_the_nodes_file(runtime: cloche.Runtime, folder: Path) -> None:
    (folder / "node.py").write_text(f"import helpful\n{USER.format('helpful.ANSWER')}")
    assert advice(lambda: runtime.load(folder / "node.py")) == (
        "A module helpful lies beside the node's file, but a single file is loaded alone: put an __init__.py into their folder, load the "
        "folder, and import the module as part of that package."
    )
    (folder / "__init__.py").write_text(f"from nodes import helpful\n{USER.format('helpful.ANSWER')}")
    with runtime.load(folder) as node:
        assert node.process(0) == 42


def test_a_relative_import_in_a_single_file(runtime: cloche.Runtime, folder: Path) -> None:
    (folder / "node.py").write_text(f"from .helpful import ANSWER\n{USER.format('ANSWER')}")
    assert advice(lambda: runtime.load(folder / "node.py")).startswith(
        "The node was loaded as a single module. Load the folder of its package"
    )
    (folder / "__init__.py").write_text("from .node import process")
    with runtime.load(folder, "process") as node:
        assert node.process(0) == 42


def test_an_absolute_import_inside_of_a_package(runtime: cloche.Runtime, folder: Path) -> None:
    (folder / "__init__.py").write_text(f"import helpful\n{USER.format('helpful.ANSWER')}")
    found = advice(lambda: runtime.load(folder))
    assert found == "The node's package has nodes.helpful: write `import nodes.helpful`, or import it relatively."
    (folder / "__init__.py").write_text(f"import nodes.helpful\n{USER.format('nodes.helpful.ANSWER')}")
    with runtime.load(folder) as node:
        assert node.process(0) == 42


def test_a_missing_submodule(runtime: cloche.Runtime, load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "nodes"
    folder.mkdir()
    (folder / "helpers.py").write_text("")
    (folder / "__init__.py").write_text(f"import nodes.helper\n{USER.format('1')}")
    assert "no module nodes.helper (did you mean nodes.helpers?)" in advice(lambda: runtime.load(folder))
    granted = cloche.Grants(packages=[wheel(tmp_path, "helpful", **{"__init__.py": "", "core.py": ""})])
    found = advice(lambda: load(f"import helpful.cor\n{USER}", grants=granted))
    assert (
        found
        == "The granted package helpful-1-py3-none-any.whl has no module helpful.cor (did you mean helpful.core?): is it another version?"
    )


def test_compiled_code(load: Load, tmp_path: Path) -> None:
    """A wheel with a compiled part is of use if its Python does without."""
    files = {"__init__.py": "from helpful._fast import x", "_fast.cpython-313-x86_64-linux-gnu.so": "\x7fELF"}
    text = f"import helpful\n{USER.format('helpful.x')}"
    found = advice(lambda: load(text, grants=cloche.Grants(packages=[wheel(tmp_path, "helpful", **files)])))
    assert found.startswith("The sandbox cannot run compiled code. Grant a pure-Python version of the package")
    files["__init__.py"] = "try:\n from helpful._fast import x\nexcept ImportError:\n x = 42"
    assert load(text, grants=cloche.Grants(packages=[wheel(tmp_path, "helpful", **files)])).process(0) == 42


def test_parameters(load: Load) -> None:
    text = (
        "class N:\n def __init__(self, factor): self.factor = factor\n def process(self, x): return x * self.factor\n"
    )
    assert advice(lambda: load(text, None, {"fcator": 3})) == (
        "Check `params`: 'fcator' is not a parameter: did you mean 'factor'?; parameters: N(factor)."
    )
    assert load(text, None, {"factor": 3}).process(2) == 6


def test_an_error_of_the_nodes_own_has_no_advice(load: Load) -> None:
    """Advice that does not fit is worse than none."""
    assert (
        advice(lambda: load("class N:\n def __init__(self): raise ValueError('no')\n def process(self, x): pass\n"))
        == ""
    )
    assert advice(lambda: load("1 / 0\n")) == ""


def test_source_for_another_python(load: Load) -> None:
    assert advice(lambda: load("print 'hello'\n")) == "The source has to be valid Python 3.13, which the sandbox runs."


def test_an_import_during_a_call(load: Load) -> None:
    node = load("def process(name): return __import__(name)\n")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("torch")
    assert caught.value.remedy.startswith("torch is compiled code, which the sandbox cannot run.")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("json.nothing")
    assert caught.value.exc_type == "ModuleNotFoundError"


def test_a_file_of_the_host(load: Load, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    text = "def process(path): return open(path).read()\n"
    with pytest.raises(cloche.NodeRaisedError) as caught:
        load(text).process("/data/a.txt")
    assert caught.value.remedy.startswith("Of the host's files a node sees only the folders of Grants(mounts=...).")
    assert load(text, grants=cloche.Grants(mounts={"/data": tmp_path})).process("/data/a.txt") == "content"


def test_memory_while_loading(runtime: cloche.Runtime) -> None:
    source = cloche.Source(f"DATA = bytearray(90 << 20)\n{USER.format('len(DATA)')}")
    found = advice(lambda: runtime.load(source, limits=cloche.Limits(memory_bytes=64 << 20)))
    assert "wanted more (Limits.memory_bytes=67108864)" in found
    with runtime.load(source, limits=cloche.Limits(memory_bytes=256 << 20)) as node:
        assert node.process(0) == 90 << 20


def test_recursion(runtime: cloche.Runtime) -> None:
    """The limit is worth raising only if it was the reason."""
    source = cloche.Source("def f(n): return n and f(n - 1)\ndef process(n): return f(n)\n")
    with runtime.load(source, "process") as node, pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(15_000)
    assert caught.value.remedy.endswith("(Limits.stack_depth=10000): raise that limit if it may go deeper.")
    with runtime.load(source, "process", limits=cloche.Limits(stack_depth=20_000)) as node:
        assert node.process(15_000) == 0
    lowered = cloche.Source(f"import sys\nsys.setrecursionlimit(500)\n{source.text}")
    with runtime.load(lowered, "process") as node, pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(15_000)
    assert "the node has lowered its limit" in caught.value.remedy


IMPORTED = """
import importlib
def process(names):
    found = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        found.append(name)
    return found
"""


def test_no_advice_is_about_a_module_that_can_be_imported(load: Load) -> None:
    """Nobody would ever see it, and it would not be true."""
    tables = (
        *(remedies._REMOVED, remedies._NEW, remedies._PYTHON_2, remedies._WINDOWS, remedies._STANDARD),
        *(remedies._COMPILED, remedies._ON_COMPILED, remedies._NETWORK, remedies._PROJECTS, remedies._NUMPY),
    )
    names = sorted({name for table in tables for name in table})
    assert load(IMPORTED).process([*names, "json"]) == ["json"]


def test_what_the_standard_library_lacks_has_advice(load: Load) -> None:
    """Every module of the host's Python that the sandbox cannot import, but for parts of other modules."""
    public = sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name != "this")
    missing = set(public) - set(load(IMPORTED).process(public))
    assert "tkinter" in missing
    assert [name for name in missing if "Other packages" in remedies.for_module(name)] == []
