"""Applies unified diffs exactly: context must match, only its position may move."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass
class Hunk:
    at: int
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


class PatchError(Exception):
    """A hunk does not fit; names the file and the line."""


def apply(text: str, tree: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Apply a patch of `-p1` form to the files below `tree` that are `wanted`.

    Returns:
        The names of the files that changed.
    """
    changed = []
    for name, hunks in parse(text):
        if not wanted(name):
            continue
        path = tree / name
        lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(_patched(name, lines, hunks)), "utf-8")
        changed.append(name)
    return changed


def parse(text: str) -> Iterator[tuple[str, list[Hunk]]]:
    """The files of a unified diff and their hunks."""
    lines = text.splitlines(keepends=True)
    hunks: list[Hunk] = []
    name, index = "", 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if line.startswith("+++ "):
            if name:
                yield name, hunks
            name, hunks = line[4:].split("\t")[0].strip().partition("/")[2], []
        elif (match := _HUNK.match(line)) and name:
            old, new = (1 if count is None else int(count) for count in match.group(2, 4))
            hunk = Hunk(int(match[1]))
            while old or new:
                line = lines[index]
                index += 1
                kind, body = line[:1], line[1:]
                if kind == "\\":
                    continue
                if kind in " \n":
                    body = body if kind == " " else "\n"
                    hunk.old.append(body)
                    hunk.new.append(body)
                    old, new = old - 1, new - 1
                elif kind == "-":
                    hunk.old.append(body)
                    old -= 1
                elif kind == "+":
                    hunk.new.append(body)
                    new -= 1
                else:
                    raise PatchError(f"{name}: damaged hunk at line {index} of the patch")
            hunks.append(hunk)
    if name:
        yield name, hunks


def _patched(name: str, lines: list[str], hunks: list[Hunk]) -> list[str]:
    shift = 0
    for hunk in hunks:
        expected = max(hunk.at - 1, 0) + shift
        size = len(hunk.old)
        # Nearest place first; a hunk without context (a new file) goes exactly where it says.
        places = sorted(range(len(lines) - size + 1), key=lambda at: (abs(at - expected), at)) if size else [expected]
        for at in places:
            if lines[at : at + size] == hunk.old:
                break
        else:
            raise PatchError(f"{name}: the hunk for line {hunk.at} does not fit")
        lines[at : at + size] = hunk.new
        shift = at - max(hunk.at - 1, 0) + len(hunk.new) - size
    return lines
