"""What type checkers say about programs that use Cloche: mistakes are flagged where they are written, and right programs pass."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]

PROGRAM = """
import logging

import cloche

runtime = cloche.Runtime(limits=cloche.Limits(deadline_s=3), logger=logging.getLogger("nodes"))
source = cloche.Source("def f(x): return x", "mine.py")
node = runtime.load(source, "f", {"a": 1}, name="n", grants=cloche.Grants(env={"A": "b"}), on_break="restart")
again = runtime.restore(node.snapshot(), reseed=False)
pool = runtime.pool(source, size=2, limits=cloche.Limits(), grants=cloche.Grants(seed=1))
mount = cloche.Mount("/", writable=True)
node.with_options(on_log=print, deadline_s=3).process(1)
pool.with_options(on_log=lambda record: print(record.message)).submit(1)

class Mine: ...

runtime.load(Mine)  # wrong
runtime.load(source, limits={"deadline_s": 3})  # wrong
runtime.load(source, grants={"env": {}})  # wrong
runtime.load(source, limit=cloche.Limits())  # wrong
runtime.load(source, on_break="restrat")  # wrong
runtime.restore(node.snapshot(), resed=False)  # wrong
runtime.restore(b"")  # wrong
runtime.pool(source, sizes=2)  # wrong
runtime.pool(source, on_break="restart")  # wrong
runtime.pool(source, limits={})  # wrong
cloche.Runtime(loger=None)  # wrong
cloche.Runtime(metering="fule")  # wrong
cloche.Limits(deadlin_s=3)  # wrong
cloche.Limits(3)  # wrong
cloche.Grants(mount={})  # wrong
cloche.Source(Mine)  # wrong
cloche.Source("", name="x")  # wrong
cloche.Mount("/", write=True)  # wrong
cloche.Service(len, max_call=1)  # wrong
cloche.Clock("reel")  # wrong
node.with_options(on_logs=print)  # wrong
node.with_options(on_log="print")  # wrong
pool.with_options(deadline=3)  # wrong
"""
WRONG = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}


def flagged(command: list[str], program: Path) -> set[int]:
    """The lines of a program in which a type checker finds an error."""
    path = os.pathsep.join(str(TREE / part) for part in ("runtime", "guest"))
    done = subprocess.run(
        [*command, str(program)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=program.parent,
        env={**os.environ, "MYPYPATH": path, "PYTHONPATH": path},
    )
    assert "error" in done.stdout, done.stdout + done.stderr
    return {int(line) for line in re.findall(rf"{program.name}:(\d+)(?::\d+)*:? (?:- )?error", done.stdout)}


def test_mypy_flags_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    """Options are spelled out, or a TypedDict: no `**options: Any` hides a mistake until it runs."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    assert flagged([*command, "--cache-dir", str(TREE / ".mypy_cache" / "program")], program) == WRONG


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is on the PATH only where somebody has put it")
def test_pyright_flags_the_same(tmp_path: Path) -> None:
    """Editors use it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    paths = [str(TREE / part) for part in ("runtime", "guest")]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": paths, "pythonVersion": "3.11"}))
    assert flagged(["pyright"], program) == WRONG
