"""Runtimes that all benches of a run share. In the same run, native CPython is measured beside the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cloche


@pytest.fixture(scope="session")
def runtime() -> Iterator[cloche.Runtime]:
    """A runtime of the default metering. Logs are on, but no node of the benches writes any."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0)) as made:
        yield made


@pytest.fixture(scope="session")
def epoch() -> Iterator[cloche.Runtime]:
    """A runtime like `runtime`, with metering "epoch"."""
    with cloche.Runtime(limits=cloche.Limits(deadline_s=30.0), metering="epoch") as made:
        yield made
