"""Pages that need packages of others: each runs from the wheel, in an environment with nothing but what the page names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from . import recipes
from .blocks import requirements
from .test_pages import PAGES, TREE

RECIPES = [page for page in PAGES if requirements((TREE / page).read_text("utf-8"))]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The wheel, built once for all processes of the run."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    return recipes.built_wheel(shared / "recipes-wheel")


@pytest.mark.thorough
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("version", recipes.versions())
@pytest.mark.parametrize("page", RECIPES)
def test_the_recipe_runs_from_a_wheel(page: str, version: str, wheel: Path, tmp_path: Path) -> None:
    """On the oldest and on the newest Python. The versions of the packages are those that the page names."""
    try:
        recipes.interpreter(version)
    except LookupError as error:
        pytest.skip(f"Python {version} cannot be had: {error}")
    (tmp_path / "examples").symlink_to(TREE / "examples")
    needs = requirements((TREE / page).read_text("utf-8"))
    with recipes.environment(version, needs, wheel) as python:
        done = subprocess.run(
            [python, Path(__file__).with_name("run_page.py"), TREE / page],
            cwd=tmp_path, env=recipes.variables(python, tmp_path), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("version", recipes.versions())
def test_the_tests_of_tables_pass_where_their_libraries_are(version: str, wheel: Path, tmp_path: Path) -> None:
    """They are skipped elsewhere: the libraries are large, and nothing else of Cloche's needs them."""
    try:
        recipes.interpreter(version)
    except LookupError as error:
        pytest.skip(f"Python {version} cannot be had: {error}")
    needs = [*requirements((TREE / "docs/how-to/tables.md").read_text("utf-8")), "pytest==9.2.0"]
    command = ["-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", TREE, "--noconftest", "-p", "no:cacheprovider"]
    with recipes.environment(version, needs, wheel) as python:
        done = subprocess.run(
            [python, *command, TREE / "tests/frames"],
            cwd=tmp_path, env=recipes.variables(python, tmp_path), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", RECIPES)
def test_a_recipe_names_exact_versions(page: str) -> None:
    """A page that ran with other versions than a reader gets would promise too much."""
    for line in requirements((TREE / page).read_text("utf-8")):
        assert "==" in line, line


def test_what_is_missing_is_named() -> None:
    assert recipes.missing(["pytest==9", "no-such-package[extra]==1"]) == ["no-such-package"]
