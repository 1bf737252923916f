"""A pin file that is wrong is refused before anything is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuild.pins import Pins
from tests.image.conftest import TREE

ENTRY = """[[pin]]
name = "zlib"
version = "1"
source = "debian:z/zlib/zlib_1.tar.gz"
sha256 = "{sha256}"
group = "{group}"
licence = "Zlib"
"""


def entry(sha256: str = "0" * 64, group: str = "source") -> str:
    return ENTRY.format(sha256=sha256, group=group)


def load(tmp_path: Path, text: str) -> Pins:
    path = tmp_path / "pins.toml"
    path.write_text(text, "utf-8")
    return Pins.load(path)


def test_the_project_s_pins_are_complete() -> None:
    """What the image contains, and what compiles it."""
    pins = Pins.load(TREE / "wasm/pins.toml")
    assert {"cpython", "numpy", "cloudpickle", "tzdata", "zlib", "bzip2", "xz-utils"} <= {
        p.name for p in pins.group("source")
    }
    assert {"clang-19", "lld-19", "wasi-libc"} <= {pin.name for pin in pins.group("toolchain")}
    assert [pin.name for pin in pins.by_name.values() if pin.optional] == ["cpython-patches"]


def test_no_pin_names_a_host() -> None:
    """Mirrors and indexes are the machine's own; a name in the tree would rot."""
    text = (TREE / "wasm/pins.toml").read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"\b\w+\.(org|com|net|io)\b", text)


def test_a_pin_has_its_fields_on_adjacent_lines() -> None:
    """So that a change of version shows its new sha256 beside it."""
    blocks = (TREE / "wasm/pins.toml").read_text("utf-8").split("[[pin]]\n")[1:]
    for block in blocks:
        keys = [line.split(" = ")[0] for line in block.strip().splitlines()]
        assert keys[:4] == ["name", "version", "source", "sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry(sha256="abc"), "not a sha256"),
        (entry(group="other"), "group"),
        (entry().replace("debian:", "ftp:"), "neither"),
        (entry() + entry(), "comes twice"),
        (entry() + 'extra = "x"\n', "extra"),
        (entry().replace('version = "1"\n', ""), "version"),
    ],
    ids=["digest", "group", "source", "twice", "unknown field", "missing field"],
)
def test_a_wrong_pin_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A typo must not become a build without a check."""
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_the_digest_of_a_pin_does_not_depend_on_the_order(tmp_path: Path) -> None:
    """Stage keys must not change when a list is sorted differently."""
    pins = load(tmp_path, entry() + entry(sha256="1" * 64).replace("zlib", "bzip2"))
    assert pins.digest_of(["zlib", "bzip2"]) == pins.digest_of(["bzip2", "zlib"])
