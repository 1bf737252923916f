"""A file is complete or not there: whatever ends the program that writes it."""

from __future__ import annotations

import gc
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from cloche import _atomic_file
from cloche._atomic_file import AtomicFile
from tests.injection import every, within


def test_the_name_appears_when_the_block_ends(tmp_path: Path) -> None:
    """Until then a reader finds the old file, and the draft beside it."""
    path = tmp_path / "result"
    path.write_bytes(b"old")
    with AtomicFile(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), AtomicFile(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # as an error, it would keep the interrupt, and so the file
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # inside `__del__`
def test_an_interrupt_anywhere_leaves_no_draft(tmp_path: Path) -> None:
    """Not even between its making and the block: the old file is there or the new one, and nothing beside it."""
    path = tmp_path / "result"

    def write() -> None:
        with AtomicFile(path) as file:
            file.write(b"new")

    places = set()
    path.write_bytes(b"old")
    for injected in every(write, KeyboardInterrupt, within("/cloche/_atomic_file.py", "/wasm/test_atomic_file.py")):
        places.add(injected.place)
        del injected  # its traceback has the frames, and they have the file
        gc.collect(1)  # what is older takes its time
        assert list(tmp_path.iterdir()) == [path], sorted(places)
        assert path.read_bytes() in (b"old", b"new")
        path.write_bytes(b"old")
    assert len(places) > 10


def test_a_commit_that_fails_leaves_no_draft(tmp_path: Path) -> None:
    """The target has become a folder, which a file cannot replace."""
    path = tmp_path / "result"
    with pytest.raises(IsADirectoryError), AtomicFile(path) as file:
        file.write(b"new")
        path.mkdir()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    """A report that others may read, or may not, is the same to them after it was written again."""
    path = tmp_path / "result"
    path.touch()
    path.chmod(mode)
    with AtomicFile(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_that_was_given_or_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, mode in (("private", 0o600), ("usual", None)):
            with AtomicFile(tmp_path / name, mode):
                pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is written, in the folder where that is."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    with AtomicFile(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """So is /dev/null: replacing it would take it from the whole system."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with AtomicFile(pipe) as file:
        file.write(b"new")
    reader.join(60)
    assert read == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked"])
def test_a_pipe_without_a_name_is_written_to(tmp_path: Path, linked: bool) -> None:
    """As /dev/stdout is in a pipeline, and ``>(command)`` in a shell: such links lead to no path."""
    ours, theirs = os.pipe()
    path = Path(f"/dev/fd/{theirs}")
    if linked:
        path = tmp_path / "link"
        path.symlink_to(f"/dev/fd/{theirs}")
    with AtomicFile(path) as file:
        file.write(b"new")
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert pipe.read() == b"new"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the link of a descriptor does not lead to a name")
def test_a_file_that_has_lost_its_name_is_written_to(tmp_path: Path) -> None:
    """Linux says "/folder/name (deleted)" of it, which would be another file."""
    path = tmp_path / "result"
    with path.open("w+b") as opened:
        path.unlink()
        with AtomicFile(f"/proc/self/fd/{opened.fileno()}") as file:
            file.write(b"new")
        assert opened.read() == b"new"
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_and_not_the_draft(tmp_path: Path) -> None:
    """Nobody knows of a draft."""
    with pytest.raises(FileNotFoundError) as caught:
        AtomicFile(tmp_path / "missing" / "result")
    assert caught.value.filename == str(tmp_path / "missing" / "result")


def test_a_name_that_ends_in_a_slash_is_a_folder(tmp_path: Path) -> None:
    """As `open` has it: no file of that name without the slash is made."""
    with pytest.raises(IsADirectoryError):
        AtomicFile(f"{tmp_path}/results/")
    assert list(tmp_path.iterdir()) == []


def test_a_draft_is_never_a_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others can write to, a link of the draft's name could lead anywhere."""
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / f".result.{'00' * 8}.part").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        AtomicFile(tmp_path / "result")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("change", ["replaced", "removed"])
@pytest.mark.parametrize("look", range(1, 7))
def test_a_file_that_another_process_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int, change: str
) -> None:
    """Before any look at it: it is replaced all the same, never written in place, where a reader would see a part."""
    path, other, looks = tmp_path / "result", tmp_path / "other", 0
    path.write_bytes(b"old")
    other.write_bytes(b"another's")
    status = _atomic_file._status

    def changed(named: Path) -> os.stat_result | None:
        nonlocal looks
        looks += 1
        if looks == look:
            other.replace(path) if change == "replaced" else path.unlink()
        return status(named)

    monkeypatch.setattr(_atomic_file, "_status", changed)
    with AtomicFile(path) as file:
        file.write(b"new")
        assert path.read_bytes() in (b"old", b"another's") if path.exists() else change == "removed"
        assert len([entry for entry in tmp_path.iterdir() if entry.suffix == ".part"]) == 1
    assert path.read_bytes() == b"new"
