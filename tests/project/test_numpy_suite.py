"""numpy's own tests in the image: some in each run, all of them with --all. What may fail is in tools/numpy_tests.py, with its reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.loading import module_at

TREE = Path(__file__).parents[2]
TOOL = TREE / "tools" / "numpy_tests.py"
PAGE = (TREE / "docs/reference/limitations.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return module_at(TOOL, "tool_for_numpy")


def _run(*paths: str) -> None:
    done = subprocess.run(
        [sys.executable, "-u", TOOL, *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.image
def test_some_of_them():
    """Floating-point errors, records, pickles of them. Some five seconds of processor time: the tests are unpacked, and pytest is loaded."""
    _run("_core/tests/test_errstate.py", "_core/tests/test_records.py", "matrixlib/tests/test_multiarray.py")


@pytest.mark.image
@pytest.mark.thorough
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "folder", ["_core", "lib", "ma", "random", "polynomial", "linalg", "fft", "matrixlib", "testing", "tests"]
)
def test_all_of_them(folder: str):
    """All tests of a folder, and as many pass, and are left out, as the tool says."""
    _run(folder)


def test_the_folders_are_those_of_the_tool(tool: ModuleType):
    (mark,) = (mark for mark in test_all_of_them.pytestmark if mark.name == "parametrize")
    assert sorted(mark.args[1]) == sorted(tool.PARTS) == sorted(tool.COUNTS)


def test_what_fails_is_compared_with_the_list(tool: ModuleType):
    """A new failure, a listed test that passes, and a name that no test has are all wrong."""
    path = "random/tests/test_random.py"
    result = tool.Result()
    result.add(
        path, {"TestThread::test_exp": ("failed", "no threads"), "test_a": ("passed", ""), "test_b": ("skipped", "")}
    )
    assert result.wrong == [] and result.counts == {"left out": 1, "passed": 1, "skipped": 1}
    result.add(path, {"test_a": ("failed", "a reason"), "TestThread::test_exp": ("passed", "")})
    assert [line.split("\n")[0] for line in result.wrong] == [
        f"{path}::test_a fails:",
        f"{path}::TestThread::test_exp passes, and LEFT_OUT has it: starts threads",
    ]
    result = tool.Result()
    result.add(path, {"test_a": ("passed", "")})
    assert result.wrong == [f"{path}::TestThread::* is in LEFT_OUT, and no test has this name"]
    result = tool.Result()
    result.add(path, {"test_a": ("passed", "")}, whole=False)
    assert result.wrong == []


def test_a_test_that_uses_a_missing_module_is_counted_apart(tool: ModuleType):
    result = tool.Result()
    result.add("ma/tests/test_core.py", {"test_a": ("skipped", f"uses x.y, {tool.LACKS}")})
    assert result.counts == {"needs a C module": 1}


def test_the_page_tells_the_counts(tool: ModuleType):
    """Of each folder, and of all together."""
    rows = {
        name: [int(cell) for cell in cells.split("|")]
        for name, cells in re.findall(r"^ *\| `(\w+)` \| ([\d |]+) \|$", PAGE, re.MULTILINE)
    }
    kinds = ["passed", "skipped", "needs a C module", "left out"]
    assert rows == {
        folder: [sum(counts.values()), *(counts.get(kind, 0) for kind in kinds)]
        for folder, counts in tool.COUNTS.items()
    }
    passed = sum(counts["passed"] for counts in tool.COUNTS.values())
    total = sum(sum(counts.values()) for counts in tool.COUNTS.values())
    assert f"{total} tests, {passed} pass" in " ".join(PAGE.split())
