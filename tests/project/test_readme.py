"""The README is run: its library example prints what it says, and its commands and links exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
README = (TREE / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_library_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """In a fresh interpreter and an empty folder, as a newcomer would try it."""
    (example,) = blocks("python")
    shown = blocks("text")[0]
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    lines = done.stdout.splitlines(keepends=True)
    assert (done.returncode, "".join(line for line in lines if "[info" not in line)) == (0, shown), done.stderr
    assert ["seen 3" in line for line in lines if "[info" in line] == [True, False, False]


def test_the_library_example_stays_short() -> None:
    """What a newcomer reads first fits on half a screen: fifteen lines of host code and the node's own."""
    (example,) = blocks("python")
    node = re.search(r'"""\n(.*?)"""', example, re.DOTALL)
    assert node
    assert len(example.splitlines()) - len(node[1].splitlines()) <= 15


@pytest.mark.parametrize("command", sorted(set(re.findall(r"scripts/\w+", README))))
def test_commands_exist(command: str) -> None:
    """Each can be run as it stands."""
    assert (TREE / command).stat().st_mode & 0o111


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (TREE / target).exists()


@pytest.mark.parametrize("picture", sorted(set(re.findall(r'(?:src|srcset)="([^"]+)"', README))))
def test_pictures_are_there_and_small(picture: str) -> None:
    """One for each colour scheme: scripts/bench --publish draws them."""
    assert picture.startswith("docs/figures/")
    assert 1000 < (TREE / picture).stat().st_size < 150_000


def test_ci_runs_the_command_that_the_readme_names() -> None:
    """A newcomer and CI do the same."""
    assert "scripts/test" in (TREE / ".ci" / "run").read_text().split()
    assert re.search(r"^scripts/test\b", README, re.MULTILINE)
