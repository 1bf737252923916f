"""A runtime for all benches. Native CPython stands beside every figure, in the same run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cloche


@pytest.fixture(scope="session")
def runtime() -> Iterator[cloche.Runtime]:
    """Epoch metering; logs on, and no node of the benches writes any."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0)) as made:
        yield made


@pytest.fixture(scope="session")
def guarded() -> Iterator[cloche.Runtime]:
    """As `runtime`, with deadlines by page guard."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0), metering="guard") as made:
        yield made
