"""A runtime for all benches. Native CPython stands beside every figure, in the same run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cloche


@pytest.fixture(scope="session")
def runtime() -> Iterator[cloche.Runtime]:
    """The default metering; logs on, and no node of the benches writes any."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0)) as made:
        yield made


@pytest.fixture(scope="session")
def epoch() -> Iterator[cloche.Runtime]:
    """As `runtime`, with deadlines by epochs."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0), metering="epoch") as made:
        yield made
