"""The numbers that C gets from Python make sense, and the two that are written twice agree."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import cloche_wire
from cloche import Limits
from cloche_wire import Ask, abi, files, tags

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The headers that the guest's C is compiled with."""
    folder = tmp_path_factory.mktemp("headers")
    maker = runpy.run_path(str(TREE / "wasm/imagebuild/header.py"))
    maker["write_headers"](Path(cloche_wire.__file__).parent, folder)
    return folder / "wire"


def numbers(path: Path) -> dict[str, int]:
    lines = [line.split(maxsplit=2) for line in path.read_text("utf-8").splitlines() if line.startswith("#define ")]
    return {line[1]: int(line[2], 0) for line in lines if line[2:] and line[2][0].isdigit()}


def test_the_headers_have_every_number(headers: Path) -> None:
    """One of each kind, and as many tags, flags, kinds, errors and requests as Python has."""
    of_abi, of_tags = numbers(headers / "abi.h"), numbers(headers / "tags.h")
    of_files, of_messages = numbers(headers / "files.h"), numbers(headers / "messages.h")
    assert of_abi["RING_MAGIC"] == abi.RING_MAGIC
    assert of_abi["HOLD_REPLY"] == abi.HOLD_REPLY
    assert of_abi["RING_dropped"] == abi.RING_WORDS.index("dropped")
    assert of_abi["LAYOUT_WORDS"] == len(abi.LAYOUT_WORDS)
    assert of_tags["TAG_NUMBERS"] == tags.NUMBERS
    assert len(of_tags) == sum(name.isupper() and type(value) is int for name, value in vars(tags).items())
    assert of_files["FS_PATH_BYTES"] == files.PATH_BYTES
    assert of_files["FS_NOENT"] == files.ERRNOS["ENOENT"]
    assert len(of_files) == 4 + len(files.Open) + len(files.Kind) + len(files.ERRNOS)
    assert of_messages == {f"ASK_{ask.name}": ask.value for ask in Ask}


def test_the_own_block_is_what_it_says() -> None:
    """A tag outside of it would collide with somebody else's."""
    own = sorted(
        value
        for name, value in vars(tags).items()
        if type(value) is int and value >= tags.OWN_FIRST and "OWN" not in name
    )
    assert own == list(range(tags.OWN_FIRST, tags.OWN_LAST + 1))


def test_the_usual_limits_are_the_defaults() -> None:
    """The image is built under the limits that most nodes then get."""
    usual = Limits()
    assert abi.USUAL_REPLY_BYTES == usual.reply_bytes
    assert abi.USUAL_VALUE_DEPTH == usual.value_depth
    assert abi.USUAL_STACK_DEPTH == usual.stack_depth
