"""The sandbox's tests again, with every node in a worker process; and what only workers can do wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cloche
from tests.conftest import Recorder


@pytest.fixture(scope="package")
def runtime(recorder: Recorder) -> Iterator[cloche.Runtime]:
    """The real image, in two worker processes."""
    limits = cloche.Limits(deadline_s=20.0)
    with cloche.Runtime(logger=recorder, limits=limits, isolation="process", workers=2) as made:
        source = cloche.Source("def f(x): return x")
        with made.load(source), made.load(source):  # start both now: tests that count descriptors need not know
            pass
        yield made


@pytest.fixture
def own(recorder: Recorder) -> Iterator[cloche.Runtime]:
    """A runtime whose workers a test may kill."""
    with cloche.Runtime(logger=recorder, limits=cloche.Limits(deadline_s=20.0), isolation="process", workers=2) as made:
        yield made
