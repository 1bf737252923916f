"""Loading a node: where its code may come from, and what each failure says."""

from __future__ import annotations

import gc

import pytest

import cloche
from tests.limits import patient

pytestmark = pytest.mark.isolation("none", reason="a node is loaded by the guest, which is the same in a worker")

DOUBLE = "class Double:\n    def process(self, x):\n        return 2 * x\n"


def test_source_text(load):
    """The shortest way to a node."""
    assert load(DOUBLE, "Double").process(21) == 42


def test_plain_function(load):
    """A function is a node with nothing but process."""
    node = load("def double(x):\n    return 2 * x\n", "double")
    assert node.process(21) == 42
    assert node.info["kind"] == "function"
    assert node.initialize() is None


def test_entry_may_be_left_out_where_there_is_one_candidate(load):
    """A newcomer's file has one class."""
    assert load(DOUBLE).process(2) == 4


def test_file(runtime, tmp_path):
    """The usual way: a .py file."""
    path = tmp_path / "double.py"
    path.write_text(DOUBLE)
    with runtime.load(path, "Double") as node:
        assert node.process(1.5) == 3.0
        assert node.name == "Double"


def test_file_with_an_encoding_declaration(runtime, tmp_path):
    """PEP 263."""
    path = tmp_path / "latin.py"
    path.write_bytes(
        "# coding: latin-1\nclass N:\n    def process(self, x):\n        return '\xe9'\n".encode("latin-1")
    )
    with runtime.load(path) as node:
        assert node.process(0) == "é"


def test_package_folder_with_relative_imports_and_data(runtime, tmp_path):
    """A package is sent whole; the guest imports it from memory."""
    folder = tmp_path / "pack"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("from .inner.core import Scale\n")
    (folder / "inner" / "__init__.py").write_text("")
    (folder / "inner" / "core.py").write_text(
        "from importlib.resources import files\nfrom ..factor import FACTOR\n"
        "class Scale:\n    def process(self, x):\n"
        "        return [x * FACTOR, files('pack').joinpath('table.txt').read_text()]\n"
    )
    (folder / "factor.py").write_text("FACTOR = 7\n")
    (folder / "table.txt").write_text("ruler")
    with runtime.load(folder, "Scale") as node:
        assert node.process(6) == [42, "ruler"]


def test_params_reach_init(load):
    """As keyword arguments, of every plain type."""
    node = load("class N:\n    def __init__(self, **params):\n        self.params = params\n    def process(self, x):\n        return self.params\n",
                params={"a": 1, "b": [1.5, None], "c": {"k": b"v"}})  # fmt: skip
    assert node.process(0) == {"a": 1, "b": [1.5, None], "c": {"k": b"v"}}


def test_state_lives_across_calls(load):
    """The instance stays in the guest."""
    node = load("class N:\n    n = 0\n    def process(self, x):\n        self.n += x\n        return self.n\n")
    assert [node.process(2), node.process(3), node.get("n")] == [2, 5, 5]


def test_syntax_error_names_file_line_and_text(load):
    """As Python itself would show it."""
    with pytest.raises(cloche.NodeLoadError) as caught:
        load("class N:\n    def process(self, x)\n        return x\n", "N")
    error = caught.value
    assert (error.exc_type, error.phase) == ("SyntaxError", "compile")
    assert [(f.file, f.line) for f in error.frames][-1] == ("node.py", 2)
    assert "def process(self, x)" in error.guest_traceback


def test_missing_module_comes_with_a_remedy(load):
    """The message says why it is not there, and what to do."""
    with pytest.raises(cloche.NodeLoadError, match="torch is compiled code, which the sandbox cannot run") as caught:
        load("import torch\nclass N:\n    def process(self, x):\n        return x\n", "N")
    assert (caught.value.exc_type, caught.value.phase) == ("ModuleNotFoundError", "import")
    assert "torch" in caught.value.message


def test_wrong_entry_names_the_candidates(load):
    """A typing error is the usual cause."""
    with pytest.raises(cloche.NodeLoadError, match="Double") as caught:
        load(DOUBLE, "Duoble")
    assert caught.value.phase == "entry"


def test_entry_without_process_is_refused(load):
    """Found at load, not at the first call."""
    with pytest.raises(cloche.NodeLoadError, match="process"):
        load("class N:\n    pass\n", "N")


def test_init_that_raises_is_a_load_error_with_its_traceback(load):
    """The frames are the node's own."""
    source = "class N:\n    def __init__(self):\n        {}['key']\n    def process(self, x):\n        return x\n"
    with pytest.raises(cloche.NodeLoadError) as caught:
        load(source, "N")
    assert (caught.value.exc_type, caught.value.phase) == ("KeyError", "init")
    assert [(f.file, f.line, f.function, f.text) for f in caught.value.frames] == [
        ("node.py", 3, "__init__", "{}['key']")
    ]


def test_unknown_parameter_says_what_init_takes(load):
    """TypeError, and a remedy."""
    with pytest.raises(cloche.NodeLoadError, match="params"):
        load(
            "class N:\n    def __init__(self, factor):\n        pass\n    def process(self, x):\n        return x\n",
            "N",
            {"fcator": 1},
        )


def test_unencodable_parameter_names_its_path(load):
    """Before the guest is entered."""
    with pytest.raises(cloche.EncodeError, match=r"params\.filters\[1\]\.fn") as caught:
        load(DOUBLE, "Double", {"filters": [1, {"fn": print}]})
    assert isinstance(caught.value, TypeError)


def test_missing_file_says_so(runtime):
    """And reminds of Source where the path looks like source text."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runtime.load("nowhere.py", "N")
    with pytest.raises(FileNotFoundError, match=r"cloche\.Source"):
        runtime.load(DOUBLE, "Double")


def test_folder_that_is_no_package_says_so(runtime, tmp_path):
    """A package needs its __init__.py."""
    with pytest.raises(cloche.ClocheError, match=r"__init__\.py"):
        runtime.load(tmp_path, "N")


def test_link_out_of_a_package_is_refused(runtime, tmp_path):
    """Or a hostile package would make the host read its own files for it."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").write_text(DOUBLE)
    (folder / "data.txt").symlink_to(secret)
    with pytest.raises(cloche.ClocheError, match="link"):
        runtime.load(folder, "Double")


def test_failed_load_leaves_no_instance(runtime):
    """Nothing to close, nothing leaked."""
    gc.collect()  # what other tests dropped
    before = len(runtime._nodes)
    with pytest.raises(cloche.NodeLoadError):
        runtime.load(cloche.Source("import nowhere"), "N")
    assert len(runtime._nodes) == before


def test_closed_runtime_loads_nothing(recorder):
    """And closes its nodes with it."""
    runtime = cloche.Runtime(logger=recorder, limits=patient())
    node = runtime.load(cloche.Source(DOUBLE), "Double")
    runtime.close()
    with pytest.raises(cloche.ClosedError):
        runtime.load(cloche.Source(DOUBLE), "Double")
    with pytest.raises(cloche.ClosedError):
        node.process(1)
