"""Which file of C calls which, from the sources."""

from __future__ import annotations

import re
from pathlib import Path

_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_EXPORT = re.compile(r"EXPORT\(\w+\)|__attribute__\(\(.*?\)\)", re.DOTALL)
_FUNCTION = re.compile(r"^(?!static\b|typedef\b)[A-Za-z_][\w \t*]*?\b(\w+)\([^;{}]*\)\s*\{", re.MULTILINE)


def code(path: Path) -> str:
    """A file without its comments, strings and attributes."""
    return _EXPORT.sub("", _COMMENT_OR_STRING.sub('""', path.read_text(encoding="utf-8")))


def calls(files: list[Path]) -> dict[str, set[str]]:
    """For each file the others whose functions it calls.

    A file that takes another one's function as a pointer, to call it later, counts as a caller.
    """
    texts = {path.name: code(path) for path in files}
    defined: dict[str, str] = {}
    for name, text in texts.items():
        for function in _FUNCTION.findall(text):
            defined.setdefault(function, name)
    found: dict[str, set[str]] = {name: set() for name in texts}
    for name, text in texts.items():
        own = set(re.findall(r"^static\b[\w \t\n*]*?\b(\w+)\(", text, re.MULTILINE))
        for word in set(re.findall(r"\b\w+(?=\()", text)) - own:
            if defined.get(word, name) != name:
                found[name].add(defined[word])
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Files that call each other in a circle; empty if none do."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    for name in graph:
        if found := walk(name, []):
            return found
    return []
