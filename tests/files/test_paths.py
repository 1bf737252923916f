"""Paths as the guest's C code resolves them, before anybody is asked."""

from __future__ import annotations

import pytest

from cloche.mounts import Mount

from .conftest import CREATE, DIRECTORY, READ, ROOT, WRITE


@pytest.fixture
def places(files, mounted, tmp_path):
    """The same few files in /tmp and in /data."""
    files.scratch(1 << 22)
    mounted({"/data": Mount(tmp_path, writable=True)})
    for place in (b"tmp", b"data"):
        files.mkdir(ROOT, place + b"/d")
        for name in (b"/a", b"/d/b"):
            files.close(files.open(ROOT, place + name, WRITE | CREATE))
    return files


def outcome(action, *operands):
    try:
        return action(*operands)
    except OSError as error:
        return -error.errno


@pytest.mark.parametrize("place", [b"tmp", b"data"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [(b"", 3), (b"/", 3), (b"/.", 3), (b"/d", 3), (b"/d/", 3), (b"//d//b", 4), (b"/./d/./b", 4), (b"/d/../a", 4), (b"/d/../../{}/a", 4),
     (b"/../{}/d/..", 3), (b"/../../../{}/a", 4), (b"/a/", -54), (b"/a/.", -54), (b"/a/..", -54), (b"/a/../a", -54), (b"/no/../a", -44),
     (b"/d/b/../b", -54), (b"/no", -44), (b"/a/b", -54), (b"/" + b"n" * 255, -44), (b"/" + b"n" * 256, -37), (b"/x" * 2000, -44), (b"/x" * 2100, -37)],
)  # fmt: skip
def test_a_path_is_what_posix_says(places, place, path, kind):
    """Also where `..` follows what is not there, or is no folder."""
    found = outcome(places.find, ROOT, place + path.replace(b"{}", place))
    assert (found[0] if isinstance(found, tuple) else found) == kind


@pytest.mark.parametrize("place", [b"tmp", b"data"])
def test_paths_from_an_open_folder(places, place):
    """Of any depth; a file is none, nor is what is closed."""
    folder, deep = ROOT, place
    for _ in range(14):
        deep += b"/" + b"n" * 250
        places.mkdir(ROOT, deep)
    folder = places.open(ROOT, deep, READ | DIRECTORY)
    places.close(places.open(folder, b"file", WRITE | CREATE))
    assert places.find(folder, b"file")[0] == 4
    assert places.find(folder, b"../" * 14 + b"a")[0] == 4
    assert places.find(folder, b"../" * 40)[:2] == places.find(ROOT, b"/")[:2]
    file = places.open(ROOT, place + b"/a", READ)
    assert outcome(places.find, file, b"b") == -54
    places.close(folder)
    assert outcome(places.find, folder, b"file") == -8


def test_both_descriptors_of_a_file_have_one_position(places):
    """As dup(2) has it; the file is closed with the last one."""
    first = places.open(ROOT, b"tmp/a", READ | WRITE)
    second = places.dup(first)
    places.write(first, b"0123456789")
    places.seek(second, 2, 0)
    assert places.read(first, 3) == b"234"
    places.close(first)
    assert places.read(second, 3) == b"567"
    places.close(second)
    assert outcome(places.read, second, 1) == -8


def test_nobody_answers_without_a_grant(files):
    """The mount_point is empty and read-only; nothing else is there."""
    mount_point = files.open(ROOT, b"/", READ | DIRECTORY)
    assert files.next(mount_point, 0) is None
    assert outcome(files.find, ROOT, b"tmp") == outcome(files.open, ROOT, b"a", READ) == -44
    assert outcome(files.open, ROOT, b"a", WRITE | CREATE) == outcome(files.mkdir, ROOT, b"a") == -69


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff", b"\x81\xf5", b"\x82\xf5", b"\x82\xf5\xf6", b"\x82\xf4\x00", b"\x82\xf4\xf5", b"\x82\xf5\x82\x01", b"\x82\xf5\x5b" + b"\xff" * 8,
     b"\x82\xf5\x9b" + b"\xff" * 8, b"\x82\xf5\x83\x03\x1b", b"\x83\xf5\x00\x00", b"\x82\xf4\x1a\x00\x01\x00\x00"],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(files, answer):
    """The host is trusted, and all the same nothing is read beyond what it sent."""
    files.ask(lambda _: answer)
    for action in (
        lambda: files.open(ROOT, b"a", READ),
        lambda: files.find(ROOT, b"a"),
        lambda: files.rename(ROOT, b"a", ROOT, b"b") if not answer.startswith(b"\x82\xf5") else files.find(ROOT, b"a"),
    ):
        assert outcome(action) == -29
