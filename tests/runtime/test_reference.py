"""The eleven reference nodes in the real image: the same table as natively."""

from __future__ import annotations

import pytest

from tests.reference import CASES, NODES, live

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.entry)
def test_reference_node(runtime, logs, case):
    """Values, stream, attributes and logs as the contract states them."""
    with runtime.load(NODES, case.entry, case.params) as node:
        live(node, case)
        assert [(fields["logger"], message) for _, message, fields in logs.take()] == case.logs
