"""The table of packages: its tasks run, its page says what it found, and a difference from native CPython shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benches.packages import run
from benches.packages.task import TASKS, Task
from tests.wheels import metadata, write_wheel

TREE = Path(__file__).parents[2]
PAGE = (TREE / "docs" / "reference" / "packages.md").read_text()


def wheel(folder: Path, name: str, text: str) -> None:
    """Keep a wheel where `run.fetch` finds it, as if it had been downloaded."""
    target = folder / name
    target.mkdir(parents=True)
    write_wheel(target / f"{name}-1.5-py3-none-any.whl", {f"{name}/__init__.py": text} | metadata(name, "1.5"))
    (target / "done").touch()


@pytest.mark.parametrize(
    ("text", "works", "note"),
    [
        ("value = [1, 'x']", True, ""),
        ("import sys; value = sys.platform", False, "native gives 'linux'"),
        ("import tkinter_that_is_not", False, "tkinter_that_is_not"),
    ],
    ids=["same", "differs", "fails"],
)
def test_a_task_runs_natively_and_in_a_node(tmp_path, text, works, note):
    """With the real image, and a wheel of our own instead of one from the index."""
    wheel(tmp_path, "apackage", text)
    result = run.run(
        Task(
            "apackage", "def task():\n    import apackage\n    return apackage.value\ndef process(_): return task()\n"
        ),
        tmp_path,
    )
    assert (result.works, result.version) == (works, "1.5")
    assert note in result.note
    if works:
        assert result.first_s is not None
        assert result.again_s is not None


def test_the_page_has_every_task():
    """Whoever adds a task runs scripts/packages."""
    rows = re.findall(r"^\| ([^|]+?) \| [^|]* \| (yes|no) \|", PAGE, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(TASKS)
    works = sum(word == "yes" for _, word in rows)
    assert works >= 0.95 * len(rows), "the promise: at least 95 % work"
    assert f"{works} of {len(rows)} work" in PAGE


def test_the_page_of_results():
    """What a cell must not break."""
    text = run.page([run.Result("b", "1", False, None, None, "a | b < c"), run.Result("A", "2", True, 0.5, 0.25, "")])
    assert "| A | 2 | yes | 0.50 | 0.25 |  |\n| b | 1 | no |  |  | a \\| b &lt; c |" in text
    assert "1 of 2 work (50 %)" in text
