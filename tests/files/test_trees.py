"""Trees in the guest's C code: the same as a read-only folder of the host, and never harmed by a hostile block."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche_wire import tree

from .conftest import CREATE, DIRECTORY, EXCLUSIVE, READ, ROOT, TRUNCATE, WRITE

FILES = {
    "pkg/__init__.py": b"x = 1\n", "pkg/a.py": b"y" * 5000, "pkg/sub/d/e/f.txt": b"deep", "pkg-2.dist-info/METADATA": b"m",
    "pkg.x/x": b"", "pkg0": b"0", "z": bytes(100_000),
}  # fmt: skip
ENOENT, ENOTDIR, EROFS, EEXIST, EISDIR, EXDEV, EBADF, EIO = 44, 54, 69, 20, 31, 75, 8, 29


@pytest.fixture
def shown(files: Any) -> Any:
    """A package with `FILES`."""
    files.tree(b"packages/w.whl", tree.pack({path: tree.deflated(data) for path, data in FILES.items()}))
    return files


def listing(files: Any, path: bytes) -> list[bytes]:
    fd, names, cookie = files.open(ROOT, path, READ | DIRECTORY), [], 0
    while (entry := files.next(fd, cookie)) is not None:
        names.append(entry[0])
        cookie = entry[2]
    files.close(fd)
    return names


def content(files: Any, path: bytes) -> bytes:
    fd = files.open(ROOT, path, READ)
    try:
        return files.read(fd, 1 << 20)
    finally:
        files.close(fd)


def refused(function: Any, *arguments: Any) -> int | None:
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return None


def test_files_and_folders(shown: Any) -> None:
    """Found, listed and read, from the root on."""
    assert listing(shown, b"/") == [b"packages"]
    assert listing(shown, b"/packages") == [b"w.whl"]
    assert listing(shown, b"/packages/w.whl") == [b"pkg", b"pkg-2.dist-info", b"pkg.x", b"pkg0", b"z"]
    assert listing(shown, b"/packages/w.whl/pkg") == [b"__init__.py", b"a.py", b"sub"]
    for path, data in FILES.items():
        assert content(shown, b"/packages/w.whl/" + path.encode()) == data
    assert shown.find(ROOT, b"/packages/w.whl/pkg/../z")[1] == 100_000


def test_several_trees(shown: Any) -> None:
    """Side by side, with /tmp and with what the host has."""
    shown.scratch(1 << 16)
    shown.tree(b"node", tree.pack({"mine/a.py": tree.deflated(b"")}))
    shown.tree(b"packages/other", tree.pack({}))
    assert listing(shown, b"/") == [b"tmp", b"packages", b"node"]
    assert listing(shown, b"/packages") == [b"w.whl", b"other"]
    assert listing(shown, b"/packages/other") == []
    assert listing(shown, b"/node") == [b"mine"]
    assert shown.find(ROOT, b"/node/mine")[2] != shown.find(ROOT, b"/node")[2]


@pytest.mark.parametrize("point", [b"packages/w.whl", b"packages", b"packages/w.whl/pkg", b""])
def test_a_place_that_is_taken(shown: Any, point: bytes) -> None:
    """No tree hides another."""
    assert refused(shown.tree, point, tree.pack({})) == EEXIST


W = b"/packages/w.whl/"
CHANGES = [
    ("open", (ROOT, W + b"z", WRITE), EROFS),
    ("open", (ROOT, W + b"z", READ | TRUNCATE), EROFS),
    ("open", (ROOT, W + b"new", WRITE | CREATE), EROFS),
    ("open", (ROOT, W + b"no/new", WRITE | CREATE), ENOENT),
    ("open", (ROOT, W + b"z/new", WRITE | CREATE), ENOTDIR),
    ("open", (ROOT, W + b"z", WRITE | CREATE | EXCLUSIVE), EEXIST),
    ("open", (ROOT, W + b"pkg", WRITE), EISDIR),
    ("open", (ROOT, W + b"z", READ | DIRECTORY), ENOTDIR),
    ("open", (ROOT, W + b"nope", READ), ENOENT),
    ("open", (ROOT, W + b"z/x", READ), ENOTDIR),
    ("open", (ROOT, b"/packages/new", WRITE | CREATE), EROFS),
    ("mkdir", (ROOT, W + b"new"), EROFS),
    ("mkdir", (ROOT, W + b"pkg"), EEXIST),
    ("mkdir", (ROOT, b"/packages"), EEXIST),
    ("mkdir", (ROOT, W + b"no/new"), ENOENT),
    ("unlink", (ROOT, W + b"z"), EROFS),
    ("rmdir", (ROOT, W + b"pkg"), EROFS),
    ("rmdir", (ROOT, b"/packages/w.whl"), EROFS),
    ("rename", (ROOT, W + b"z", ROOT, W + b"y"), EROFS),
    ("rename", (ROOT, W + b"z", ROOT, b"/tmp/y"), EXDEV),
    ("rename", (ROOT, b"/tmp", ROOT, W + b"y"), EXDEV),
    ("change", (ROOT, W + b"z", 1), EROFS),
    ("change", (ROOT, W + b"nope", 1), ENOENT),
]


@pytest.mark.parametrize(("name", "operands", "error"), CHANGES, ids=lambda value: str(value))
def test_nothing_can_be_changed(shown: Any, name: str, operands: tuple[Any, ...], error: int) -> None:
    """With the errors that Linux has for a file system that is mounted read-only."""
    shown.scratch(1 << 16)
    assert refused(getattr(shown, name), *operands) == error


def test_an_open_file_cannot_be_written(shown: Any) -> None:
    """Positions may be anything; nothing is read beyond the end."""
    fd = shown.open(ROOT, W + b"pkg/a.py", READ)
    assert refused(shown.write, fd, b"x") == EBADF
    assert refused(shown.resize, fd, 0) == 28
    for at in (4999, 5000, 1 << 31, (1 << 63) - 1):
        assert shown.read(fd, 10, at) == b"y" * max(0, 5000 - at)
    assert shown.seek(fd, -1, 2) == 4999
    assert shown.read(fd, 10) == b"y"
    other = shown.dup(fd)
    shown.close(fd)
    assert shown.read(other, 3, 0) == b"yyy"
    shown.close(other)


def test_damage_is_an_error_of_the_device(files: Any) -> None:
    """A checksum that does not fit, a stream that is too short, too long or none."""
    good = tree.deflated(b"abc" * 100)
    bad = {
        "check": tree.File(b"abc", 3, tree.STORED, 1),
        "short": tree.File(good.data, 301, tree.DEFLATED),
        "long": tree.File(good.data, 299, tree.DEFLATED),
        "none": tree.File(b"\xff" * 20, 300, tree.DEFLATED),
        "empty": tree.File(b"", 300, tree.DEFLATED),
        "huge": tree.File(good.data, tree.MAX_BYTES, tree.DEFLATED),
    }
    files.tree(b"node", tree.pack(bad))
    for name in bad:
        assert refused(content, files, b"/node/" + name.encode()) == EIO, name


NAMES = st.sampled_from(["a", "b", "a-", "a.b", "a0", "A", "é", "zz"])
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=30), max_size=12
).filter(lambda found: not any(other.startswith(path + "/") for path in found for other in found))


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_the_same_as_a_folder_of_the_host(tmp_path_factory: pytest.TempPathFactory, found: dict[str, bytes]) -> None:
    """Walked from top to bottom."""
    import shutil

    from tests.codec.native import build

    folder = tmp_path_factory.mktemp("real")
    for path, data in found.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    files = _again(tmp_path_factory, shutil, build)
    files.tree(b"node", tree.pack({path: tree.deflated(data) for path, data in found.items()}))
    for top, folders, names in os.walk(folder):
        inside = b"/node/" + os.fsencode(os.path.relpath(top, folder))
        assert sorted(listing(files, inside)) == sorted(map(os.fsencode, [*folders, *names]))
        for name in names:
            assert content(files, inside + b"/" + os.fsencode(name)) == Path(top, name).read_bytes()


_module: list[Path] = []


def _again(factory: pytest.TempPathFactory, shutil: Any, build: Any) -> Any:
    """The file code with a state of its own, for each example."""
    if not _module:
        try:
            _module.append(build.build_files())
        except build.Unavailable as reason:
            pytest.skip(f"the file code cannot be built natively: {reason}")
    copy = factory.mktemp("copy") / _module[0].name
    shutil.copy(_module[0], copy)
    return build.load_files(copy)


def test_a_hostile_block_is_refused_or_harmless(files: Any) -> None:
    """Each number of the head and of the entries set to each of some values: nothing is read outside of the block (UBSan, ASan)."""
    good = tree.pack({path: tree.deflated(data) for path, data in FILES.items() if len(data) < 1000})
    count = struct.unpack_from("<I", good, 16)[0]
    numbers = (0, 1, 3, 24, len(good) - 1, len(good), len(good) + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    for index, at in enumerate(range(16, 24 + 28 * count, 4)):
        for value in numbers:
            block = good[:at] + struct.pack("<I", value) + good[at + 4 :]
            point = b"packages/%d-%x" % (index, value)
            if refused(files.tree, point, block) is None:
                _visit(files, b"/" + point, 0)
    for cut in range(0, len(good), 7):
        assert refused(files.tree, b"packages/cut", good[:cut]) is not None


def _visit(files: Any, path: bytes, depth: int) -> None:
    for name in listing(files, path)[:20]:
        inner = path + b"/" + name
        try:
            kind = files.find(ROOT, inner)[0]
        except OSError:
            continue
        if kind == 3 and depth < 4:
            _visit(files, inner, depth + 1)
        elif kind == 4:
            refused(content, files, inner)
