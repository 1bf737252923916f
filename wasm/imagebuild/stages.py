"""The build as a graph of stages. A stage's folder is named by the hash of all that it depends on, so a stage whose
folder exists is never run again, and a change rebuilds what depends on it and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from imagebuild import uses
from imagebuild.progress import Progress
from imagebuild.slots import Slots
from imagebuild.timing import Timing

Folders = Mapping[str, Path]
"""Where the stages that one depends on have put their files, by stage name."""


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        name: names its folder.
        needs: the stages it reads from.
        inputs: everything else that its result depends on, as texts (digests, flags, versions).
        run: fills the empty folder it is given. Its source text counts as an input, with that of what it uses in its file.
        in_process: the function works in this process and starts no tool, so it holds one slot while it runs.
        usable: tells whether a folder that an earlier build filled works on this machine; None if every such folder does. It is
            called only before a stage that needs this one runs.
    """

    name: str
    needs: tuple[str, ...]
    inputs: tuple[str, ...]
    run: Callable[[Path, Folders], None]
    usable: Callable[[Path], bool] | None = None
    in_process: bool = False


class BuildError(Exception):
    """A step of the build failed; the message is what to show."""


def file_digest(root: Path, *paths: Path) -> str:
    """SHA-256 over files below `root`, whatever their order: their names relative to it, and their contents."""
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in paths):
        body = path.read_bytes()
        digest.update(f"{name} {len(body)}\n".encode() + body)
    return digest.hexdigest()


def keys(stages: Iterable[Stage]) -> dict[str, str]:
    """The key of every stage. `stages` must be in an order in which each follows what it needs."""
    found: dict[str, str] = {}
    for stage in stages:
        parts = [stage.name, *(found[need] for need in stage.needs), *stage.inputs, uses.source(stage.run)]
        found[stage.name] = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return found


def precedence(stages: Iterable[Stage]) -> list[str]:
    """The stages by what they hold up: first the one with the longest chain of stages behind it."""
    ordered, behind = list(stages), dict[str, int]()
    for stage in reversed(ordered):
        behind.setdefault(stage.name, 0)
        for need in stage.needs:
            behind[need] = max(behind.get(need, 0), behind[stage.name] + 1)
    return sorted((stage.name for stage in ordered), key=lambda name: -behind[name])


def build(
    stages: list[Stage], root: Path, progress: Progress, slots: Slots | None = None, timing: Timing | None = None
) -> dict[str, Path]:
    """Run what is missing, independent stages side by side, and return every stage's folder.

    Args:
        stages: the graph, each stage after what it needs.
        root: where the stages' folders are.
        progress: gets a line when a stage begins and when it ends.
        slots: shared with the stages' tools.
        timing: notes when each stage runs.

    Raises:
        BuildError: a stage failed; those that were running have ended.
    """
    names = keys(stages)
    folders = {name: root / f"{name}-{key}" for name, key in names.items()}
    todo = {stage.name: stage for stage in stages if not folders[stage.name].exists()}
    for stage in _unusable(stages, folders, todo):
        shutil.rmtree(folders[stage.name])
        todo[stage.name] = stage
    running: dict[Future[None], str] = {}
    root.mkdir(parents=True, exist_ok=True)
    cancelled.clear()
    slots, timing = slots or Slots(1), timing or Timing()
    slots.precedence = precedence(stages)
    with ThreadPoolExecutor(len(stages), "stage") as pool:
        try:
            while todo or running:
                blocked = todo.keys() | set(running.values())
                for name in [name for name, stage in todo.items() if not blocked & set(stage.needs)]:
                    running[pool.submit(_run, todo.pop(name), folders, progress, slots, timing)] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    future.result()
        except BaseException:
            cancelled.set()
            raise
    return folders


def _unusable(stages: list[Stage], folders: Folders, todo: Mapping[str, Stage]) -> list[Stage]:
    """Finished stages that a stage in `todo` reads, but whose folders do not work on this machine (`Stage.usable`)."""
    wanted = {need for stage in todo.values() for need in stage.needs} - todo.keys()
    return [s for s in stages if s.name in wanted and s.usable is not None and not s.usable(folders[s.name])]


cancelled = threading.Event()
"""Set when a stage has failed: the others start no further process."""


def _run(stage: Stage, folders: Folders, progress: Progress, slots: Slots, timing: Timing) -> None:
    if cancelled.is_set():
        return
    final = folders[stage.name]
    part = final.with_name(f"{final.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    with slots.take(stage.name) if stage.in_process else nullcontext():
        start = progress.seconds
        progress.say(f"{stage.name} ...")
        with timing.stage(stage.name):
            stage.run(part, folders)
        part.rename(final)
        progress.say(f"{stage.name} done in {progress.seconds - start:.1f} s")


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """One build at a time per cache; a second one waits and then finds everything done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"another build holds {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
