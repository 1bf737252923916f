"""A step runs when something that it depends on has changed, and leaves nothing behind when it fails."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.progress import Progress
from imagebuild.stages import BuildError, Folders, Stage, build, keys, locked


def write(text: str, ran: list[str], name: str) -> Callable[[Path, Folders], None]:
    def run(out: Path, folders: Folders) -> None:
        ran.append(name)
        (out / "file").write_text(text + "".join((folders[need] / "file").read_text() for need in NEEDS[name]))

    return run


NEEDS: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}


def stages(ran: list[str], **inputs: str) -> list[Stage]:
    return [
        Stage(name, NEEDS[name], (inputs.get(name, name),), write(inputs.get(name, name), ran, name)) for name in NEEDS
    ]


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_a_first_build_runs_everything_in_order(tmp_path: Path) -> None:
    """A step finds the files of those that it needs."""
    ran: list[str] = []
    folders = build(stages(ran), tmp_path, quiet())
    assert sorted(ran[:2]) == ["a", "b"]
    assert ran[2:] == ["c", "d"]
    assert (folders["d"] / "file").read_text() == "dcab"


@pytest.mark.parametrize(("changed", "again"), [("a", "acd"), ("b", "bcd"), ("c", "cd"), ("d", "d")])
def test_a_change_runs_what_depends_on_it(tmp_path: Path, changed: str, again: str) -> None:
    """And nothing else: a line of Python in the guest must not compile CPython."""
    build(stages([]), tmp_path, quiet())
    ran: list[str] = []
    build(stages(ran, **{changed: "new"}), tmp_path, quiet())
    assert "".join(ran) == again


def test_a_change_that_is_taken_back_costs_nothing(tmp_path: Path) -> None:
    """Folders are named by content, not by time."""
    build(stages([]), tmp_path, quiet())
    build(stages([], c="new"), tmp_path, quiet())
    ran: list[str] = []
    build(stages(ran), tmp_path, quiet())
    assert ran == []


def test_the_code_of_a_step_is_an_input() -> None:
    """Changing how something is built builds it again."""
    first = Stage("x", (), (), lambda out, folders: None)
    second = Stage("x", (), (), lambda out, folders: out.touch())
    assert keys([first]) != keys([second])


def test_a_step_that_fails_leaves_no_result(tmp_path: Path) -> None:
    """The next build runs it again, and finds what was finished before it."""

    def fail(out: Path, folders: Folders) -> None:
        (out / "half").touch()
        raise BuildError("no")

    ran: list[str] = []
    broken = [*stages(ran)[:3], Stage("d", ("c",), ("d",), fail)]
    with pytest.raises(BuildError, match="no"):
        build(broken, tmp_path, quiet())
    assert not any(path.name.startswith("d-") and not path.name.endswith(".part") for path in tmp_path.iterdir())
    ran.clear()
    folders = build(stages(ran), tmp_path, quiet())
    assert ran == ["d"]
    assert [path.name for path in folders["d"].iterdir()] == ["file"]


def test_two_builds_of_one_cache_take_turns(tmp_path: Path) -> None:
    """The second waits, and says for what."""
    said = io.StringIO()
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock", Progress(said)):
            order.append("second")

    with locked(tmp_path / "lock", quiet()):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting" not in said.getvalue():
            thread.join(0.001)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(("changed", "again"), [("c", "acd"), ("d", "d")], ids=["read from", "not read from"])
def test_a_stage_that_does_not_work_here_is_made_anew(tmp_path: Path, changed: str, again: str) -> None:
    """A cache copied from another machine, say; its key stays, so that nothing else has to run for it."""
    build(stages([]), tmp_path, quiet())
    ran: list[str] = []
    graph = stages(ran, **{changed: "new"})
    before = keys(graph)
    graph[0] = replace(graph[0], usable=lambda folder: not (folder / "file").exists())
    assert keys(graph) == before
    build(graph, tmp_path, quiet())
    assert "".join(sorted(ran)) == again


def test_a_stage_that_works_is_kept(tmp_path: Path) -> None:
    """It was asked, and said so."""
    build(stages([]), tmp_path, quiet())
    ran: list[str] = []
    graph = stages(ran, c="new")
    graph[0] = replace(graph[0], usable=lambda folder: (folder / "file").exists())
    build(graph, tmp_path, quiet())
    assert ran == ["c", "d"]
