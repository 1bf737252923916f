"""Paths that a page names are in the tree: a page about files that have moved sends its reader astray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .test_pages import PAGES

TREE = Path(__file__).parents[2]
ROOTS = (TREE, TREE / "runtime" / "cloche")
"""Where a path on a page may begin: `wasm/build.py`, or `_codec/codec.py` for short."""
TOPS = "runtime|guest|wasm|tests|benches|scripts|tools|examples|docs|_[a-z]+"
PATH = re.compile(rf"(?<![\w/.$<>-])(?:{TOPS})(?:/[\w.-]*\w)+/?(?![\w<*-])")
LINK = re.compile(r"\]\([^)]*\)")


def paths(page: str) -> set[str]:
    """The paths in a page's text and code; targets of links have a check of their own."""
    return {found.rstrip("/") for found in PATH.findall(LINK.sub("]", page))}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/reference/benchmarks.md"])
def test_the_paths_of_a_page_exist(page: str) -> None:
    """Benchmarks are left out: they are the record of a run, with its command as it was."""
    named = paths((TREE / page).read_text("utf-8"))
    assert sorted(path for path in named if not any((root / path).exists() for root in ROOTS)) == []


def test_a_path_is_found_wherever_it_stands() -> None:
    """Else the tests above would be worth nothing."""
    page = "In `_codec/codec.py`, wasm/shim/check.c and (tests/evil), not in [a](docs/gone.md), /srv/models or cli/_<verb>.py.\n"
    assert paths(page) == {"_codec/codec.py", "wasm/shim/check.c", "tests/evil"}
