"""What only workers can do wrong. What nodes promise wherever they are is in tests/runtime, which runs in both isolations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import cloche
from cloche._runtime.runtime import Isolation
from tests.conftest import Recorder
from tests.limits import patient


@pytest.fixture(scope="session")
def runtime(runtimes: Callable[[Isolation], cloche.Runtime]) -> cloche.Runtime:
    """The real image, in two worker processes."""
    return runtimes("process")


@pytest.fixture
def own(recorder: Recorder) -> Iterator[cloche.Runtime]:
    """A runtime whose workers a test may kill."""
    with cloche.Runtime(logger=recorder, limits=patient(), isolation="process", workers=2) as made:
        yield made
