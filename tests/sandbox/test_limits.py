"""Each limit holds on its own, and its error says which one it was."""

from __future__ import annotations

import pytest

import cloche

RUN = "class N:\n    def process(self, code):\n        env = {}\n        exec(code, env)\n        return env.get('result')\n"


@pytest.fixture
def run(load):
    """A node that runs a statement, with the given limits."""

    def make(**limits):
        return load(RUN, "N", limits=cloche.Limits(**{"deadline_s": 20.0, **limits}))

    return make


@pytest.mark.parametrize("metering", ["epoch", "guard"])
@pytest.mark.parametrize(
    "code",
    ["while True: pass", "import time; time.sleep(1e6)", "9**9**9", "sum(range(10**12))", "import re; re.match('(a*)*b', 'a' * 40)",
     "while True:\n    try:\n        while True: pass\n    except BaseException: pass", "for _ in iter(int, 1): pass",
     "import asyncio; asyncio.run(asyncio.sleep(1e6))", "import numpy as np; a = np.ones((400, 400))\nwhile True: a @ a"],
    ids=["loop", "sleep", "power", "sum", "regex", "swallow", "iter", "asyncio", "matmul"],
)  # fmt: skip
def test_deadline(runtime, epoch_runtime, code, metering):
    """Time in C code, in sleep and in except clauses counts alike."""
    chosen = runtime if metering == runtime.metering else epoch_runtime
    node = chosen.load(cloche.Source(RUN), "N", limits=cloche.Limits(deadline_s=0.2))
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process(code)
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.2)
    assert node.broken


@pytest.mark.parametrize("metering", ["epoch", "guard"])
def test_deadline_holds_for_init(runtime, epoch_runtime, metering):
    """Loading is a call too."""
    chosen = runtime if metering == runtime.metering else epoch_runtime
    with pytest.raises(cloche.DeadlineError):
        chosen.load(cloche.Source("while True: pass"), "N", limits=cloche.Limits(deadline_s=0.2))


@pytest.mark.parametrize(
    "code", ["bytearray(3 << 29)", "a = []\nwhile True: a.append(bytearray(1 << 20))", "'x' * 10**9",
             "import numpy as np; np.ones(1 << 26)"],
    ids=["at once", "growth", "text", "numpy"],
)  # fmt: skip
def test_memory_reaches_the_node_as_memory_error(run, code):
    """The node may catch it; uncaught it is the node's own failure, and the node stays usable."""
    node = run(memory_bytes=64 << 20)
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(code)
    assert caught.value.exc_type.endswith("MemoryError")
    assert node.process("result = 1") == 1
    assert node.stats.memory_bytes <= 64 << 20


def test_output_flood_ends_the_instance(run):
    """The host buffers nothing for it."""
    node = run(output_bytes=10_000)
    with pytest.raises(cloche.OutputError) as caught:
        node.process("while True: print('x' * 1000)")
    assert (caught.value.limit, caught.value.value) == ("output_bytes", 10_000)


def test_output_of_each_call_counts_for_itself(run):
    """A long-lived node may print all its life."""
    node = run(output_bytes=1000)
    for _ in range(20):
        node.process("print('x' * 500)")
    assert not node.broken


def test_reply_over_its_limit_is_the_nodes_failure(run):
    """The guest runtime refuses to encode it; the node stays usable."""
    node = run(reply_bytes=100_000)
    with pytest.raises(cloche.NodeRaisedError, match="reply_bytes"):
        node.process("result = 'x' * 200_000")
    with pytest.raises(cloche.NodeRaisedError, match="reply_bytes"):
        node.process("result = ['x' * 1000] * 200")
    assert node.process("result = 1") == 1


def test_request_over_its_limit_is_refused_before_the_guest(run):
    """An EncodeError: the caller's value."""
    node = run(request_bytes=10_000)
    with pytest.raises(cloche.EncodeError, match="request_bytes"):
        node.process("#" * 20_000)
    assert node.process("result = 1") == 1


def test_depth_is_bounded_both_ways(run):
    """value_depth, in the request and in the reply."""
    node = run(value_depth=16)
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(cloche.EncodeError, match="value_depth"):
        node.process(deep)
    with pytest.raises(cloche.NodeRaisedError, match="depth"):
        node.process("result = []\nfor _ in range(40): result = [result]")


def test_node_count_of_a_reply_is_bounded(run):
    """Small items can be many: value_nodes."""
    node = run(value_nodes=1000)
    with pytest.raises((cloche.NodeRaisedError, cloche.ProtocolError), match="value_nodes"):
        node.process("result = list(range(5000))")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deadline_s", 0),
        ("deadline_s", -1.0),
        ("memory_bytes", 1000),
        ("value_depth", 0),
        ("log_bytes", 1 << 30),
        ("reply_bytes", 0),
    ],
)
def test_limit_out_of_range_is_a_value_error(field, value):
    """It names the field, the value and the range."""
    with pytest.raises(ValueError, match=f"Limits.{field} is {value}"):
        cloche.Limits(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("deadline_s", "2"), ("memory_bytes", 1.5), ("fuel", True), ("value_nodes", None)]
)
def test_limit_of_another_type_is_a_type_error(field, value):
    """None only where it means no limit."""
    with pytest.raises(TypeError, match=f"Limits.{field}"):
        cloche.Limits(**{field: value})
