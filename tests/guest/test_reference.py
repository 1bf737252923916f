"""The eleven reference nodes, natively."""

from __future__ import annotations

import pytest

from cloche.testing import LocalGuest
from tests.reference import CASES, NODES, live


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.entry)
def test_reference_node(case):
    """Values, stream, attributes and logs as the contract states them."""
    with LocalGuest(NODES, case.entry, case.params) as node:
        live(node, case)
        assert [(record.logger, record.message) for record in node.records] == case.logs


def test_there_are_eleven():
    """None is forgotten."""
    assert len({case.entry for case in CASES}) == 11
