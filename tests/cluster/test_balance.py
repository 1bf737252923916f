"""Which chain moves: the one whose move relieves the busiest host the most, and none if it is not worth it."""

from __future__ import annotations

import random

import pytest

from cloche.cluster._balance import next_move

ANYWHERE = frozenset("xyz")


def move(loads, hosts="xyz", **allowed):
    return next_move(loads, hosts, {chain: frozenset(allowed.get(chain, hosts)) for chain in loads})


def test_nothing_moves_without_need():
    assert move({}) is None
    assert move({"a": ("x", 0.9)}) is None, "it would be as busy elsewhere"
    assert move({"a": ("x", 0.1), "b": ("x", 0.1)}) is None, "too little to do"
    assert move({"a": ("x", 0.5), "b": ("y", 0.5), "c": ("z", 0.5)}) is None


def test_a_hot_spot_moves_to_the_idle_host():
    assert move({"a": ("x", 0.9), "b": ("x", 0.8), "c": ("y", 0.9)}) in (("a", "z"), ("b", "z"))


def test_a_new_host_gets_something():
    assert move({"a": ("x", 0.6), "b": ("x", 0.6)}, hosts="xy") in (("a", "y"), ("b", "y"))


def test_only_where_it_may():
    assert move({"a": ("x", 0.9), "b": ("x", 0.9)}, a="x", b="xz") == ("b", "z")
    assert move({"a": ("x", 0.9), "b": ("x", 0.9)}, a="x", b="x") is None


def test_a_host_that_has_left_counts():
    assert move({"a": ("gone", 0.9), "b": ("gone", 0.9)}, hosts="xy", a="x", b="y") is not None


@pytest.mark.parametrize("seed", range(20))
def test_moves_come_to_an_end(seed):
    drawn = random.Random(seed)
    loads = {chain: (drawn.choice("xyz"), drawn.random()) for chain in range(12)}
    for _ in range(40):
        found = next_move(loads, "xyz", dict.fromkeys(loads, ANYWHERE))
        if found is None:
            break
        loads[found[0]] = found[1], loads[found[0]][1]
    else:
        pytest.fail("the chains go round in circles")
    totals = [sum(load for host, load in loads.values() if host == one) for one in "xyz"]
    assert max(totals) - min(totals) < 1.2
