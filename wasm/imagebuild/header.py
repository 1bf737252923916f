"""Makes abi.h: the numbers of cloche_wire/abi.py for the shim."""

from __future__ import annotations

import runpy
from pathlib import Path


def abi_header(wire: Path) -> str:
    """The text of abi.h for the package `cloche_wire` at `wire`."""
    abi = runpy.run_path(str(wire / "abi.py"))
    numbers = {name: value for name, value in abi.items() if name.isupper() and type(value) is int}
    lines = [f"#define {name} {value:#x}" for name, value in numbers.items() if name != "VERSION"]
    for name, value in abi.items():
        if name.endswith("_WORDS"):  # LAYOUT_WORDS: the index of each word as LAYOUT_<word>, and their number
            prefix = name.removesuffix("WORDS")
            lines += [f"#define {prefix}{word} {index}" for index, word in enumerate(value)]
            lines.append(f"#define {name} {len(value)}")
    lines += [f"#define ABI_VERSION {abi['VERSION']}", f'#define IMPORT_MODULE "{abi["IMPORT_MODULE"]}"']
    start = ["/* Generated from cloche_wire/abi.py. */", "#ifndef ABI_H", "#define ABI_H"]
    return "\n".join([*start, *lines, "#endif", ""])
