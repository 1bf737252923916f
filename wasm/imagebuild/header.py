"""Makes abi.h: the numbers of cloche_wire/abi.py under their own names, those of tags.py as TAG_<NAME>."""

from __future__ import annotations

import runpy
from pathlib import Path


def abi_header(wire: Path) -> str:
    """The text of abi.h for the package `cloche_wire` at `wire`."""
    abi = runpy.run_path(str(wire / "abi.py"))
    tags = runpy.run_path(str(wire / "tags.py"))
    lines = ["/* Generated from cloche_wire/abi.py and tags.py. */", "#ifndef CLOCHE_ABI_H", "#define CLOCHE_ABI_H"]
    lines += [f"#define {name} {value:#x}" for name, value in abi.items() if _is_number(name, value) and name != "VERSION"]
    lines += [f'#define IMPORT_MODULE "{abi["IMPORT_MODULE"]}"', f"#define ABI_VERSION {abi['VERSION']}"]
    lines += [f"#define TAG_{name} {value}" for name, value in tags.items() if _is_number(name, value)]
    return "\n".join([*lines, "#endif", ""])


def _is_number(name: str, value: object) -> bool:
    return name.isupper() and type(value) is int
