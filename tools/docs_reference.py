"""Writes the parts of the reference that the code knows best: the command line, the limits, the tree of errors, the manifest.

A hook of mkdocs: a page has ``<!-- reference: cli -->`` where the part belongs. The part is made anew in each build, so it cannot
be out of date. A reader of the page's source sees the comment alone, as with the API, which mkdocstrings fills in.

Run as a script, it writes the JSON Schema of manifests anew, which is a file that others fetch.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

import cloche
from cloche.cli._app import app
from cloche.pipeline.manifest import Manifest

SCHEMA: Final = Path(__file__).parents[1] / "docs" / "reference" / "manifest-v1.schema.json"
_PLACE: Final = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)
_PAGE: Final = re.compile(r"docs/([\w/-]+\.md)")
_RANGE: Final = re.compile(r"give a number from (\S+) to (\S+)$")
_UNITS: Final = {"_s": "seconds", "_bytes": "bytes"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls with each page's source."""
    return _PLACE.sub(lambda place: PARTS[place[1]](), markdown)


def on_page_content(html: str, page: Any, files: Any, **_: Any) -> str:
    """What mkdocs calls with each page as HTML: a docstring that names a page of ``docs/`` gets a link to it."""

    def linked(name: re.Match[str]) -> str:
        found = files.get_file_from_path(name[1])
        return name[0] if found is None else f'<a href="{found.url_relative_to(page.file)}">{name[0]}</a>'

    return _PAGE.sub(linked, html)


def command_line() -> str:
    """Every verb, with its arguments and options, from typer's own declarations."""
    return "\n".join(_verbs(app, "cloche"))


def _verbs(group: typer.Typer, name: str) -> Iterator[str]:
    for command in group.registered_commands:
        assert command.callback is not None  # a command is made of its function
        yield from _verb(command.callback, f"{name} {command.name or command.callback.__name__}")
    for inner in group.registered_groups:
        assert inner.typer_instance is not None  # a group is made of its commands
        yield from _verbs(inner.typer_instance, f"{name} {inner.name}")


def _verb(function: Callable[..., Any], name: str) -> Iterator[str]:
    hints = get_type_hints(function, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(function).parameters.values():
        kind, info = (*get_args(hints[parameter.name]), None, None)[:2]  # typer's own context is not annotated
        if isinstance(info, ArgumentInfo):
            arguments.append((info.metavar or parameter.name.upper(), "", info.help or ""))
        elif isinstance(info, OptionInfo):
            # inside of Annotated, typer keeps the first name where the default has its place
            given = [name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("-")]
            names = given or [f"--{parameter.name.replace('_', '-')}"]
            values = _values(kind, info)
            shown = ", ".join(f"`{each} {values}`".replace(" `", "`") for each in names)
            default = "" if parameter.default in (None, False, "") else f"`{parameter.default}`"
            options.append((shown, default, info.help or ""))
    yield f"## `{name}`\n\n{inspect.getdoc(function)}\n"
    yield f"```text\n{' '.join([name, *(text for text, _, _ in arguments), '[OPTIONS]'])}\n```\n"
    rows = [(f"`{text}`", "", about) for text, _, about in arguments] + options
    yield _table(("argument or option", "default", "what it does"), rows)


def _values(kind: Any, info: OptionInfo) -> str:
    """What stands behind the option's name."""
    if info.metavar:
        return info.metavar
    choices = [kind, *get_args(kind)]  # of an optional or repeated one: what is inside
    for choice in choices:
        if get_origin(choice) is Literal:
            return "|".join(map(str, get_args(choice)))
    return {bool: "", int: "INT", float: "NUMBER", str: "TEXT"}.get(choices[1] if len(choices) > 1 else kind, "PATH")


def limits() -> str:
    """A row for each field of `Limits`, with the range that its own check allows."""
    texts = _attributes(cloche.Limits)
    rows = []
    for field in fields(cloche.Limits):
        assert field.default is not MISSING  # every limit is on by default
        unit = next((unit for end, unit in _UNITS.items() if field.name.endswith(end)), "")
        lowest, highest = _range(field.name)
        rows.append(
            (
                f'<span id="{field.name}"></span>`{field.name}`',
                "no limit" if field.default is None else _number(field.default, unit),
                f"{_number(lowest, unit)} to {_number(highest, unit)}",
                texts[field.name],
            )
        )
    return _table(("limit", "default", "may be", "what it bounds"), rows)


def _range(name: str) -> tuple[float, float]:
    """What the check of a limit allows, as its error says."""
    try:
        cloche.Limits(**{name: -1})
    except ValueError as error:
        found = _RANGE.search(str(error))
        if found:
            return _parsed(found[1]), _parsed(found[2])
    raise ValueError(f"Limits.{name} does not say what it may be")


def _parsed(text: str) -> float:
    return float(text) if "." in text else int(text)


def _number(value: float, unit: str) -> str:
    if unit == "seconds":
        return f"{value / 86400:g} days" if value > 86400 else f"{value:g} s"
    if unit == "bytes":
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value >= size and (value + 1) // size * size - value in (0, 1):
                return f"{'below ' if value % size else ''}{(value + 1) // size} {name}"
    power = int(value + 1).bit_length() - 1
    return f"2^{power} - 1" if power > 30 and value + 1 == 1 << power else f"{value:,}"


def errors() -> str:
    """The tree of errors: what each says, in the words of its class, and what becomes of the node."""
    rows = []
    for kind, depth in _tree(cloche.ClocheError, 0):
        first = " ".join(re.split(r"(?<=\.)\s", inspect.getdoc(kind) or "")[0].split())
        name = f"{'&emsp;' * depth}[`{kind.__name__}`][cloche.errors.{kind.__name__}]"
        rows.append((name, _afterwards(kind), re.sub(r"``(.+?)``", r"`\1`", first)))
    return _table(("error", "the node afterwards", "what it says"), rows)


def _tree(kind: type[cloche.ClocheError], depth: int) -> Iterator[tuple[type[cloche.ClocheError], int]]:
    """A class and those below it; a class with two bases stands below both."""
    yield kind, depth
    for below in kind.__subclasses__():
        if below.__module__ == "cloche.errors":
            yield from _tree(below, depth + 1)


def _afterwards(kind: type[cloche.ClocheError]) -> str:
    if issubclass(kind, cloche.BrokenInstanceError):
        return "broken, or recovered"
    if issubclass(kind, (cloche.NodeLoadError, cloche.ImageError)):
        return "there is none"
    if issubclass(kind, cloche.ClosedError):
        return "closed"
    return "" if kind in (cloche.ClocheError, cloche.InternalError, cloche.ServiceError) else "usable"


def manifest() -> str:
    """A table for each object of a manifest, from its JSON Schema, in the order in which they are met."""
    schema = Manifest.model_json_schema()
    parts, left, seen = [], [("", schema)], set()
    while left:
        path, found = left.pop(0)
        required = found.get("required", ())
        rows = []
        for name, field in found["properties"].items():
            inner = f"{path}.{name}".lstrip(".")
            for reference, is_list in _references(field):
                if reference not in seen:
                    seen.add(reference)
                    left.append((inner + "[]" * is_list, schema["$defs"][reference]))
            default = (
                "required" if name in required else f"`{json.dumps(field['default'])}`" if field.get("default") else ""
            )
            rows.append((f"`{name}`", _kind(field), default, " ".join(field["description"].split())))
        about = re.sub(r"``(.+?)``", r"`\1`", " ".join(found["description"].split()))
        table = _table(("field", "what", "default", "what it says"), rows) if rows else ""
        parts.append(f"## {f'`{path}`' if path else 'The document'}\n\n{about}\n\n{table}")
    return "\n".join(parts)


def _references(field: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The objects that a field may have, and whether it has a list of them."""
    for one in (field, *field.get("anyOf", ())):
        if "$ref" in one:
            yield one["$ref"].rpartition("/")[2], False
        elif "$ref" in one.get("items", {}):
            yield one["items"]["$ref"].rpartition("/")[2], True


def _kind(field: dict[str, Any]) -> str:
    """What a field may be, in words."""
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"] if one.get("type") != "null")
    if "$ref" in field:
        return "object"
    if "const" in field:
        return f'`"{field["const"]}"`'
    if "enum" in field:
        return ", ".join(f'`"{one}"`' for one in field["enum"])
    if field["type"] == "array":
        return f"list: {_kind(field['items'])}"
    least = {
        key: f"{word} {field[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"))
        if key in field
    }
    return " ".join([{"string": "text"}.get(field["type"], field["type"]), *least.values()])


def _attributes(kind: type) -> dict[str, str]:
    """The texts of a docstring's ``Attributes:``, each on one line."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())) for name, text in entries}


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines) + "\n"


PARTS: Final[dict[str, Callable[[], str]]] = {
    "cli": command_line,
    "limits": limits,
    "errors": errors,
    "manifest": manifest,
}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Manifest.model_json_schema(), indent=2) + "\n", "utf-8")
