"""Long lists of numbers travel as one byte string, and arrive as the lists that they were."""

from __future__ import annotations

import math

import pytest

import cloche
from tests.limits import patient

pytestmark = pytest.mark.isolation("none", reason="the codec is the same for both")

N = 200
LISTS = {
    "ints": list(range(N)),
    "64-bit ints": [(-1) ** i * ((1 << 63) - 1 - i) for i in range(N)] + [-(1 << 63)],
    "one bignum": [*range(N), 1 << 63],
    "one bool": [*range(N), True],
    "bools": [True, False] * N,
    "floats": [i / 7 for i in range(N)],
    "odd floats": [math.inf, -math.inf, -0.0, 5e-324] * N,
    "ints and floats": [1, 2.0] * N,
    "floats and none": [*map(float, range(N)), None],
    "just long enough": list(range(64)),
    "just too short": list(range(63)),
    "nested": {"a": list(range(N)), "b": [[float(i) for i in range(N)], list(range(N))]},
    "long": list(range(100_000)),
}


@pytest.fixture(scope="module")
def echo(runtime):
    """Returns a changed copy, so that both directions are real."""
    with runtime.load(cloche.Source("import copy\ndef f(x):\n    return copy.deepcopy(x)\n"), "f") as node:
        yield node


def flat(value):
    """Values with their types."""
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if isinstance(value, list):
        return [flat(item) for item in value]
    return type(value), math.copysign(1, value) if isinstance(value, float) else 0, value


@pytest.mark.parametrize("value", LISTS.values(), ids=LISTS)
def test_numbers_arrive_with_value_and_type(echo, value):
    """Ints stay ints, bools bools, -0.0 keeps its sign."""
    assert flat(echo.process(value)) == flat(value)


def test_nan_in_a_long_list(echo):
    """It is not equal to itself, so apart."""
    result = echo.process([math.nan] * N)
    assert len(result) == N
    assert all(math.isnan(x) for x in result)


def test_each_number_counts_for_value_nodes(load):
    """The budget of items is not dodged by packing them; the node stays usable."""
    node = load("def f(n):\n    return list(range(n))\n", limits=patient(value_nodes=1000))
    assert len(node.process(900)) == 900
    with pytest.raises(cloche.NodeRaisedError, match="value_nodes"):
        node.process(1100)
    assert len(node.process(10)) == 10


def test_the_same_list_twice_arrives_as_two_lists(echo):
    """As every mutable container."""
    numbers = list(range(N))
    one, other = echo.process([numbers, numbers])
    assert one == other == numbers
    assert one is not other
