"""Each limit holds on its own, and its error says which one it was."""

from __future__ import annotations

import pytest

import cloche

RUN = "class N:\n    def process(self, code):\n        env = {}\n        exec(code, env)\n        return env.get('result')\n"
KEEPING = """
class N:
    def __init__(self):
        self.kinds = []
    def process(self, code):
        env, kind = {}, None
        try:
            exec(code, env)
        except BaseException as error:
            kind = type(error).__name__
            raise
        finally:
            self.kinds.append(kind)
        return env.get("result")
"""


@pytest.fixture
def run(load):
    """A node that runs a statement, with the given limits."""

    def make(**limits):
        return load(RUN, "N", limits=cloche.Limits(**{"deadline_s": 20.0, **limits}))

    return make


HEARD = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(1e6)",
    "iter": "for _ in iter(int, 1): pass",
    "asyncio": "import asyncio; asyncio.run(asyncio.sleep(1e6))",
    "regex": "import re; re.match('(a*)*b', 'a' * 40)",
}
"""What looks for an interrupt by itself."""
DEAF = {
    "sum": "sum(range(10**12))",
    "next": "next(filter(None, iter(int, 1)))",
    "swallow": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
}
"""What never hears one."""
EITHER = {
    "power": "9**9**9",
    "matmul": "import numpy as np; a = np.ones((400, 400))\nwhile True: a @ a",
}


@pytest.fixture(params=["epoch", "guard"])
def metered(request, runtime, epoch_runtime):
    """Both ways to stop a guest."""
    return runtime if request.param == runtime.metering else epoch_runtime


@pytest.mark.sampled
@pytest.mark.parametrize("code", (all_of_them := HEARD | DEAF | EITHER).values(), ids=all_of_them)
def test_without_grace_a_deadline_stops_the_node(metered, code):
    """Time in C code, in sleep and in except clauses counts alike."""
    node = metered.load(cloche.Source(RUN), "N", limits=cloche.Limits(deadline_s=0.2, grace_s=0))
    with pytest.raises(cloche.HardDeadlineError) as caught:
        node.process(code)
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.2)
    assert caught.value.reached >= 0.2
    assert node.broken
    with pytest.raises(cloche.ClosedError):
        node.process("result = 1")


@pytest.mark.parametrize("code", HEARD.values(), ids=HEARD)
def test_a_deadline_interrupts_what_hears_it(metered, code):
    """The node has its exception where it was, and is usable afterwards, with its state."""
    node = metered.load(cloche.Source(KEEPING), "N", limits=cloche.Limits(deadline_s=0.2, grace_s=60))
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process(code)
    assert type(caught.value) is cloche.DeadlineError
    assert (caught.value.limit, caught.value.value) == ("deadline_s", 0.2)
    assert caught.value.reached >= 0.2
    assert "in process" in caught.value.guest_traceback
    assert not node.broken
    assert node.process("result = 1") == 1
    assert node.get("kinds") == ["DeadlineExceeded", None]


@pytest.mark.parametrize("code", DEAF.values(), ids=DEAF)
def test_what_does_not_hear_a_deadline_is_stopped_after_the_grace(metered, code):
    """The error says so."""
    node = metered.load(cloche.Source(RUN), "N", limits=cloche.Limits(deadline_s=0.2, grace_s=0.05))
    with pytest.raises(cloche.HardDeadlineError, match=r"went on for 0\.05 s of grace") as caught:
        node.process(code)
    assert caught.value.reached >= 0.25
    assert "in N.process" in caught.value.guest_traceback
    assert node.broken


@pytest.mark.parametrize("grace_s", [0.0, 60.0], ids=["hard", "soft"])
def test_load_s_holds_for_the_import(metered, grace_s):
    """Loading has a limit of its own, and the error names it."""
    limits = cloche.Limits(load_s=0.2, deadline_s=60, grace_s=grace_s)
    with pytest.raises(cloche.DeadlineError, match=r"still loading after 0\.2 s.*Limits\.load_s=0\.2") as caught:
        metered.load(cloche.Source("while True: pass"), "N", limits=limits)
    assert isinstance(caught.value, cloche.HardDeadlineError) is (not grace_s)
    assert (caught.value.limit, caught.value.value) == ("load_s", 0.2)
    assert caught.value.reached >= 0.2


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
