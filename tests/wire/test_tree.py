"""Trees: what is packed is found again, and what cannot be shown as files is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche_wire import tree

NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def stored(content: bytes) -> tree.File:
    return tree.File(content, len(content))


def are_possible(paths: list[str]) -> bool:
    """Whether no path leads through a file."""
    return not any(other.startswith(path + "/") for path in paths for other in paths)


@given(st.dictionaries(PATHS, st.binary(max_size=50), max_size=8).filter(lambda found: are_possible(list(found))))
def test_what_is_packed_is_found_again(contents: dict[str, bytes]) -> None:
    """Compressed or not."""
    packed = {path: tree.deflated(content * 9) for path, content in contents.items()}
    block = tree.pack(packed)
    assert tree.is_tree(block)
    assert {path: file.content() for path, file in tree.files(block).items()} == {
        path: content * 9 for path, content in contents.items()
    }


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "n" * 256, "/".join(["nn"] * 1200)]
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    """A tree is written into a real folder by `LocalGuest`: no path leads out of it."""
    with pytest.raises(ValueError, match="path"):
        tree.pack({path: stored(b"")})


def test_a_file_is_no_folder() -> None:
    """Whichever comes first."""
    with pytest.raises(ValueError, match="'a' is a file and a folder"):
        tree.pack({"a/b": stored(b""), "a": stored(b"")})


def test_too_many_files() -> None:
    """Folders count."""
    with pytest.raises(ValueError, match="65537 files and folders, 65536 at most"):
        tree.pack({f"f/{number}": stored(b"") for number in range(tree.MAX_ENTRIES)})


def test_a_size_that_is_a_lie_is_found() -> None:
    """No more than one byte beyond it is decompressed."""
    bomb = tree.deflated(bytes(10_000_000))
    for size in (0, 1, 9_999_999, 10_000_001):
        with pytest.raises(ValueError, match="damaged"):
            tree.File(bomb.data, size, tree.DEFLATED).content()


def test_damage_is_found() -> None:
    """If the file has a checksum, or cannot be decompressed."""
    for file in (tree.File(b"abc", 3, tree.STORED, 1), tree.File(b"\xff" * 9, 3, tree.DEFLATED)):
        with pytest.raises(ValueError, match="damaged"):
            file.content()


@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_no_tree(data: bytes, begin: bool) -> None:
    """A ValueError, and nothing else."""
    data = tree.MAGIC + data if begin else data
    try:
        found = tree.files(data)
    except ValueError:
        return
    assert found == {}


def test_modules_are_named_as_python_imports_them() -> None:
    """A package comes before a module of its name, in whatever order the files are."""
    paths = [
        "a.py",
        "a/__init__.py",
        "a/b.py",
        "a/c/__init__.py",
        "a/c.py",
        "d/e.py",
        "f.g.py",
        "a/data.txt",
        "h.pyc",
        "my-node.py",
    ]
    expected = {
        "a": "a/__init__.py", "a.b": "a/b.py", "a.c": "a/c/__init__.py", "d.e": "d/e.py", "my-node": "my-node.py",
    }  # fmt: skip
    assert tree.modules(paths) == tree.modules(reversed(paths)) == expected
