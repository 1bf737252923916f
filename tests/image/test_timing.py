"""A build can say where its time went."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from imagebuild.progress import Progress
from imagebuild.stages import BuildError, Stage, build
from imagebuild.timing import Timing
from imagebuild.toolchain import Toolchain


def test_the_table_has_stages_and_processes(tmp_path: Path) -> None:
    """The processor time is the operating system's count for each process."""
    timing = Timing()

    def run(out: Path, folders: object) -> None:
        Toolchain(out, (), note=lambda what, cpu_s: timing.process("work", what, cpu_s)).run(
            [sys.executable, "-c", "sum(range(300_000))"], "compile x.c"
        )

    build([Stage("work", (), (), run)], tmp_path, Progress(io.StringIO()), timing=timing)
    (process,) = timing.processes
    assert (process.stage, process.what) == ("work", "compile x.c")
    assert process.cpu_s > 0
    begin, end = timing.stages["work"]
    assert 0 <= begin < end
    table = timing.table()
    assert "work: compile x.c" in table
    assert "slowest of 1 processes" in table


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    """Its output is seen, and its time counted."""
    noted: list[str] = []
    tools = Toolchain(tmp_path, (), note=lambda what, cpu_s: noted.append(what))
    with pytest.raises(BuildError, match=r"(?s)^compile x\.c failed \(3\):\nno such header\n$"):
        tools.run([sys.executable, "-c", "print('no such header'); exit(3)"], "compile x.c")
    assert noted == ["compile x.c"]
