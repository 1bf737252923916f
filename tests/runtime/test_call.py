"""`Node.call`, keyword arguments of `Node.process`, and streams without input: in both isolations and in a `LocalGuest`."""

from __future__ import annotations

import asyncio

import pytest

import cloche
from tests.guest.test_call import ALONE, CALLS, KEYWORDS, METHODS, NODE, REFUSED
from tests.limits import patient


@pytest.mark.parametrize("case", CALLS)
def test_public_method(make, case):
    """Of every kind, as Python would call it."""
    (method, *arguments), keywords, expected = CALLS[case]
    node = make(NODE, "N")
    assert node.call(method, *arguments, **keywords) == expected
    assert asyncio.run(node.acall(method, *arguments, **keywords)) == (13 * 2 if method == "add" else expected)


@pytest.mark.parametrize("case", ["nearly right", "absent", "attribute"])
def test_what_is_no_method_is_the_nodes_attribute_error(make, case):
    """The node stays usable."""
    method, message = REFUSED[case]
    node = make(NODE, "N")
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.call(method)
    assert (caught.value.exc_type, caught.value.message) == ("AttributeError", message)
    assert node.call("still") == "static"
    assert METHODS in message


@pytest.mark.parametrize(
    ("method", "kind", "message"),
    [("_private", ValueError, "method is '_private': give the name of a public method, without a leading underscore"),
     ("__init__", ValueError, "method is '__init__': give the name of a public method, without a leading underscore"),
     ("a.b", ValueError, "method is 'a.b': give the name of a public method, without a leading underscore"),
     ("", ValueError, "method is '': give the name of a public method, without a leading underscore"),
     (None, TypeError, "method is None: give the name of a method of the node, as in node.call('reset')")],
)  # fmt: skip
def test_wrong_name_is_refused_before_the_node_is_called(make, method, kind, message):
    """As any wrong argument."""
    node = make(NODE, "N")
    calls = node.stats.calls
    with pytest.raises(kind) as caught:
        node.call(method)
    assert str(caught.value) == message
    assert node.stats.calls == calls


@pytest.mark.parametrize("shape", KEYWORDS)
def test_keyword_arguments_of_process(make, shape):
    """Every name is the node's, also those of Cloche's own parameters and limits."""
    node = make(KEYWORDS[shape], "N")
    more = {"deadline_s": 3, "method": 4, "data": 5, "items": 6}
    assert node.process(1, y=2, **more) == [1, 2, more]
    assert node.process(x=1) == [1, 0, {}]
    assert asyncio.run(node.aprocess(1, y=3)) == [1, 3, {}]


def test_name_self_is_the_nodes_too(make):
    """`Node.process` and `Node.call` take theirs by position."""
    node = make("class N:\n def process(me, /, **names): return names\n other = process")
    assert node.process(self=1, data=2) == {"self": 1, "data": 2}
    assert node.call("other", self=1, method=2) == {"self": 1, "method": 2}


def test_paths_of_arguments_that_cannot_be_sent(make):
    """By position, or by name."""
    node = make(NODE, "N")
    for attempt, path in (
        (lambda: node.process(object(), times=1), "arguments[0]"),
        (lambda: node.process(1, times=[object()]), "arguments.times[0]"),
        (lambda: node.call("add", 1, {"k": object()}), "arguments[1].k"),
    ):
        with pytest.raises(cloche.EncodeError) as caught:
            attempt()
        assert caught.value.path == path
    assert node.process(2, times=3) == 6


def test_many_numbers_as_arguments(make):
    """They travel as one byte string."""
    assert make(NODE, "N").call("add", *range(100)) == 4950


def test_function_has_no_methods(make):
    """The error says what to do instead."""
    node = make("def double(x): return 2 * x")
    with pytest.raises(
        cloche.NodeRaisedError, match=r"double is a function, which has no methods: call it with process\(\)"
    ):
        node.call("reset")
    assert node.call("process", 4) == 8


@pytest.mark.parametrize("shape", ALONE)
def test_stream_without_items(make, shape):
    """Plain and awaited."""
    source, outputs = ALONE[shape]
    node = make(source, "N")
    assert list(node.stream()) == outputs
    assert list(node.stream(None)) == outputs

    async def collected():
        return [item async for item in node.astream()]

    assert asyncio.run(collected()) == outputs


def test_stream_of_no_items_processes_nothing(make):
    """An empty input is an input."""
    assert list(make("class N:\n def process(self, data=None): return 'made'").stream([])) == []


STATE = """
import os
class N:
    def __init__(self): self.values = []
    def initialize(self, *values): self.values += values
    def process(self, x): return list(self.values)
    def add(self, x): self.values.append(x)
    def end(self): os._exit(1)
    def hang(self):
        while True: pass
    def cleanup(self): print("cleaned")
"""


def test_state_of_a_call_is_in_snapshots_and_clones(load, runtime):
    """A call is a call."""
    node = load(STATE)
    node.call("add", 1)
    clone = node.clone()
    node.call("add", 2)
    assert (node.process(0), clone.process(0)) == ([1, 2], [1])
    clone.close()


@pytest.mark.parametrize(("on_break", "left"), [("restart", ["made"]), ("restore", ["made", 1])])
def test_recovery(load, on_break, left):
    """A node that a call has broken is brought back; a call counts for checkpoints; `call("initialize")` is `initialize`."""
    node = load(STATE, on_break=on_break)
    node.call("initialize", "made")
    node.call("add", 1)
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.call("end")
    assert caught.value.recovered == on_break
    assert node.process(0) == left


def test_error_of_a_call_that_broke_has_its_arguments(load):
    """As that of a process."""
    node = load(STATE + "    def exit_with(self, x, *, y): os._exit(1)\n")
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.call("exit_with", 5, y=6)
    assert caught.value.data == (5,)


def test_deadline_holds_for_a_call(load):
    """And the node stays usable."""
    node = load(STATE, limits=patient(deadline_s=0.2))
    with pytest.raises(cloche.DeadlineError):
        node.call("hang")
    assert node.process(0) == []


def test_keyword_arguments_in_a_pool(runtime):
    """`Pool.submit` and `asubmit` hand them on."""
    with runtime.pool(cloche.Source("def f(x, y=0): return x - y"), size=2) as pool:
        assert pool.submit(5, y=3).result() == 2
        assert pool.submit(x=5).result() == 5
        assert asyncio.run(pool.asubmit(5, y=1)) == 4
