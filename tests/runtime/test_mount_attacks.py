"""A node with folders mounted that wants out of them, or more than its share. The same from inside as tests/files has from outside."""

from __future__ import annotations

import os
import socket
import threading

import pytest

import cloche
from tests.limits import patient

from .test_mounts import EXEC

pytestmark = pytest.mark.isolation("none", reason="files are opened in this process for both")

SECRET = "s3cret"


@pytest.fixture
def folder(tmp_path):
    """inside/ is mounted; around it lie secrets, and in it are the ways that might lead there."""
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "a.txt").write_text("inside")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text(SECRET)
    (inside / "passwd").symlink_to("/etc/passwd")
    (inside / "file").symlink_to(tmp_path / "secret")
    (inside / "relative").symlink_to("../secret")
    (inside / "folder").symlink_to(tmp_path / "outside")
    (inside / "harmless").symlink_to("a.txt")
    (inside / "top").symlink_to("/")
    (inside / "self").symlink_to("self")
    (inside / "dangling").symlink_to(tmp_path / "made-outside")
    os.link(tmp_path / "secret", inside / "hard")
    os.mkfifo(inside / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(inside / "socket"))
    return inside


@pytest.fixture
def node(load, folder):
    """The folder at /data, read-only, and at /w, writable."""
    mounts = {"/data": folder, "/w": cloche.Mount(folder, writable=True)}
    return load(EXEC, "f", grants=cloche.Grants(mounts=mounts, scratch_bytes=1 << 20))


def outside(folder):
    """All that is around the mounted folder."""
    around = [path for path in folder.parent.rglob("*") if folder not in path.parents]
    return sorted(
        (str(p), p.lstat().st_size, p.lstat().st_mtime_ns if p.is_file() else 0) for p in around if p != folder
    )


PATHS = [
    "{0}/passwd", "{0}/file", "{0}/relative", "{0}/folder/a.txt", "{0}/folder/../secret", "{0}/top/etc/passwd", "{0}/top/top/etc/passwd", "{0}/self",
    "{0}/harmless", "{0}/dangling", "{0}/../secret", "{0}/../../../../../../../../etc/passwd", "{0}/sub/../../secret", "{0}/sub/../../../etc/passwd",
    "{0}/./../{1}/secret", "{0}/..", "{0}//../secret", "{0}/a.txt/", "{0}/a.txt/.", "{0}/a.txt/..", "{0}/a.txt/../a.txt", "{0}/file/", "{0}/folder/",
    "{0}/folder/.", "/etc/passwd", "//etc/passwd", "../etc/passwd", "etc/passwd", "/proc/self/environ", "/proc/1/environ", "/dev/mem",
    "{0}/fifo", "{0}/socket", "{0}/\ud800", "{0}/" + "x" * 256, "{0}/" + "sub/../" * 300 + "secret", "{0}" + "/deep" * 3000, "{0}/a.txt\x00b",
]  # fmt: skip


@pytest.mark.parametrize("place", ["/data", "/w"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:40]))
def test_no_path_leads_to_a_file_outside(node, folder, place, path):
    """Neither to read nor to write nor to create, remove, move, list or look at."""
    before = outside(folder)
    code = """
import os
path, place = values
found, ways = [], [lambda: open(path, "rb").read(), lambda: open(path, "r+b").read(), lambda: open(path, "ab").write(b"x"),
    lambda: open(path, "wb").write(b"x"), lambda: open(path, "xb").write(b"x"), lambda: os.open(path, os.O_RDONLY | os.O_TRUNC),
    lambda: os.open(path, os.O_RDONLY | os.O_CREAT), lambda: os.truncate(path, 0), lambda: os.listdir(path), lambda: os.stat(path).st_size,
    lambda: os.readlink(path), lambda: os.rename(path, place + "/x"), lambda: os.rename(place + "/sub", path), lambda: os.mkdir(path + "/made"),
    lambda: os.utime(path, (1, 1)), lambda: os.open("a.txt", os.O_RDONLY, dir_fd=os.open(path, os.O_RDONLY))]
for way in ways:
    try: found.append(way())
    except (OSError, ValueError): pass
r = found
"""
    place_name = folder.name
    found = node.process(code, path.replace("{0}", place).replace("{1}", place_name), place)
    assert outside(folder) == before
    assert SECRET not in repr(found)
    assert "root:" not in repr(found)
    assert all((folder / name).is_symlink() for name in ("passwd", "file", "relative", "folder", "top"))


def test_a_hard_link_is_read_and_never_changed(node, folder):
    """The other name may be outside, as here."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("open('/w/hard', 'a')")
    assert caught.value.exc_type == "PermissionError"
    for code in (
        "open('/w/hard', 'w')",
        "open('/w/hard', 'r+')",
        "import os; os.truncate('/w/hard', 0)",
        "import os; os.utime('/w/hard')",
    ):
        with pytest.raises(cloche.NodeRaisedError):
            node.process(code)
    assert node.process("r = open('/w/hard').read()") == SECRET
    node.process("import os; os.remove('/w/hard')")
    assert (folder.parent / "secret").read_text() == SECRET


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_that_appears_while_the_guest_loops_leads_nowhere(load, folder, what):
    """A thread of the host swaps a good entry for a link to the outside, thousands of times, while the node reads and writes."""
    grants = cloche.Grants(mounts={"/w": cloche.Mount(folder, writable=True)})
    node = load(EXEC, "f", grants=grants, limits=cloche.Limits(deadline_s=100))
    target, good, bad = folder / "swapped", folder / "good", folder / "bad"
    if what == "folder":
        good.mkdir()
        (good / "a.txt").write_text("inside")
        bad.symlink_to(folder.parent / "outside")
    else:
        good.write_text("inside")
        bad.symlink_to(folder.parent / "secret")
    good.rename(target)
    done = threading.Event()
    swaps = 0

    def swap():
        nonlocal swaps
        while not done.is_set():
            for old, new in ((target, good), (bad, target), (target, bad), (good, target)):
                old.rename(new)
            swaps += 2

    before = outside(folder)
    thread = threading.Thread(target=swap)
    thread.start()
    code = """
import time
path, seen, rounds = values[0], {}, 0
end = time.monotonic() + 60
while (rounds < 1000 or len(seen) < 3 or "inside" not in seen) and time.monotonic() < end:
    rounds += 1
    for mode in ("r", "r+", "a"):
        try:
            with open(path, mode) as file:
                text = file.read() if mode != "a" else "opened"
                if mode == "a": file.write("")
        except OSError as error: text = type(error).__name__
        seen[text] = seen.get(text, 0) + 1
r = seen
"""
    try:
        seen = node.process(code, "/w/swapped/a.txt" if what == "folder" else "/w/swapped")
    finally:
        done.set()
        thread.join()
    assert swaps > 0
    assert seen["inside"] > 0
    assert set(seen) <= {
        "inside",
        "",
        "opened",
        "OSError",
        "FileNotFoundError",
        "NotADirectoryError",
        "PermissionError",
    }
    assert len(seen) > 2, "it has to be swapped while it is opened"
    assert outside(folder) == before


def test_very_many_files_are_listed_within_the_limits(load, tmp_path, thorough):
    """In pages: neither the host nor an answer ever holds them all, and the node may stop early."""
    count = 100_000 if thorough else 25_000  # more than an answer may have
    for index in range(count):
        os.close(os.open(tmp_path / f"{index:06}", os.O_CREAT | os.O_WRONLY))
    limits = patient(request_bytes=65_536, value_nodes=10_000)
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/data": tmp_path}), limits=limits)
    assert node.process("import os; r = len(set(os.listdir('/data')))") == count
    early = "import os\nwith os.scandir('/data') as found: r = len([next(found).name for _ in range(1000)])"
    assert node.process(early) == 1000


def test_what_the_node_has_open_changes_under_it(load, tmp_path):
    """Cut off, removed, replaced by a folder, its folder gone: an ordinary OSError, or an end of file."""
    for name in ("cut", "removed", "replaced"):
        (tmp_path / name).write_text("0123456789")
    (tmp_path / "sub").mkdir()
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/data": tmp_path}))
    node.process(
        "import __main__ as m, os\n"
        "m.files = [open('/data/' + name, 'rb', 0) for name in ('cut', 'removed', 'replaced')]\n"
        "m.listing = os.open('/data/sub', os.O_RDONLY)"
    )
    os.truncate(tmp_path / "cut", 2)
    (tmp_path / "removed").unlink()
    (tmp_path / "replaced").unlink()
    (tmp_path / "replaced").mkdir()
    (tmp_path / "sub").rmdir()
    code = """
import __main__ as m, os
r = [file.read() for file in m.files]
for action in (lambda: open('/data/removed'), lambda: open('/data/replaced'), lambda: os.listdir('/data/sub'), lambda: os.stat('x', dir_fd=m.listing)):
    try: r.append(action())
    except OSError as error: r.append(type(error).__name__)
"""
    assert node.process(code) == [
        b"01", b"0123456789", b"0123456789",
        "FileNotFoundError", "IsADirectoryError", "FileNotFoundError", "FileNotFoundError",
    ]  # fmt: skip


def test_a_mounted_folder_may_go_away_as_a_whole(load, tmp_path):
    """What is read then is what is there: nothing."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a").write_text("a")
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/data": inside}))
    (inside / "a").unlink()
    inside.rmdir()
    inside.symlink_to("/etc")
    with pytest.raises(cloche.NodeRaisedError, match="No such file"):
        node.process("open('/data/passwd')")
    assert node.process("import os; r = os.listdir('/data')") == []
