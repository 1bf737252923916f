"""Files that failures leave: in a child of a fork, on a full disk, in a folder that others write to, and in one that goes away."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.replay import Record, Recording, replay

CODE = """
import pathlib
class Node:
    def __init__(self):
        self.calls = []
    def process(self, wish):
        self.calls.append(wish)
        if wish == "write":
            pathlib.Path("/data/out.txt").write_text("x" * 300_000)
        if wish.startswith("fail"):
            raise ValueError(wish)
        return len(self.calls)
"""
Load = Callable[..., cloche.Node]


def failed(node: cloche.Node, wish: str = "fail") -> str:
    """The path of the recording of a failing call."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(wish)
    return caught.value.recording


def in_a_child(work: Callable[[], Any]) -> Any:
    """What a function returns in the child of a fork, as JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return json.loads(said)


def test_a_child_has_files_of_its_own(load: Load, runtime: cloche.Runtime, tmp_path: Path) -> None:
    """It removes none of its parent's, and its recording is of its own calls."""
    node = load(CODE, record=Record(folder=tmp_path, max_files=2))
    node.process("of the parent")
    ours = [failed(node, f"fail {number}") for number in range(2)]
    theirs = in_a_child(lambda: [failed(node, f"fail in the child {number}") for number in range(3)])
    assert len({*ours, *theirs}) == 5, theirs
    assert all(Path(path).exists() for path in ours)
    assert [Path(path).exists() for path in theirs] == [False, True, True]
    recording = Recording.open(theirs[-1])
    assert recording.calls[-1].operands == ["fail in the child 2"]
    assert replay(recording, runtime=runtime)
    assert Recording.open(failed(node, "fail again")).calls[-2].operands == ["fail 1"]


def test_a_child_of_a_call_under_way_is_refused(load: Load, tmp_path: Path) -> None:
    """The call goes on in the parent alone: in the child nobody would ever end it."""
    begun, go_on = threading.Event(), threading.Event()
    code = "from cloche_guest import services\ndef f(x): return services.wait()"
    node = load(
        code, record=tmp_path, grants=cloche.Grants(services={"wait": lambda: (begun.set(), go_on.wait(60))[1]})
    )
    thread = threading.Thread(target=node.process, args=(1,))
    thread.start()
    assert begun.wait(60)
    try:
        said = in_a_child(lambda: len(node.recording.calls))
    finally:
        go_on.set()
        thread.join()
    assert isinstance(said, str) and "Error: " in said
    assert len(node.recording.calls) == 1


def full_disk(size: int) -> Callable[[], None]:
    """Let no file of this process have more than so many bytes; returns what ends that. For a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    def end() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    return end


def test_a_full_disk_costs_the_file_alone(load: Load, runtime: cloche.Runtime, tmp_path: Path) -> None:
    """No draft stays, one warning is enough, and when there is room again, files are written again."""
    node = load(CODE, record=tmp_path)
    end = full_disk(500)
    try:
        with pytest.warns(RuntimeWarning, match="could not be recorded") as warned:
            assert [failed(node) for _ in range(3)] == [""] * 3
    finally:
        end()
    assert len(warned) == 1 and list(tmp_path.iterdir()) == []
    report = replay(failed(node), runtime=runtime)
    assert report and report.calls == 4 and report.memory


def test_a_nodes_own_folder_that_gets_full(load: Load, runtime: cloche.Runtime, tmp_path: Path) -> None:
    """How much of a file was written, and that there was no room for the rest, is what the recording answers."""
    (tmp_path / "data").mkdir()
    grants = cloche.Grants(mounts={"/data": cloche.Mount(tmp_path / "data", writable=True)})
    node = load(CODE, record=tmp_path / "failed", grants=grants)
    end = full_disk(200_000)
    try:
        path = failed(node, "write")
    finally:
        end()
    assert (tmp_path / "data" / "out.txt").stat().st_size <= 200_000
    assert node.process("write") == 2
    for recording in (path, node.recording):
        report = replay(recording, runtime=runtime)
        assert report and report.memory


def test_a_folder_that_is_deleted_is_made_again(load: Load, runtime: cloche.Runtime, tmp_path: Path) -> None:
    """Also with files in it that are to be removed later."""
    folder = tmp_path / "a" / "b"
    node = load(CODE, record=Record(folder=folder, max_files=1))
    failed(node)
    shutil.rmtree(tmp_path / "a")
    path = failed(node)
    assert replay(path, runtime=runtime) and len(list(folder.iterdir())) == 1
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("a file now")
    with pytest.warns(RuntimeWarning, match="could not be recorded"):
        assert failed(node) == ""
    (tmp_path / "a").unlink()
    assert replay(failed(node), runtime=runtime)


def test_a_file_that_cannot_be_removed_costs_nothing(load: Load, tmp_path: Path) -> None:
    """The new recording is there, and is named."""
    node = load(CODE, record=Record(folder=tmp_path, max_files=1))
    first = Path(failed(node))
    first.unlink()
    first.mkdir()
    second = failed(node)
    assert second and Path(second).exists()


def test_a_later_current_folder_is_another_one(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is removed is what was written, wherever the process is then."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    node = load(CODE, record=Record(folder="failed", max_files=1))
    first = Path(failed(node))
    monkeypatch.chdir(tmp_path / "two")
    Path("failed").mkdir()
    first.write_text("of somebody else")
    failed(node)
    assert first.read_text() == "of somebody else" and not (tmp_path / "one" / first).exists()


PROGRAM = """
import os, sys, cloche
os.getpid = lambda: 1  # as in a container
paths = []
with cloche.Runtime() as runtime, runtime.load(cloche.Source(sys.argv[2]), record=sys.argv[1]) as node:
    for number in range(10):
        try:
            node.process("fail")
        except cloche.NodeRaisedError as error:
            paths.append(error.recording)
print(*paths, sep="\\n")
"""


def test_two_processes_share_a_folder(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """In two containers they have the same number, and fail in the same second: no file takes the place of another."""
    program = [sys.executable, "-c", PROGRAM, str(tmp_path), CODE]
    running = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {path for one in running for path in one.communicate(timeout=200)[0].split()}
    assert [one.returncode for one in running] == [0, 0]
    assert len(paths) == 20 and {str(path) for path in tmp_path.iterdir()} == paths
    assert replay(min(paths), runtime=runtime)
