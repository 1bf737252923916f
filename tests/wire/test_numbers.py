"""The C side has the numbers of the Python side."""

from __future__ import annotations

import re
from pathlib import Path

from cloche_wire import abi, tags

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
