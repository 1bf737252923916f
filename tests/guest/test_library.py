"""The language and the library natively: what shows that the checks themselves are right."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from cloche.testing import LocalGuest
from tests.reference import LIBRARY_NODE, SYSTEM_NODE


def checks_of(path: Path) -> list[str]:
    """The names of a file's checks."""
    return [node.name for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("check_")]


CHECKS = checks_of(LIBRARY_NODE)
SYSTEM_CHECKS = checks_of(SYSTEM_NODE)


@pytest.fixture(scope="module")
def checks():
    """One node for all."""
    with LocalGuest(LIBRARY_NODE, "Checks") as node:
        yield node


@pytest.mark.parametrize("check", CHECKS)
def test_library(checks, check):
    """The check raises if something is not as it should be."""
    assert checks.process(check) == check


@pytest.mark.skipif(sys.platform != "linux", reason="what the image has is Linux's")
@pytest.mark.parametrize("check", SYSTEM_CHECKS)
def test_what_stands_on_the_system(check):
    """The promise for the sandbox: what needs no system is as here. CPython alone runs it: a LocalGuest has no threads."""
    namespace: dict[str, object] = {"__name__": "system_node"}
    exec(compile(SYSTEM_NODE.read_text(), str(SYSTEM_NODE), "exec"), namespace)
    namespace[check]()  # type: ignore[operator]


def test_checks_can_fail(checks):
    """An assertion in the node is a failure here."""
    import cloche

    with pytest.raises(cloche.NodeRaisedError):
        checks.process("math")
