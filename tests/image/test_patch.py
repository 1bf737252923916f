"""Patches apply exactly or not at all: a security fix that lands in the wrong place is worse than none."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild import patch

DIFF = """From: somebody
--- a/Lib/x.py\t2025-01-01
+++ b/Lib/x.py\t2025-01-02
@@ -2,3 +2,4 @@ def f():
 two
-three
+three!
+and a half
 four
--- a/Doc/x.rst
+++ b/Doc/x.rst
@@ -1 +1 @@
-old
+new
"""


def tree(tmp_path: Path, lines: str) -> Path:
    (tmp_path / "Lib").mkdir()
    (tmp_path / "Lib/x.py").write_text(lines, "utf-8")
    return tmp_path


def code_only(name: str) -> bool:
    return name.startswith("Lib/")


@pytest.mark.parametrize("above", ["one\n", "zero\nhalf\nmore\none\n", ""], ids=["in place", "moved down", "moved up"])
def test_a_hunk_is_found_by_its_context(tmp_path: Path, above: str) -> None:
    """Earlier patches shift lines; the context decides."""
    where = tree(tmp_path, f"{above}two\nthree\nfour\nfive\n")
    assert patch.apply(DIFF, where, code_only) == ["Lib/x.py"]
    assert (where / "Lib/x.py").read_text() == f"{above}two\nthree!\nand a half\nfour\nfive\n"


def test_a_hunk_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """No fuzz: a changed context line means that somebody has to look."""
    where = tree(tmp_path, "one\ntwo\nTHREE\nfour\n")
    with pytest.raises(patch.PatchError, match=r"Lib/x\.py: the hunk for line 2"):
        patch.apply(DIFF, where, code_only)


def test_a_new_file_is_made(tmp_path: Path) -> None:
    """Patches add files too."""
    patch.apply("--- /dev/null\n+++ b/Lib/new.py\n@@ -0,0 +1,2 @@\n+a\n+b\n", tmp_path)
    assert (tmp_path / "Lib/new.py").read_text() == "a\nb\n"


def test_two_hunks_of_one_file_keep_their_distance(tmp_path: Path) -> None:
    """The second looks for its place from where the first has moved it: equal blocks are not mixed up."""
    where = tree(tmp_path, "a\nx\n" + "-\n" * 5 + "a\nx\n")
    diff = "--- a/Lib/x.py\n+++ b/Lib/x.py\n@@ -1,2 +1,3 @@\n a\n+1\n x\n@@ -8,2 +9,3 @@\n a\n+2\n x\n"
    patch.apply(diff, where)
    assert (where / "Lib/x.py").read_text() == "a\n1\nx\n" + "-\n" * 5 + "a\n2\nx\n"
