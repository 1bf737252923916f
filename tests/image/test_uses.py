"""The code that a stage runs is found by the names in it."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import pytest

from imagebuild import uses, wasmfile
from imagebuild.patch import apply
from tests.image.conftest import TREE


def helper() -> str:
    return "helper"


def far() -> str:
    return helper()


def unrelated() -> str:
    return "unrelated"


class Some:
    @property
    def place(self) -> str:
        return far()

    @cached_property
    def kept(self) -> str:
        return "kept"

    def plain(self) -> str:
        return self.place

    def nested(self) -> list[str]:
        return [(lambda: self.kept)() for _ in "a"]

    def again(self) -> int:
        return partial(len, [self.again])()

    def reads(self) -> None:
        wasmfile.Module.parse(b"")

    def patches(self) -> None:
        apply("", Path(), lambda name: True)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("plain", "helper far place plain"),
        ("nested", "kept nested"),
        ("again", "again"),
        ("reads", "reads"),
    ],
)
def test_what_a_function_uses_of_its_file(method: str, names: str) -> None:
    """Through properties, nested functions and functions that it passes on, and each once."""
    assert [function.__name__ for function in uses.functions(getattr(Some, method))] == names.split()
    assert uses.functions(getattr(Some(), method)) == uses.functions(getattr(Some, method))


def test_the_source_is_that_of_all_of_them() -> None:
    """A change in any of them is a change of the text."""
    text = uses.source(Some.plain)
    assert "return self.place" in text
    assert 'return "helper"' in text
    assert "unrelated" not in text


def test_modules_are_found_as_modules_and_by_what_comes_from_them() -> None:
    """With what they import; what is left out is left out with its imports."""
    assert uses.modules(Some.reads) == ["wasmfile"]
    assert uses.modules(Some.patches) == ["patch"]
    assert "archive" in uses.imported(TREE / "wasm/imagebuild/toolchain.py")
    assert uses.modules(Some.reads, frozenset({"wasmfile"})) == []
