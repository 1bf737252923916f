"""Runs the code blocks of one page, as a reader would who follows it from top to bottom in an empty folder.

Usage: run_page.py PAGE. A program of its own, so that a page finds the interpreter as a reader's, and leaves nothing to the next.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from blocks import Block, blocks  # its neighbour: Python puts a program's own folder on the path

import cloche

LOG_LINE = re.compile(r"^.*\[(debug|info|warning|error|critical) *\].*\n", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


GRACE_S = 10.0
"""How long nodes of pages may take to unwind after a deadline, unless the page says it. The default, a tenth of a second, is what a busy
machine may take until it lets them begin."""


def be_patient() -> None:
    """From now on limits have that default."""
    made = cloche.Limits.__init__

    def limits(self: cloche.Limits, *arguments: Any, **keywords: Any) -> None:
        made(self, *arguments, **({"grace_s": GRACE_S} | keywords))

    cloche.Limits.__init__ = limits  # type: ignore[method-assign]


def run(page: Path) -> None:
    """Run every block; the first that fails ends the program."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page.read_text("utf-8")):
        place = f"{page.name}, line {block.line}"
        match block.fate:
            case "python":
                printed = _python(block, page, names)
            case "sh":
                printed = _shell(block, place)
            case "file":
                path = Path(block.title)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            case "output":
                shown = LOG_LINE.sub("", COLOUR.sub("", printed))
                if not doctest.OutputChecker().check_output(block.text, shown, doctest.ELLIPSIS):
                    raise SystemExit(f"{place}: the page shows\n{block.text}\nand the block before it prints\n{shown}")


def _python(block: Block, page: Path, names: dict[str, Any]) -> str:
    """Run in the page's names; a traceback shows the page's own lines."""
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def _shell(block: Block, place: str) -> str:
    done = subprocess.run(["sh", "-eu"], input=block.text, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{place}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.path[0] = ""  # as in a session of a reader, who imports what lies in the current folder
    be_patient()
    run(Path(sys.argv[1]))
