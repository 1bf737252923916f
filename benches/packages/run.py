"""Run every task natively and in a node, compare the results, and write docs/reference/packages.md.

``python -m benches.packages.run`` runs all of them; names of packages run those alone, and write no page.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

import cloche
from benches.packages import tasks_data, tasks_text, tasks_tools
from benches.packages.task import TASKS, Task

__all__ = ["FetchError", "Result", "Wheels", "fetch", "natively", "page", "run", "sandboxed"]

TREE = Path(__file__).parents[2]
PAGE = TREE / "docs" / "reference" / "packages.md"
PYTHON = f"3.{min(sys.version_info.minor, 13)}"
"""The Python whose wheels are taken: those that this interpreter and the image's, 3.13, can both run."""
LIMITS = cloche.Limits(deadline_s=120, memory_bytes=1 << 30)
SCRATCH = 16 << 20
SOURCES = (tasks_data, tasks_text, tasks_tools)
"""Imported for what they register in `TASKS`."""

NATIVE = """
import json, pathlib, sys
sys.path[:0] = json.loads(sys.argv[1])
space = {"__name__": "task"}
exec(compile(sys.argv[2], "task.py", "exec"), space)
value = space["process"](None)
sys.stdout.write("\\n" + repr(value))
"""


class FetchError(Exception):
    """A wheel could not be had."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one task.

    Attributes:
        package: its name in the index.
        version: the version that was tried; "" if there was no wheel.
        works: the result in the node is that of native CPython.
        first_s: seconds of the first load and call, the package's import among them; None if it failed.
        again_s: seconds of the second load and call in another process.
        note: why it failed, or what is to be known about the wheel.
    """

    package: str
    version: str
    works: bool
    first_s: float | None
    again_s: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Wheels:
    """Wheels of a package and of what it needs.

    Attributes:
        paths: the wheels, none with compiled parts.
        version: the package's.
        note: which of them were built without their compiled parts, and why not the newest version.
    """

    paths: tuple[Path, ...]
    version: str
    note: str


def fetch(task: Task, folder: Path) -> Wheels:
    """Get the wheels of a task from the index, or find them in `folder`.

    The package is the newest one that there is, and what it needs follows from it. The other way round, pip would go back to ancient
    versions that need nothing compiled.

    Raises:
        FetchError: a package has no wheel without compiled parts, and none could be built.
    """
    target, built = folder / task.package, folder / "built"
    done = target / "done"
    if not done.exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        built.mkdir(exist_ok=True)
        own = _download(task.package + task.version, target, built, "--no-deps")
        if task.needs:
            _download(f"{task.package}=={own}", target, built)
        done.touch()
    found = sorted(target.glob("*.whl"))
    version = next(path.name.split("-")[1] for path in found if _name(path) == canonicalize_name(task.package))
    changed = [path.name.split("-")[0] for path in found if (built / f"{path.name}.changed").exists()]
    notes = [task.reason] if task.reason else []
    if changed:
        notes.append(f"{', '.join(changed)} built without compiled parts")
    return Wheels(tuple(found), version, "; ".join(notes))


def _download(wanted: str, target: Path, built: Path, *options: str) -> str:
    """Download a package, and build the wheels that are missing on the way. Gives the version."""
    pure = [
        "--only-binary=:all:",
        "--platform=any",
        f"--python-version={PYTHON}",
        "--implementation=py",
        f"--find-links={built}",
    ]
    for _ in range(8):
        error = _pip("download", *pure, *options, f"--dest={target}", wanted)
        if error is None:
            name = canonicalize_name(re.split("[=<>!~]", wanted)[0])
            return next(path.name.split("-")[1] for path in target.glob("*.whl") if _name(path) == name)
        missing = re.search(r"No matching distribution found for ([^ ;(]+)", error)
        if missing is None:
            raise FetchError(error)
        _build(missing[1], built)
    raise FetchError(error or "")


def _build(wanted: str, built: Path) -> None:
    """Build a wheel from the package's source, without compiled parts, and name it as one for every machine."""
    name = re.split(r"[\[=<>!~]", wanted)[0]
    with tempfile.TemporaryDirectory() as made:
        error = _pip("wheel", "--no-deps", f"--no-binary={name}", f"--wheel-dir={made}", wanted)
        wheel = next(Path(made).glob("*.whl"), None)
        if error is not None or wheel is None or _is_compiled(wheel):
            raise FetchError(f"{name} has compiled parts")
        plain = "-".join([*wheel.stem.split("-")[:2], "py3-none-any.whl"])
        if wheel.name.partition("-none-any")[1] == "":
            (built / f"{plain}.changed").touch()
        if (built / plain).exists():
            raise FetchError(f"pip does not take the wheel of {name} that was built")
        shutil.copy(wheel, built / plain)


def _pip(*arguments: str) -> str | None:
    """Run pip, without a C compiler. Gives None, or the last line of its errors."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]
    environment = {**os.environ, "CC": "false", "CXX": "false", "DISABLE_SQLALCHEMY_CEXT": "1", "PIP_NO_INPUT": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or [
        f"pip ended with {ran.returncode}"
    ]
    return None if ran.returncode == 0 else lines[-1].removeprefix("ERROR: ")[:160]


def _is_compiled(wheel: Path) -> bool:
    with zipfile.ZipFile(wheel) as archive:
        return any(name.endswith((".so", ".pyd")) for name in archive.namelist())


def _name(wheel: Path) -> str:
    return canonicalize_name(wheel.name.split("-")[0])


def natively(task: Task, wheels: Wheels, folder: Path) -> str:
    """The result's `repr` under this interpreter, in a process that sees the same wheels, unpacked.

    Raises:
        RuntimeError: the task fails natively; the message is the error.
    """
    paths = []
    for wheel in wheels.paths:
        target = folder / wheel.stem
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        paths.append(str(target))
    command = [sys.executable, "-I", "-c", NATIVE, json.dumps(paths), task.source]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=folder)
    if ran.returncode:
        raise RuntimeError((ran.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return ran.stdout.rpartition("\n")[2]


def sandboxed(task: Task, wheels: Wheels) -> tuple[str, float]:
    """The result's `repr` in a node, and the seconds of load and call.

    Raises:
        cloche.ClocheError: the task fails there.
    """
    source = task.source.replace("return task()", "return repr(task())")
    began = time.perf_counter()
    with cloche.Runtime(limits=LIMITS) as runtime:
        node = runtime.load(
            cloche.Source(source), "process", grants=cloche.Grants(packages=wheels.paths, scratch_bytes=SCRATCH)
        )
        return str(node.process(None)), time.perf_counter() - began


def run(task: Task, folder: Path) -> Result:
    """Run a task natively and twice in a node, with wheels that are kept in `folder`."""
    try:
        wheels = fetch(task, folder)
    except FetchError as error:
        return Result(task.package, "", False, None, None, f"no wheels: {error}")
    try:
        with tempfile.TemporaryDirectory() as unpacked:
            wanted = natively(task, wheels, Path(unpacked))
        got, first = sandboxed(task, wheels)
        got, again = sandboxed(task, wheels)
    except (cloche.ClocheError, RuntimeError, subprocess.TimeoutExpired) as error:
        text = str(error).strip().splitlines()
        return Result(task.package, wheels.version, False, None, None, (text[-1] if text else repr(error))[:300])
    note = wheels.note if got == wanted else f"native gives {wanted[:80]}, the node {got[:80]}"
    return Result(task.package, wheels.version, got == wanted, first, again, note)


def page(results: Iterable[Result]) -> str:
    """docs/reference/packages.md."""
    results = sorted(results, key=lambda result: canonicalize_name(result.package))
    works = [result for result in results if result.works]
    rows = [
        f"| {r.package} | {r.version} | {'yes' if r.works else 'no'} | {_seconds(r.first_s)} | {_seconds(r.again_s)} | {_cell(r.note)} |"
        for r in results
    ]
    return (
        HEAD.format(all=len(results), works=len(works), share=100 * len(works) / len(results)) + "\n".join(rows) + "\n"
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'").replace("*", "\\*")


HEAD = """# Packages

Widely used pure-Python packages, each with a small real task (`benches/packages/`): the result in a node is compared with that of
native CPython. `scripts/packages` makes this page.

{works} of {all} work ({share:.0f} %). Seconds are those of a load and the call, in a runtime of its own: the first time, when the
package's modules are compiled and kept, and again. They were measured on a shared machine: read them as sizes, not as promises.

| package | version | works | first, s | again, s | note |
|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", help="These alone; no page is written.")
    parser.add_argument("--wheels", type=Path, default=TREE / "build" / "wheels", help="Folder where wheels are kept.")
    parser.add_argument("--json", type=Path, help="Write the results here as well.")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.packages) - set(TASKS))
    if unknown:
        parser.error(f"no task for {', '.join(unknown)}")
    tasks = [TASKS[name] for name in options.packages or TASKS]
    results = []
    for number, task in enumerate(tasks, 1):
        result = run(task, options.wheels)
        results.append(result)
        seconds = "" if result.first_s is None else f" {result.first_s:.2f} s, {result.again_s:.2f} s"
        print(
            f"{number}/{len(tasks)} {task.package} {result.version}{seconds}{'' if result.works else ' FAILS'} {result.note}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if not options.packages:
        PAGE.write_text(page(results))
    failed = [result.package for result in results if not result.works]
    print(f"{len(results) - len(failed)} of {len(results)} work" + (f"; not: {', '.join(failed)}" if failed else ""))
    return 0 if len(failed) <= len(results) // 20 else 1


if __name__ == "__main__":
    sys.exit(main())
