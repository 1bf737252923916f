"""The host's handler for files under attack: requests that no honest guest would send, and a folder that changes under it."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from cloche import Limits
from cloche._files.handler import MAX_OPEN, FileHandler
from cloche._requests.router import RequestRefused
from cloche.mounts import Mount
from cloche_wire import Ask
from cloche_wire.files import CHUNK_BYTES, ERRNOS, Kind, Open

NAMES = {number: name for name, number in ERRNOS.items()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"inside")
    (tmp_path / "out" / "a").write_bytes(b"outside")
    return tmp_path / "in"


@pytest.fixture
def handler(folder):
    made = FileHandler({"/r": Mount(folder), "/w": Mount(folder, writable=True), "/x/y": Mount(folder)}, Limits())
    yield made
    made.close()


def ask(handler: FileHandler, what: Ask, *operands: Any) -> Any:
    """What the handler answers, or the name of its refusal."""
    try:
        return handler.operations[what]([int(o) if isinstance(o, Open) else o for o in operands])
    except RequestRefused as refused:
        return NAMES[refused.failure]


OPERATIONS = {
    Ask.OPEN: (b"r/a", 1), Ask.CLOSE: (1,), Ask.READ: (1, 0, 1), Ask.WRITE: (1, b"x", 0), Ask.STATUS: (b"r/a",), Ask.LIST: (1, 0), Ask.MKDIR: (b"w/d",),
    Ask.UNLINK: (b"w/d",), Ask.RMDIR: (b"w/d",), Ask.RENAME: (b"w/a", b"w/b"), Ask.RESIZE: (1, 0), Ask.TOUCH: (b"w/d", 0),
}  # fmt: skip
WRONG = [None, True, "r/a", -1, 1 << 63, 1 << 200, 1.0, [], {}, [b"r/a"], (1,), float("nan"), object]


def test_every_question_is_answered(handler):
    """The handler knows all file operations and no other."""
    assert set(handler.operations) == {question for question in Ask if question >= Ask.OPEN}
    assert set(OPERATIONS) == set(handler.operations)


@pytest.mark.parametrize("what", OPERATIONS, ids=lambda what: what.name)
def test_operands_of_a_wrong_type_or_number_are_refused(handler, what):
    """Each operand in turn; also too few and too many."""
    right = OPERATIONS[what]
    for index in range(len(right)):
        for wrong in [*WRONG, b"x" if type(right[index]) is int and what is not Ask.TOUCH else b"\0"]:
            if what is Ask.STATUS and type(wrong) is bytes:
                continue
            assert ask(handler, what, *right[:index], wrong, *right[index + 1 :]) in ("EINVAL", "EBADF", "ENOENT"), (
                wrong
            )
    assert ask(handler, what, *right, *right) == "EINVAL"
    assert ask(handler, what) == "EINVAL"


PATHS = {
    "..": "EINVAL", "r/..": "EINVAL", "r/../r/a": "EINVAL", "../r/a": "EINVAL", "r/./a": "EINVAL", ".": "EINVAL", "/r/a": "EINVAL", "r//a": "EINVAL",
    "r/a/": "EINVAL", "/": "EINVAL", "r/": "EINVAL", "r/a\0": "EINVAL", "r\0/a": "EINVAL", "\0": "EINVAL", "r/" + "x" * 256: "ENAMETOOLONG",
    "r" + "/d" * 2100: "ENAMETOOLONG", "r" + "/d" * 2000: "ENOENT", "x": "EISDIR", "x/z": "ENOENT", "rr/a": "ENOENT", "r/a/b": "ENOTDIR",
    "etc/passwd": "ENOENT", "r/\n": "ENOENT", "r/\udcff": "ENOENT", "r/~": "ENOENT", "r/*": "ENOENT",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:20]))
@pytest.mark.parametrize("what", [Ask.STATUS, Ask.OPEN, Ask.UNLINK, Ask.MKDIR, Ask.RENAME], ids=lambda what: what.name)
def test_a_path_that_the_guests_code_would_not_send_is_refused(handler, folder, path, what):
    """The guest cleans its paths, but the guest may be anybody."""
    before = sorted(os.walk(folder.parent))
    raw = os.fsencode(path)
    wanted = PATHS[path]
    if what is not Ask.STATUS and wanted != "ENOENT":
        raw = raw.replace(b"r", b"w", 1)  # where it would be written
    operands = {Ask.OPEN: (raw, Open.WRITE | Open.CREATE | Open.TRUNCATE), Ask.RENAME: (raw, b"w/c")}.get(what, (raw,))
    refused = ask(handler, what, *operands)
    if wanted == "EISDIR":
        assert refused == {Ask.STATUS: [Kind.DIRECTORY, 0, 0], Ask.OPEN: "EISDIR"}.get(what, "EROFS")
    elif wanted == "ENOENT" and what is not Ask.STATUS:
        assert refused in ("ENOENT", "EROFS")
    else:
        assert refused == wanted
    assert sorted(os.walk(folder.parent)) == before


def test_numbers_of_what_is_open_are_the_instances_own(handler, folder):
    """Closed ones, guessed ones, and those of another instance or an earlier life are EBADF."""
    handle, kind = ask(handler, Ask.OPEN, b"r/a", Open.READ)
    assert (kind, ask(handler, Ask.READ, handle, 0, 100)) == (Kind.FILE, b"inside")
    other = FileHandler({"/r": Mount(folder)}, Limits())
    try:
        theirs, _ = ask(other, Ask.OPEN, b"r/a", Open.READ)
        wrong = [theirs, 0, 3, handle + 1, handle - 1, (1 << 63) - 1]
        for number in wrong:
            assert ask(handler, Ask.READ, number, 0, 1) == "EBADF"
            assert ask(handler, Ask.CLOSE, number) == "EBADF"
        assert ask(handler, Ask.CLOSE, handle) is None
        for what in (Ask.READ, Ask.WRITE, Ask.LIST, Ask.STATUS, Ask.RESIZE, Ask.TOUCH, Ask.CLOSE):
            operands = {Ask.READ: (0, 1), Ask.WRITE: (b"x", 0), Ask.LIST: (1,), Ask.RESIZE: (0,), Ask.TOUCH: (1,)}
            assert ask(handler, what, handle, *operands.get(what, ())) == "EBADF"
    finally:
        other.close()


def test_a_read_has_a_bound(handler, folder):
    """Whatever the guest asks for, the host holds one piece of it."""
    with open(folder / "huge", "wb") as file:
        file.truncate(1 << 40)
    handle, _ = ask(handler, Ask.OPEN, b"r/huge", Open.READ)
    assert len(ask(handler, Ask.READ, handle, 0, (1 << 63) - 1)) == CHUNK_BYTES
    assert ask(handler, Ask.READ, handle, (1 << 63) - 1, 10) in (b"", "EINVAL")
    assert ask(handler, Ask.STATUS, handle)[1] == 1 << 40


def test_what_was_opened_to_read_is_not_written(handler, folder):
    """Nor the reverse; nor a folder as a file."""
    handle, _ = ask(handler, Ask.OPEN, b"w/a", Open.READ)
    assert [ask(handler, Ask.WRITE, handle, b"x", 0), ask(handler, Ask.RESIZE, handle, 0)] == ["EBADF", "EBADF"]
    handle, _ = ask(handler, Ask.OPEN, b"w/a", Open.WRITE)
    assert ask(handler, Ask.READ, handle, 0, 1) == "EBADF"
    handle, kind = ask(handler, Ask.OPEN, b"w", Open.READ)
    assert kind == Kind.DIRECTORY
    assert [ask(handler, Ask.READ, handle, 0, 1), ask(handler, Ask.WRITE, handle, b"x", 0)] == ["EISDIR", "EISDIR"]
    assert (folder / "a").read_bytes() == b"inside"


@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 1])
def test_holes_count_for_the_quota(handler, folder, size):
    """A file that grows by being cut long, or written far out, takes no disk yet, but it will."""
    handle, _ = ask(handler, Ask.OPEN, b"w/new", Open.WRITE | Open.CREATE)
    assert ask(handler, Ask.RESIZE, handle, size) == "EDQUOT"
    assert ask(handler, Ask.WRITE, handle, b"x", size) in ("EDQUOT", "EFBIG")
    assert (folder / "new").stat().st_size == 0


def test_open_files_are_bounded(handler):
    """Also those that listings hold, and closing makes room."""
    opened = [ask(handler, Ask.OPEN, b"r", Open.READ)[0] for _ in range(MAX_OPEN)]
    assert [ask(handler, Ask.LIST, handle, 0) != [] for handle in opened] == [True] * MAX_OPEN
    for path in (b"r/a", b"w/new", b"", b"x"):
        assert ask(handler, Ask.OPEN, path, Open.READ | Open.CREATE) == "EMFILE"
    ask(handler, Ask.CLOSE, opened[0])
    assert ask(handler, Ask.OPEN, b"r/a", Open.READ)[1] == Kind.FILE


def test_a_folder_of_many_files_is_listed_in_pages(handler, folder):
    """The host holds none of it."""
    (folder / "many").mkdir()
    for index in range(5000):
        os.close(os.open(folder / "many" / f"{index:05}", os.O_CREAT | os.O_WRONLY))
    handle, _ = ask(handler, Ask.OPEN, b"r/many", Open.READ)
    pages = list(iter(lambda: ask(handler, Ask.LIST, handle, 0), []))
    assert max(map(len, pages)) <= 512
    assert sorted(name for page in pages for name in page[::2]) == [b"%05d" % index for index in range(5000)]
    assert ask(handler, Ask.LIST, handle, 0) == []
    assert ask(handler, Ask.LIST, handle, 1) == pages[0]


def test_a_pipe_does_not_hang_the_host(handler, folder):
    """Opening one to read waits for a writer, as a rule."""
    os.mkfifo(folder / "pipe")
    assert ask(handler, Ask.STATUS, b"r/pipe")[0] == Kind.OTHER
    for flags in (Open.READ, Open.WRITE, Open.READ | Open.WRITE, Open.WRITE | Open.CREATE | Open.TRUNCATE):
        assert ask(handler, Ask.OPEN, b"w/pipe", flags) == "EACCES"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_desk_leaves_no_descriptor(folder):
    """RequestRefused operations included."""
    before = descriptors()
    handler = FileHandler({"/w": Mount(folder, writable=True)}, Limits())
    (folder / "link").symlink_to("a")
    os.link(folder / "a", folder / "hard")
    (folder / "d" / "e").mkdir(parents=True)
    for path in (b"w/link", b"w/hard", b"w/d", b"w/d/e/f", b"w/missing/x", b"w/a/x", b"w/link/x", b"w", b"none"):
        for flags in range(64):
            ask(handler, Ask.OPEN, path, flags)
        for what in (Ask.STATUS, Ask.MKDIR, Ask.UNLINK, Ask.RMDIR):
            ask(handler, what, path)
        ask(handler, Ask.RENAME, path, b"w/d/moved")
    handler.close()
    assert descriptors() == before
    with pytest.raises(FileNotFoundError):
        FileHandler({"/w": Mount(folder), "/m": Mount(folder / "missing")}, Limits())
    assert descriptors() == before


@pytest.mark.parametrize("swapped", ["folder", "file", "middle"])
def test_a_swap_of_folder_and_link_never_leads_outside(handler, folder, swapped):
    """Ten thousand times between a folder and a link to one outside, while the guest opens, looks, lists, writes and renames."""
    outside = folder.parent / "out"
    target = folder / "s"
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        good, bad = folder / "good", folder / "bad"
        if swapped == "file":
            good.write_bytes(b"inside")
            bad.symlink_to(outside / "a")
        else:
            good.mkdir()
            (good / "a").write_bytes(b"inside")
            (good / "d").mkdir()
            (good / "d" / "a").write_bytes(b"inside")
            (outside / "d").mkdir()
            (outside / "d" / "a").write_bytes(b"outside")
            bad.symlink_to(outside)
        good.rename(target)
        while swaps < 10_000:
            target.rename(good)
            bad.rename(target)
            target.rename(bad)
            good.rename(target)
            swaps += 2
        stop.set()

    path = {"folder": b"s/a", "file": b"s", "middle": b"s/d/a"}[swapped]
    thread = threading.Thread(target=swap)
    thread.start()
    seen: dict[Any, int] = {}
    while not stop.is_set():
        for flags in (Open.READ, Open.READ | Open.WRITE, Open.WRITE | Open.CREATE):
            opened = ask(handler, Ask.OPEN, b"w/" + path, flags)
            if type(opened) is list:
                if flags & Open.READ:
                    content = ask(handler, Ask.READ, opened[0], 0, 100)
                    seen[content] = seen.get(content, 0) + 1
                if flags & Open.WRITE:
                    ask(handler, Ask.WRITE, opened[0], b"inside", 0)
                ask(handler, Ask.CLOSE, opened[0])
            else:
                seen[opened] = seen.get(opened, 0) + 1
        status = ask(handler, Ask.STATUS, b"r/" + path)
        assert status in ("ENOENT", "ELOOP", "ENOTDIR") or status[1] in (0, 6) or status[0] == Kind.SYMLINK, status
        ask(handler, Ask.MKDIR, b"w/s/made")
        ask(handler, Ask.TOUCH, b"w/" + path, 1)
        ask(handler, Ask.RENAME, b"w/s/made", b"w/s/moved")
        ask(handler, Ask.RMDIR, b"w/s/moved")
    thread.join()
    assert swaps == 10_000
    assert b"outside" not in seen
    assert b"inside" in seen
    assert set(seen) & {"ELOOP", "ENOENT"}, "it has to be swapped while it is opened"
    assert set(seen) <= {b"inside", b"", "ENOENT", "ELOOP", "ENOTDIR", "EISDIR", "EACCES", "EBUSY"}
    assert (outside / "a").read_bytes() == b"outside"
    assert (outside / "a").stat().st_mtime_ns > 1
    assert sorted(os.listdir(outside)) == (["a"] if swapped == "file" else ["a", "d"])
