"""The guest's tree of calls, natively: what is counted where, and that it stays small."""

from __future__ import annotations

import gc
import struct
import sys
from typing import Any

import pytest

from cloche_guest import profile
from cloche_wire import Op, Reply
from tests.guest.conftest import Bench

SOURCE = """
def leaf(n):
    return sum(range(n))
def process(data):
    if data == "generator":
        return values()
    if data == "coroutine":
        return later()
    if data == "raise":
        return guarded()
    if data == "flood":
        return flood()
    if data == "chains":
        return left(13)
    return [leaf(n) for n in range(3)][0]
def values():
    for n in range(3):
        yield leaf(n)
async def later():
    return await inner()
async def inner():
    return leaf(5)
def guarded():
    try:
        broken()
    except ValueError:
        return leaf(1)
def broken():
    raise ValueError
def left(n):
    return n and left(n - 1) + right(n - 1)
def right(n):
    return n and left(n - 1) + right(n - 1)
def flood():
    for n in range(3000):
        space = {}
        exec(f"def f{n}{'x' * 1000}(): pass", space)
        space.popitem()[1]()
"""

Tree = dict[tuple[str, ...], int]


class Profiled:
    """A bench whose calls are counted, and the functions that it has named so far."""

    def __init__(self, bench: Bench, builtins: bool) -> None:
        gc.collect()  # what other tests left would be finalised, and counted, in the middle of this one
        self.bench = bench
        bench.load(SOURCE, "process")
        kind, self.cost = bench.send(Op.PROFILE, "start", builtins)
        assert kind is Reply.RESULT
        self.functions: list[list[str]] = []

    def take(self) -> tuple[list[tuple[int, ...]], int]:
        """Nodes of the tree since the last time, and how many calls found no place."""
        kind, (text, numbers, dropped) = self.bench.send(Op.PROFILE, "take")
        assert kind is Reply.RESULT
        fields = text.split("\n") if text else []
        self.functions += [fields[at : at + 3] for at in range(0, len(fields), 3)]
        return list(struct.iter_unpack("<4q", numbers)), dropped

    def tree(self, data: Any) -> Tree:
        """Calls by chain of callers, after one call of process."""
        self.bench.process(data)
        nodes, _ = self.take()
        chains: list[tuple[str, ...]] = []
        for parent, function, _, _ in nodes:
            above = chains[parent] if parent >= 0 else ()
            chains.append((*above, self.functions[function][0]))
        return {chain: node[2] for chain, node in zip(chains, nodes, strict=True)}


def count(tree: Tree, *suffix: str) -> int:
    """Calls of the last one, however the event loop came to the first."""
    return sum(calls for chain, calls in tree.items() if chain[-len(suffix) :] == suffix)


@pytest.fixture
def profiled(bench: Bench, request: pytest.FixtureRequest) -> Any:
    yield Profiled(bench, getattr(request, "param", False))
    bench.send(Op.PROFILE, "stop")


def test_calls_are_counted_under_their_callers(profiled: Profiled) -> None:
    """That is what tells a slow function from one that is called too often."""
    tree = profiled.tree(1)
    assert tree["process",] == 1
    assert [calls for chain, calls in tree.items() if chain[-1] == "leaf"] == [3]


@pytest.mark.parametrize("profiled", [True], indirect=True)
def test_calls_into_c_are_leaves(profiled: Profiled) -> None:
    """A numpy node spends its time there."""
    tree = profiled.tree("coroutine")
    assert count(tree, "later", "inner", "leaf", "sum") == 1


def test_a_generator_counts_each_resumption(profiled: Profiled) -> None:
    """It is on the stack only while it runs, so the time of whoever resumes it is not its own."""
    tree = profiled.tree("generator")
    assert tree["values",] == 4
    assert tree["values", "leaf"] == 3


def test_coroutines_nest(profiled: Profiled) -> None:
    """`await` is a call like another."""
    assert count(profiled.tree("coroutine"), "later", "inner", "leaf") == 1


def test_exceptions_leave_the_stack_in_order(profiled: Profiled) -> None:
    """What runs after an exception must not count for the function that raised."""
    tree = profiled.tree("raise")
    assert tree["process", "guarded", "broken"] == 1
    assert tree["process", "guarded", "leaf"] == 1


def test_callees_have_no_more_time_than_their_callers(profiled: Profiled) -> None:
    """The same clock reads both, so this holds exactly."""
    profiled.bench.process("generator")
    profiled.bench.process(1)
    nodes, _ = profiled.take()
    left = [spent for _, _, _, spent in nodes]
    for parent, _, calls, spent in nodes:
        assert calls > 0
        if parent >= 0:
            left[parent] -= spent
    assert min(left) >= 0


def test_file_and_line_are_the_nodes_own(profiled: Profiled) -> None:
    """So that a reader finds the function."""
    profiled.tree(1)
    assert ["leaf", "node.py", "2"] in profiled.functions
    assert not [name for name, file, _ in profiled.functions if "cloche_guest" in file], "the runtime is not shown"


def test_each_take_starts_anew_and_names_only_what_is_new(profiled: Profiled) -> None:
    """It is taken after every call: what has been sent stays with the host."""
    profiled.tree(1)
    known = len(profiled.functions)
    assert profiled.tree(1)["process",] == 1
    assert len(profiled.functions) == known


def test_a_flood_of_functions_is_bounded(profiled: Profiled) -> None:
    """A node may make functions without end; the profile may not grow with them."""
    profiled.bench.process("flood")
    nodes, dropped = profiled.take()
    assert len(profiled.functions) == profile.MAX_FUNCTIONS
    assert max(len(name) for name, _, _ in profiled.functions) < 300
    assert dropped == 0
    assert sum(calls for _, _, calls, _ in nodes) >= 6000 + 2, "what has no name is counted all the same"
    assert len({node[:2] for node in nodes}) == len(nodes)


def test_a_flood_of_call_chains_is_bounded(profiled: Profiled) -> None:
    """Two functions that call each other both ways make a tree of any size."""
    profiled.bench.process("chains")
    nodes, dropped = profiled.take()
    assert len(nodes) == profile.MAX_NODES
    assert dropped > 1000


def test_nothing_is_left_behind(bench: Bench) -> None:
    """A node that is not profiled any more runs as fast as before."""
    before = sys.getprofile()
    Profiled(bench, True)
    bench.send(Op.PROFILE, "stop")
    assert sys.getprofile() is before
    kind, failure = bench.send(Op.PROFILE, "take")
    assert (kind, failure["message"]) == (Reply.FAILURE, "nothing is being profiled")


def test_a_copy_of_a_profiled_node_is_not_profiled(profiled: Profiled) -> None:
    """RESEED is the first thing that a clone hears."""
    profiled.bench.send(Op.RESEED, bytes(32))
    assert profiled.bench.send(Op.PROFILE, "take")[0] is Reply.FAILURE
