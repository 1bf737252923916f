"""The numbers that C shares with Python, as C headers. Python's modules are the source; C has no number of theirs by hand.

`write_headers` makes the headers of the guest when it is compiled. That of the native core is committed, with Python's comments,
so that its contract can be read in one place: `python runtime/native/write_numbers.py` writes it, and a test compares.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

WIRE_MODULES = ("abi", "tags", "files", "messages", "tree")
"""The modules of `cloche_wire` that have numbers for C: ``wire/<name>.h`` is made from each."""


def write_headers(wire: Path, out: Path, layout: Mapping[str, int] | None = None) -> None:
    """Write the headers of the guest to the folder `out`.

    Args:
        wire: the package `cloche_wire`.
        out: a folder that the compiler looks for headers in.
        layout: numbers of ``imagebuild/layout.py`` for ``layout_numbers.h``; None: that header is not needed.
    """
    (out / "wire").mkdir(exist_ok=True)
    for name in WIRE_MODULES:
        module = runpy.run_path(str(wire / f"{name}.py"))
        text = header(f"cloche_wire/{name}.py", f"WIRE_{name.upper()}_H", _MAKERS[name](module))
        (out / "wire" / f"{name}.h").write_text(text, "utf-8")
    if layout is not None:
        lines = defines("LAYOUT_", layout)
        (out / "layout_numbers.h").write_text(header("imagebuild/layout.py", "LAYOUT_NUMBERS_H", lines), "utf-8")


def header(source: str, guard: str, lines: Iterable[str]) -> str:
    """The text of a header that may be included twice."""
    start = [f"/* Generated from {source}. */", f"#ifndef {guard}", f"#define {guard}", ""]
    return "\n".join([*start, *lines, "", "#endif", ""])


def defines(prefix: str, numbers: Mapping[str, int]) -> list[str]:
    """One macro for each number, which ``#if`` and ``case`` take as well."""
    # from 2**31 on hexadecimal, which makes a constant unsigned
    return [f"#define {prefix}{name} {number if number < 1 << 31 else hex(number)}" for name, number in numbers.items()]


def constants(module: Mapping[str, Any]) -> dict[str, int]:
    """The public whole numbers of a module, by name."""
    return {name: value for name, value in module.items() if name.isupper() and name[0] != "_" and type(value) is int}


def _abi(module: Mapping[str, Any]) -> list[str]:
    numbers = constants(module)
    lines = [f"#define ABI_VERSION {numbers.pop('VERSION')}", f'#define IMPORT_MODULE "{module["IMPORT_MODULE"]}"']
    lines += defines("", numbers)
    for name, value in module.items():
        if name.endswith("_WORDS"):  # LAYOUT_WORDS: the index of each word as LAYOUT_<word>, and their number
            prefix = name.removesuffix("WORDS")
            lines += defines(prefix, {word: index for index, word in enumerate(value)} | {"WORDS": len(value)})
    return lines


def _tags(module: Mapping[str, Any]) -> list[str]:
    return defines("TAG_", constants(module))


def _files(module: Mapping[str, Any]) -> list[str]:
    errors = {name.removeprefix("E"): number for name, number in module["ERRNOS"].items()}
    each = "#define FS_EACH_ERROR(X) " + " ".join(f"X({name})" for name in errors)
    flags, kinds = defines("FS_OPEN_", _members(module["Open"])), defines("FS_KIND_", _members(module["Kind"]))
    return [*defines("FS_", constants(module)), *flags, *kinds, *defines("FS_", errors), each]


def _tree(module: Mapping[str, Any]) -> list[str]:
    magic = module["MAGIC"].decode("ascii").replace("\n", "\\n")
    return [*defines("TREE_", constants(module)), f'#define TREE_MAGIC "{magic}"']


def _messages(module: Mapping[str, Any]) -> list[str]:
    return defines("ASK_", _members(module["Ask"]))


_MAKERS = {"abi": _abi, "tags": _tags, "files": _files, "messages": _messages, "tree": _tree}


def _members(kind: type[IntEnum]) -> dict[str, int]:
    return {member.name: member.value for member in kind}


def enum(name: str, prefix: str, rows: Iterable[tuple[str, int, str]]) -> list[str]:
    """A C enum of (name, number, comment); a row without a name is a comment of its own."""
    lines = [f"enum {name} {{"]
    for item, number, comment in rows:
        note = f"/* {comment} */" if comment else ""
        lines.append(f"    {prefix}{item} = {number}, {note}".rstrip() if item else f"    {note}")
    return [*lines, "};", ""]


def commented(source: str, kind: type[IntEnum]) -> list[tuple[str, int, str]]:
    """The members of an enum with the comments that its class has in `source`, as `enum` takes them."""
    body = source[source.index(f"class {kind.__name__}(IntEnum):") :].split("\n\n\n")[0]
    rows = []
    for line in body.splitlines()[1:]:
        if found := re.fullmatch(r"    (\w+) = \S+(?:  # (.*))?", line):
            rows.append((found[1], kind[found[1]].value, found[2] or ""))
        elif found := re.fullmatch(r"    # (.*)", line):
            rows.append(("", 0, found[1]))
    return rows
