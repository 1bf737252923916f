"""The C side has the numbers of the Python side."""

from __future__ import annotations

import re
from pathlib import Path

from cloche_wire import Ask, abi, files, tags

WIRE = Path(__file__).parents[2] / "wasm" / "shim" / "wire.h"


def c_numbers() -> dict[str, int]:
    found = re.findall(r"^\s*(TAG_\w+|WIRE_\w+) = ([^,]+),", WIRE.read_text(), re.MULTILINE)
    return {name: eval(value, {}) for name, value in found}


def test_the_tags_of_c_are_those_of_python() -> None:
    """wire.h is written by hand: it may lack no tag and differ in none."""
    ours = {name: value for name, value in vars(tags).items() if name.isupper() and type(value) is int}
    del ours["OWN_FIRST"], ours["OWN_LAST"]
    theirs = {name.removeprefix("TAG_"): value for name, value in c_numbers().items() if name.startswith("TAG_")}
    assert theirs == ours


def test_the_own_block_is_what_it_says() -> None:
    """A tag outside of it would collide with somebody else's."""
    own = sorted(
        value
        for name, value in vars(tags).items()
        if type(value) is int and value >= tags.OWN_FIRST and "OWN" not in name
    )
    assert own == list(range(tags.OWN_FIRST, tags.OWN_LAST + 1))


def test_the_sizes_of_c_are_those_of_python() -> None:
    """Of bodies that travel out of line, and of the log ring."""
    numbers = c_numbers()
    assert numbers["WIRE_OUT_OF_LINE"] == abi.OUT_OF_LINE_BYTES
    assert numbers["WIRE_NUMBERS_SHORTEST"] == abi.NUMBERS_SHORTEST
    assert numbers["WIRE_RING_MAGIC"] == abi.RING_MAGIC
    assert numbers["WIRE_RING_CAPACITY"] == abi.RING_CAPACITY


def test_the_numbers_of_files_are_those_of_python() -> None:
    """Flags, kinds, errors, sizes, and the questions themselves."""
    text = (WIRE.parent / "fs.h").read_text() + (WIRE.parent / "hostfs.h").read_text()
    found = {name: eval(value, {}) for name, value in re.findall(r"\b(FS_\w+) = ([^,}]+?)(?:,| })", text)}
    errors = {name[1:]: number for name, number in files.ERRNOS.items()}
    theirs = {name.removeprefix("FS_"): number for name, number in found.items()}
    assert {name: number for name, number in theirs.items() if name in errors}.items() <= errors.items()
    for prefix, kind in (("OPEN_", files.Open), ("KIND_", files.Kind)):
        numbers = {name.removeprefix(prefix): n for name, n in theirs.items() if name.startswith(prefix)}
        assert numbers == {member.name: member.value for member in kind}
    for name in ("NAME_BYTES", "PATH_BYTES", "CHUNK_BYTES"):
        assert theirs[name] == getattr(files, name)
    first, *others = re.findall(r"\bASK_(\w+)\b(?: = 16)?,", text)
    asks = [ask.name for ask in Ask if ask >= 16]
    assert [first, *others][: len(asks)] == asks
    assert "ASK_OPEN = 16," in text
