"""The language and the library natively: what shows that the checks themselves are right."""

from __future__ import annotations

import ast

import pytest

from cloche.testing import LocalGuest
from tests.reference import LIBRARY_NODE

CHECKS = [
    node.name for node in ast.parse(LIBRARY_NODE.read_text()).body if getattr(node, "name", "").startswith("check_")
]


@pytest.fixture(scope="module")
def checks():
    """One node for all."""
    with LocalGuest(LIBRARY_NODE, "Checks") as node:
        yield node


@pytest.mark.parametrize("check", CHECKS)
def test_library(checks, check):
    """The check raises if something is not as it should be."""
    assert checks.process(check) == check


def test_checks_can_fail(checks):
    """An assertion in the node is a failure here."""
    import cloche

    with pytest.raises(cloche.NodeRaisedError):
        checks.process("math")
