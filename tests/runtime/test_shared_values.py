"""One object in several places, and values that would change, through the real image: as in tests/codec/test_shared.py and test_exact.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

import cloche
from tests.codec import strategies as s
from tests.codec.test_shared import PLACES, TWICE, arriving, doubled
from tests.limits import patient

Load = Callable[..., cloche.Node]
ECHO = "def f(x):\n    return x\n"
PAIR = "def f(x):\n    return {'first': x, 'second': [x]}\n"
MAKE = """
import dataclasses, datetime, enum, pathlib
import numpy as np


class NaT(datetime.datetime):
    def __eq__(self, other):
        return False

    __hash__ = None


class Slow(str):
    def __eq__(self, other):
        while True:
            pass

    __hash__ = str.__hash__


class Lying(list):
    def __len__(self):
        return -1

    def __iter__(self):
        while True:
            yield self


def doubled(x, wrap, times=50):
    for _ in range(times):
        x = wrap(x)
    return x


def f(expression):
    return eval(expression, globals())
"""


def test_a_result_beside_its_own_part(load: Load) -> None:
    """What a node most often returns twice."""
    node = load("def f(items):\n    return {'items': items, 'best': max(items, key=lambda i: i['score'])}\n", "f")
    assert node.process([{"score": 1}, {"score": 2}]) == {"items": [{"score": 1}, {"score": 2}], "best": {"score": 2}}


@pytest.mark.parametrize("shared", TWICE.values(), ids=TWICE.keys())
def test_what_is_in_two_places_arrives_in_both(load: Load, shared: Any) -> None:
    """Into the node and out of it, with bodies that lie outside of the message as well."""
    echo, pair = load(ECHO, "f"), load(PAIR, "f")
    for where in PLACES.values():
        value = where(shared)
        assert s.same(echo.process(value), arriving(value))
    arrived = arriving(shared)
    assert s.same(pair.process(shared), {"first": arrived, "second": [arrived]})


def test_the_places_are_apart_in_the_guest(load: Load) -> None:
    """An array in two places is in two blocks of the guest's memory: each is freed once."""
    node = load("def f(a, b):\n    a += 1\n    del a\n    return b\n", "f")
    array = np.zeros(9999)
    for _ in range(3):
        assert not node.process(array, array).any()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        pytest.param("doubled([], lambda x: [x, x])", "value_nodes is 10000", id="lists"),
        pytest.param("doubled((), lambda x: (x, x))", "value_nodes is 10000", id="tuples"),
        pytest.param("doubled({}, lambda x: {1: x, 2: x})", "value_nodes is 10000", id="maps"),
        pytest.param("doubled(['x' * 4000], lambda x: [x, x], 12)", "reply_bytes is 1000000", id="texts"),
        pytest.param("doubled([bytes(5000)], lambda x: [x, x], 11)", "reply_bytes is 1000000", id="bodies"),
        pytest.param("(lambda l: l.append({'a': (l,)}) or l)([1])", "result[1].a[0]: a cycle: this list", id="cycle"),
        pytest.param("[NaT(1, 1, 1)]", "result[0]: cannot encode node.NaT: as a datetime it would be", id="NaT"),
        pytest.param("[Lying([1])]", "Lying: it shows other items than the list has", id="lying"),
        pytest.param("{'p': pathlib.Path('a')}", "pass str(x)", id="path"),
        pytest.param("{1: 2}.keys()", "result: cannot encode dict_keys: pass list(x)", id="keys"),
        pytest.param("np.array([None])", "of dtype object: pass x.tolist()", id="object array"),
        pytest.param("np.longdouble(1)", 'pass x.astype("f8")', id="longdouble"),
    ],
)
def test_a_result_that_is_refused(load: Load, expression: str, text: str) -> None:
    """By the guest, with its path, and the node stays usable."""
    node = load(MAKE, "f", limits=patient(value_nodes=10_000, reply_bytes=1_000_000))
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(expression)
    assert text in caught.value.message.replace(f"{node.name}.", "node.")
    assert node.process("[1, 2]") == [1, 2]


def test_comparing_ends_at_the_deadline(load: Load) -> None:
    """The guest's own comparisons run in the guest."""
    node = load(MAKE, "f", limits=patient(deadline_s=0.2))
    with pytest.raises(cloche.DeadlineError):
        node.process("[Slow('a')]")
    assert node.process("1") == 1


def test_a_request_that_is_refused(load: Load) -> None:
    """By the host, before the guest is entered."""
    node = load(ECHO, "f", limits=patient(value_nodes=10_000, request_bytes=1_000_000))
    for value in (doubled([], lambda x: [x, x]), doubled((), lambda x: {"a": x, "b": (x,)}, 20)):
        with pytest.raises(cloche.EncodeError, match="value_nodes") as caught:
            node.process(value)
        assert caught.value.limit == "value_nodes"
    with pytest.raises(cloche.EncodeError, match="request_bytes"):
        node.process(["x" * 4000] * 1_000_000)
    assert node.process([1]) == [1]


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))), id="offset below a second"),
        pytest.param(datetime(2024, 10, 27, 2, 30, tzinfo=UTC, fold=1), id="fold"),
        pytest.param(np.datetime64("2024-01-01T00:00:00.123456789"), id="nanoseconds"),
        pytest.param(np.datetime64("NaT"), id="NaT"),
        pytest.param(np.array(["NaT", "2024"], ">M8[25s]"), id="array"),
    ],
)
def test_a_moment_is_the_same_after_both_ways(load: Load, moment: Any) -> None:
    """With all that belongs to it."""
    assert s.same(load(ECHO, "f").process(moment), moment)
