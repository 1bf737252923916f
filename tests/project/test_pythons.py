"""The versions of Python: what is claimed is what is tested, and a version that cannot be had is said."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.loading import module_at

TREE = Path(__file__).parents[2]
OWN = "{}.{}".format(*sys.version_info)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/test_pythons.py as a module."""
    return module_at(TREE / "tools" / "test_pythons.py", "tool_for_pythons")


def test_what_is_claimed_is_tested(tool: ModuleType) -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    claimed = [
        line.rpartition(" ")[2]
        for line in project["classifiers"]
        if line.startswith("Programming Language :: Python :: 3.")
    ]
    assert tuple(claimed) == tool.VERSIONS
    assert project["requires-python"] == f">={tool.VERSIONS[0]}"
    assert f"Python {tool.VERSIONS[0]} to {tool.VERSIONS[-1]}" in (TREE / "README.md").read_text()


def test_the_quick_tests_are_there(tool: ModuleType) -> None:
    """A renamed file would be an error of pytest, on CI's second version alone."""
    assert [path for path in tool.QUICK if not (TREE / path).exists()] == []


def test_an_interpreter_is_asked_before_it_is_believed(tool: ModuleType, tmp_path: Path) -> None:
    """pyenv has a shim for every version on the PATH, which fails for those that are not chosen."""
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert tool.asked(shim, OWN) == ""
    assert tool.asked(tmp_path / "nothing", OWN) == ""
    assert tool.asked(sys.executable, "3.99") == ""
    assert tool.asked(sys.executable, OWN) == sys.version.split()[0]
    path, full, _ = tool.interpreter(OWN)
    assert (tool.asked(path, OWN), full) == (full, full)


@pytest.mark.parametrize(
    ("outcomes", "lenient", "code"),
    [
        ({"3.12": "passed"}, False, 0),
        ({"3.12": "passed", "3.13": "failed, exit code 1"}, False, 1),
        ({"3.12": "failed", "3.13": "not had: why"}, True, 1),
        ({"3.12": "passed", "3.13": "not had: why"}, False, 2),
        ({"3.12": "passed", "3.13": "not had: why"}, True, 0),
        ({"3.12": "not had: why"}, True, 2),
    ],
)
def test_the_exit_code(
    tool: ModuleType, capsys: pytest.CaptureFixture[str], outcomes: dict[str, str], lenient: bool, code: int
) -> None:
    """No version is missing without a word."""
    assert tool.summary(outcomes, lenient=lenient) == code
    assert [
        f"== Python {version}: {outcome}" for version, outcome in outcomes.items()
    ] == capsys.readouterr().err.splitlines()


def test_a_version_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TREE / "tools" / "test_pythons.py", "--python", "3.99"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "CLOCHE_CACHE": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "== Python 3.99: not had: it is neither on the PATH nor in pyenv, and apt-get, which could fetch it, is missing\n"
    )
