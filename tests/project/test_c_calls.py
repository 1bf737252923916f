"""Calls between files of C go one way, so that each can be read after those that it calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import c_calls

TREE = Path(__file__).parents[2]
FREEZER = ("freezer.c", "freezer_files.c")
"""Another program than the image: it defines some of the same functions."""


@pytest.mark.parametrize("folder", ["wasm/shim", "runtime/native"])
def test_no_circle(folder: str) -> None:
    files = [path for path in sorted((TREE / folder).glob("*.c")) if path.name not in FREEZER]
    graph = c_calls.calls(files)
    assert any(graph.values()), "the functions were not found"
    assert c_calls.circle(graph) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Or else the test above would mean nothing."""
    (tmp_path / "one.c").write_text("int one(int a) {\n    return two(a); /* three() */\n}\n", encoding="utf-8")
    (tmp_path / "two.c").write_text("static int\nhelp(void);\nint two(int a) { return one(a); }\n", encoding="utf-8")
    (tmp_path / "three.c").write_text("void three(void) { one(1); }\n", encoding="utf-8")
    graph = c_calls.calls(sorted(tmp_path.glob("*.c")))
    assert graph == {"one.c": {"two.c"}, "two.c": {"one.c"}, "three.c": {"one.c"}}
    assert c_calls.circle(graph) == ["one.c", "two.c"]
