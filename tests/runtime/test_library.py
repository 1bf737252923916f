"""The language and the library in the image: the same checks as natively."""

from __future__ import annotations

import pytest

from tests.guest.test_library import CHECKS
from tests.reference import LIBRARY_NODE

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")


@pytest.fixture(scope="module")
def checks(runtime):
    """One node for all."""
    with runtime.load(LIBRARY_NODE, "Checks") as node:
        yield node


@pytest.mark.parametrize("check", CHECKS)
def test_library(checks, check):
    """The check raises if something is not as it should be."""
    assert checks.process(check) == check
