"""tests/sandbox/test_every_limit.py, with the nodes in worker processes."""

import pytest

import cloche
from tests.sandbox.test_every_limit import *  # noqa: F403


@pytest.fixture(scope="module")
def fuelled(recorder):
    """Fuel metering has an engine of its own."""
    with cloche.Runtime(metering="fuel", logger=recorder, isolation="process", workers=1) as made:
        yield made


test_fuel_that_a_call_leaves_is_no_limit_of_the_next_one = None  # it sets limits behind the worker's back
