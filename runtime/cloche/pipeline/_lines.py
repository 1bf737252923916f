"""Where a value stands in a file: the line of each path, for JSON, YAML and TOML."""

from __future__ import annotations

import json
import json.scanner
import re
from typing import Any, Final, TypeAlias

__all__ = ["Path", "json_lines", "toml_lines", "yaml_lines"]

Path: TypeAlias = tuple[str | int, ...]
_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\]#]+?)\s*\]\]?\s*(#.*)?$")
_MOST: Final = 100_000
"""Values of a YAML document, with all that its aliases stand for: ten lines of aliases of aliases would be billions."""
_DEEPEST: Final = 100
"""Lists and mappings of a YAML document that may be inside of each other: PyYAML's time grows with the square of that."""
_MOST_OF_A_LINE: Final = 1000
"""Characters of a line of TOML that may be the name of a table or key; others are parts of long values."""
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def json_lines(text: str) -> tuple[Any, dict[Path, int]]:
    """The value of a JSON document, and the line of each path in it.

    Raises:
        json.JSONDecodeError: the text is no JSON document.
    """
    value = json.loads(text, object_pairs_hook=_without_doubles)
    lines: dict[Path, int] = {}
    decoder = json.JSONDecoder()
    skip = re.compile(r"[ \t\n\r]*")

    counted, line = 0, 1

    def visit(at: int, path: Path) -> int:
        """Note the lines of the value that begins at or behind a place. Returns the place behind it."""
        nonlocal counted, line
        at = skip.match(text, at).end()  # type: ignore[union-attr]  # it always matches
        line += text.count("\n", counted, at)  # from the last place on: the whole text each time would take hours
        counted = at
        lines[path] = line
        if text[at] not in "[{":
            return decoder.raw_decode(text, at)[1]
        is_object, close = text[at] == "{", "}" if text[at] == "{" else "]"
        at, index = skip.match(text, at + 1).end(), 0  # type: ignore[union-attr]  # as above
        while text[at] != close:
            key: str | int = index
            if is_object:
                key, at = decoder.raw_decode(text, at)
                at = skip.match(text, at).end() + 1  # type: ignore[union-attr]  # as above
            at = skip.match(text, visit(at, (*path, key))).end()  # type: ignore[union-attr]  # as above
            if text[at] == ",":
                at = skip.match(text, at + 1).end()  # type: ignore[union-attr]  # as above
            index += 1
        return at + 1

    visit(0, ())
    return value, lines


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return made


def yaml_lines(text: str) -> tuple[Any, dict[Path, int]]:
    """The value of a YAML document, and the line of each path in it.

    Raises:
        yaml.YAMLError: the text is no YAML document.
        ValueError: it has too many values, or they are nested too deep.
        ImportError: PyYAML is not installed.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Read the next value. What is too deep is refused here, before the rest of the text is read."""
            self.depth += 1
            if self.depth > _DEEPEST:
                raise ValueError(f"line {self.line + 1} is nested more than {_DEEPEST} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    lines: dict[Path, int] = {}

    left = _MOST

    def visit(node: Any, path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {_MOST} values, with all that its aliases stand for")
        lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                visit(inner, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for index, inner in enumerate(node.value):
                visit(inner, (*path, index))

    loader = Loader(text)
    root = loader.get_single_node()
    if root is None:
        return None, lines
    visit(root, ())
    return loader.construct_document(root), lines


def toml_lines(text: str) -> tuple[Any, dict[Path, int]]:
    """The value of a TOML document, and the line of each table and key in it; a value inside of another has the line of that one.

    Raises:
        tomllib.TOMLDecodeError: the text is no TOML document.
    """
    import tomllib

    value = tomllib.loads(text)
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _MOST_OF_A_LINE:
            continue
        if header := _HEADER.match(line):
            names = _names(header.group(2))
            table = ()
            for name in names:
                table = (*table, name)
                if table in counts:
                    table = (*table, counts[table])
            if header.group(1) == "[[":
                of = tuple(table[:-1]) if names and table and isinstance(table[-1], int) else table
                counts[of] = counts.get(of, -1) + 1
                table = (*of, counts[of])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_names(key.group(1))), number)
    return value, lines


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]
