"""The README's commands, links and pictures exist, and its example stays short. tests/docs runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
README = (TREE / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Those of docs/ are checked by scripts/docs."""
    targets = re.findall(r"\]\(((?!http)[^)#]+)", (TREE / page).read_text("utf-8"))
    assert [target for target in targets if not (TREE / target).exists()] == []


def test_the_screen_comes_before_the_first_detail() -> None:
    """A newcomer sees what comes out before anything about how."""
    assert README.index("```text\n$ scripts/demo") < README.index("\n## ")


@pytest.mark.parametrize("picture", sorted(set(re.findall(r'(?:src|srcset)="([^"]+)"', README))))
def test_pictures_are_there_and_small(picture: str) -> None:
    """One for each colour scheme: scripts/bench --publish draws them."""
    assert picture.startswith("docs/figures/")
    assert 1000 < (TREE / picture).stat().st_size < 150_000


def test_ci_runs_the_command_that_the_readme_names() -> None:
    """A newcomer and CI do the same."""
    assert "scripts/test" in (TREE / ".ci" / "run").read_text().split()
    assert re.search(r"^scripts/test\b", README, re.MULTILINE)


def test_ci_runs_every_check_that_contributors_are_told_of() -> None:
    """Else it would rot between two people who look at it."""
    assert {"scripts/check", "scripts/docs", "scripts/audit"} <= set((TREE / ".ci" / "run").read_text().split())
