"""The documentation is run: every block of code works, prints what the page shows, and reaches what it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .blocks import Block, blocks, requirements
from .recipes import missing

TREE = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "examples/README.md",
    "tests/README.md",
    "wasm/README.md",
    *sorted(f"{page.relative_to(TREE)}" for page in (TREE / "docs").rglob("*.md")),
]
RUN = [
    page for page in PAGES if any(block.fate in ("python", "sh") for block in blocks((TREE / page).read_text("utf-8")))
]
MOST_NOT_RUN = 17
"""In all pages together: what needs another machine, a network or minutes. A page may show it, and says that it is not tested."""


def all_blocks() -> list[tuple[str, Block]]:
    return [(page, block) for page in PAGES for block in blocks((TREE / page).read_text("utf-8"))]


@pytest.mark.image
@pytest.mark.parametrize("page", RUN)
def test_every_block_of_the_page_runs(page: str, tmp_path: Path) -> None:
    """In an empty folder with the examples beside it, as in a clone."""
    if absent := missing(requirements((TREE / page).read_text("utf-8"))):
        pytest.skip(f"{', '.join(absent)} not installed here: scripts/test --all runs the page where they are")
    (tmp_path / "examples").symlink_to(TREE / "examples")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py"), TREE / page],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_few_blocks_are_left_alone() -> None:
    """A block that nobody runs is wrong sooner or later."""
    left = Counter(page for page, block in all_blocks() if block.fate == "not run")
    assert left.total() <= MOST_NOT_RUN, left


def test_every_block_says_its_language() -> None:
    """Else it is neither coloured nor run."""
    assert [f"{page}:{block.line}" for page, block in all_blocks() if not block.language] == []


def test_every_fence_is_a_block() -> None:
    """A fence that the tests do not recognise would be left out silently."""
    for page in PAGES:
        text = (TREE / page).read_text("utf-8")
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(text)), page


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        pytest.param("```python\nx = 1\n```\n", "python", id="python"),
        pytest.param('```python title="nodes.py"\nx = 1\n```\n', "file", id="file"),
        pytest.param("```python\n# not run: it needs a network\nx = 1\n```\n", "not run", id="not run"),
        pytest.param("```python\n# not run:\nx = 1\n```\n", "python", id="no reason given"),
        pytest.param("```sh\ncloche image info\n```\n", "sh", id="sh"),
        pytest.param("```sh\nscripts/demo  # the demo\nscripts/test\n```\n", "scripts", id="scripts"),
        pytest.param(
            "```sh\nscripts/setup && cloche image info\ncloche image info\n```\n", "sh", id="not scripts alone"
        ),
        pytest.param('```text title="Output"\n1\n```\n', "output", id="output"),
        pytest.param("```toml\na = 1\n```\n", "data", id="data"),
        pytest.param("- so:\n\n    ```python\n    x = 1\n    ```\n", "python", id="indented"),
    ],
)
def test_what_becomes_of_a_block(text: str, fate: str) -> None:
    """The rules at the top of blocks.py."""
    (block,) = blocks(f"# Page\n\n{text}")
    assert block.fate == fate


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        pytest.param("```python\n1 / 0\n```\n", "line 2, in <module>", id="raises"),
        pytest.param('```python\nprint(1)\n```\n\n```text title="Output"\n2\n```\n', "line 6: the page shows", id="prints something else"),
        pytest.param("```sh\nfalse\ntrue\n```\n", "line 2: exit code 1", id="a command fails"),
        pytest.param("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "line 6, in <module>", id="shared names"),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong_fails(page: str, fault: str, tmp_path: Path) -> None:
    """The tests above would be worth nothing if they could not fail; and they say in which line."""
    (tmp_path / "page.md").write_text(page)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py"), tmp_path / "page.md"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert fault in done.stderr


SCRIPTS = {
    line.split()[0]
    for _, block in all_blocks()
    if block.fate == "scripts"
    for line in block.text.splitlines()
    if line.startswith("scripts/")
}


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts_that_a_page_names_exist(script: str) -> None:
    """They make environments and images, so they are not run here; CI runs the README's."""
    assert (TREE / script).stat().st_mode & 0o111
