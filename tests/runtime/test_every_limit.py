"""Each field of `Limits`, passed by a node: what says so names the limit, its value and what was reached."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest

import cloche
from cloche import Limits
from tests.limits import patient

RUN = """
import logging, sys
log = logging.getLogger("n")
class N:
    def process(self, code):
        env = {"log": log}
        exec(code, env)
        return env.get("result")
"""
RECURSE = "def r(n): return r(n + 1)\nr(0)"
SWALLOW = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
DEEP = "result = []\nfor _ in range(40): result = [result]"


@dataclass(frozen=True)
class Case:
    """How to pass a limit.

    Attributes:
        limits: the field with the value that is passed, and others that must not come first.
        code: what the node runs.
        error: what the caller gets.
        text: what its message says, besides the field's name.
        reached: range of ``error.reached``; None: only the text tells.
        broken: whether the node is, afterwards.
    """

    limits: dict[str, Any]
    code: Any
    error: type[cloche.ClocheError]
    text: str
    reached: tuple[float, float] | None
    broken: bool = False


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


CASES = {
    "deadline_s": Case({"deadline_s": 0.1}, "while True: pass", cloche.DeadlineError, "ran ", (0.1, math.inf)),
    "grace_s": Case({"grace_s": 0.05, "deadline_s": 0.1}, SWALLOW, cloche.HardDeadlineError, "0.05 s of grace", None, True),
    "memory_bytes": Case(
        {"memory_bytes": 64 << 20}, "a = []\nwhile True: a.append(bytearray(1 << 20))", cloche.NodeRaisedError,
        "67108864", (48 << 20, 64 << 20),
    ),
    "fuel": Case({"fuel": 3_000_000}, "while True: pass", cloche.FuelError, "burned 3000000", (3e6, 3e6), True),
    "stack_depth": Case({"stack_depth": 500}, RECURSE, cloche.NodeRaisedError, "500", (480, 500)),
    "stream_items": Case({"stream_items": 3}, None, cloche.StreamLimitError, "gave 4 outputs", (4, 4)),
    "stream_s": Case({"stream_s": 0.1}, None, cloche.StreamLimitError, "ran ", (0.1, math.inf)),
    "request_bytes": Case({"request_bytes": 9999}, "#" * 20_000, cloche.EncodeError, "200", (20_000, 20_050)),
    "reply_bytes": Case({"reply_bytes": 99_999}, "result = 'x' * 10**6", cloche.NodeRaisedError, "takes 1000", None),
    "value_nodes": Case({"value_nodes": 999}, "result = list(range(5000))", cloche.NodeRaisedError, "500", None),
    "value_depth": Case({"value_depth": 16}, DEEP, cloche.NodeRaisedError, "more than 16 containers", None),
    "output_bytes": Case(
        {"output_bytes": 9999}, "while True: print('x' * 999)", cloche.OutputError, "wrote 10000", (10_000, 10_999), True
    ),
}  # fmt: skip
LOGGED = {
    "log_records": ({"log_records": 10}, "for i in range(500): log.info(i)", "490 of 500 log records dropped (log_records=10"),
    "log_bytes": ({"log_bytes": 300}, "log.info('x' * 5000)", "[4700 characters cut: log_bytes=300]"),
}  # fmt: skip
NO_LIMIT = {"log_level"}


@pytest.fixture(scope="module")
def fuelled(recorder) -> Iterator[cloche.Runtime]:
    """Fuel metering has an engine of its own."""
    with cloche.Runtime(metering="fuel", logger=recorder, limits=patient()) as made:
        yield made


def _overrun(field: str, node: cloche.Node, code: Any) -> None:
    if field == "stream_items":
        assert list(node.stream(["result = 1"] * 3)) == [1, 1, 1]
        list(node.stream(["result = 1"] * 4))
    elif field == "stream_s":
        list(node.stream("import time; time.sleep(0.03); result = 1" for _ in range(9)))
    else:
        node.process(code)


@pytest.mark.parametrize("field", [field.name for field in fields(Limits)])
def test_the_error_names_limit_value_and_what_was_reached(field, runtime, fuelled, load, logs):
    """A new field without a case here fails: whoever adds a limit shows that it holds."""
    if field in NO_LIMIT:
        return
    if field in LOGGED:
        limits, code, text = LOGGED[field]
        load(RUN, "N", limits=patient(**limits)).process(code)
        assert any(text in message for _, message, _ in logs.take())
        return
    if field == "load_s":
        with pytest.raises(cloche.DeadlineError, match="still loading after 0.1 s.*load_s=0.1") as late:
            load("while True: pass", limits=Limits(load_s=0.1, grace_s=60))
        assert (late.value.limit, late.value.value) == ("load_s", 0.1) and late.value.reached >= 0.1
        return
    case = CASES[field]
    limit = Limits(**{"deadline_s": 20.0, "grace_s": 60.0, **case.limits})
    with (fuelled if field == "fuel" else runtime).load(cloche.Source(RUN), "N", limits=limit) as node:
        with pytest.raises(case.error) as caught:
            _overrun(field, node, case.code)
        error = caught.value
        assert field.removesuffix("_s") in str(error)
        assert str(case.limits[field]) in str(error)
        assert case.text in str(error)
        if case.reached is not None:
            assert (error.limit, error.value) == (field, case.limits[field])
            assert case.reached[0] <= error.reached <= case.reached[1]
        assert node.broken is case.broken
        if not case.broken:
            assert node.process("result = 5") == 5


def test_a_request_that_is_too_deep_has_the_facts_as_well():
    """The caller's own value: an EncodeError that says where."""
    with pytest.raises(cloche.EncodeError) as caught, cloche.Runtime(limits=patient()) as runtime:
        runtime.load(cloche.Source("def f(x): return x"), limits=patient(value_depth=16)).process(_nested(40))
    error = caught.value
    assert (error.limit, error.value, error.reached) == ("value_depth", 16, 17)


def test_fuel_is_the_same_in_every_run(fuelled):
    """A count of instructions: per call, and in all."""
    source = cloche.Source("import json\ndef f(n):\n    return len(json.dumps([{'k': i} for i in range(n)]))\n")

    def run() -> list[tuple[int, int]]:
        with fuelled.load(source, "f") as node:
            counts = []
            for size in (10, 1000, 10, 10):
                node.process(size)
                counts.append((node.stats.last_fuel, node.stats.fuel))
            return counts

    first, second = run(), run()
    burned = [last for last, _ in first]
    assert burned == [last for last, _ in second]
    assert burned[1] > 10 * burned[0] > 0
    assert [total - first[0][1] for _, total in first[1:]] == [sum(burned[1 : i + 1]) for i in (1, 2, 3)]


def test_fuel_that_a_call_leaves_is_no_limit_of_the_next_one(fuelled):
    """Also not for placing a large value in the guest, before it is called."""
    source = cloche.Source("def f(x):\n    return len(x)\n")
    with fuelled.load(source, "f") as node:
        burned = []
        for _ in range(5):
            node.process(bytes(200_000))
            burned.append(node.stats.last_fuel)
        node._sandbox.limits = Limits(fuel=max(burned[1:]) + 100)
        for _ in range(20):
            assert node.process(bytes(200_000)) == 200_000


def test_without_fuel_metering_none_is_counted(load):
    """Zero, not a guess."""
    node = load(RUN, "N")
    node.process("result = 1")
    assert (node.stats.fuel, node.stats.last_fuel) == (0, 0)


@pytest.mark.parametrize("wanted", [10**9, 501])
def test_the_node_cannot_raise_its_recursion_limit(load, wanted):
    """It asks in vain, and is told so by what it gets; lowering it is its own affair."""
    node = load(RUN, "N", limits=patient(stack_depth=500))
    assert node.process("import sys; result = sys.getrecursionlimit()") == 500
    with pytest.raises(cloche.NodeRaisedError, match=r"RecursionError.*(?s:.)*Limits.stack_depth=500") as caught:
        node.process(f"import sys; sys.setrecursionlimit({wanted})\n{RECURSE}")
    assert 400 < caught.value.reached <= 500
    assert node.process("import sys; sys.setrecursionlimit(200); result = sys.getrecursionlimit()") == 200


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import sys; sys.setrecursionlimit(-1)", "ValueError"),
        ("import sys; sys.setrecursionlimit(1)", "RecursionError"),
        ("import sys; sys.setrecursionlimit('x')", "TypeError"),
        ("import _cloche; _cloche.configure(1 << 40, 1 << 40, 1 << 30, 1 << 20, 1 << 30)", "RuntimeError"),
    ],
)
def test_setrecursionlimit_refuses_what_cpython_s_does(load, code, kind):
    """And the limits of an instance are set once."""
    node = load(RUN, "N", limits=patient(stack_depth=500))
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(code)
    assert caught.value.exc_type == kind
    assert node.process("import sys; result = sys.getrecursionlimit()") == 500


def test_a_deep_stack_is_there_if_the_host_says_so(load):
    """Python frames live in linear memory, not on the native stack."""
    node = load(RUN, "N", limits=patient(stack_depth=60_000))
    code = "def r(n): return r(n - 1) + 1 if n else 0\nresult = r({})"
    assert node.process(code.format(50_000)) == 50_000
    with pytest.raises(cloche.NodeRaisedError, match="RecursionError"):
        node.process(code.format(70_000))


@pytest.mark.parametrize("grace_s", [0.0, 60.0], ids=["hard", "soft"])
def test_a_step_that_outlives_its_stream_is_a_deadline(load, grace_s):
    """Without deadline_s, stream_s holds within a step, too."""
    node = load(RUN, "N", limits=Limits(stream_s=1.0, deadline_s=None, grace_s=grace_s))
    with pytest.raises(cloche.DeadlineError, match=r"in one stream.*\(Limits.stream_s=1.0\)") as caught:
        list(node.stream(["result = 1", "while True: pass"]))
    assert (caught.value.limit, caught.value.value, caught.value.item) == ("stream_s", 1.0, 1)
    assert caught.value.reached >= 1.0
    assert node.broken is (not grace_s)
    if node.broken:
        assert caught.value.data == ("while True: pass",)
    else:
        assert list(node.stream(["result = 1"])) == [1]


def test_time_between_steps_is_the_host_s(load):
    """A slow consumer does not use up what its node has; a second stream begins anew."""
    node = load(RUN, "N", limits=patient(stream_s=1.0))
    for _ in range(2):
        done = 0
        for _output in node.stream(["result = 1"] * 5):
            done += 1
            load(RUN, "N").process("import time; time.sleep(0.25)")
        assert done == 5


def test_a_stream_that_is_ended_closes_the_node_s_generators(load):
    """Their finally blocks run, and the next stream starts afresh."""
    node = load(
        "class N:\n    def __init__(self): self.closed = 0\n    def process(self, x):\n        try:\n"
        "            while True: yield x\n        finally:\n            self.closed += 1\n",
        limits=patient(stream_items=5),
    )
    for number in (1, 2):
        with pytest.raises(cloche.StreamLimitError):
            list(node.stream(["a"]))
        assert node.get("closed") == number


def test_log_level_is_the_guest_s_threshold(load, logs):
    """It is in `Limits`, but nothing can pass it."""
    node = load(RUN, "N", limits=patient(log_level=logging.ERROR))
    node.process("log.warning('no'); log.error('yes')")
    assert [message for _, message, _ in logs.take()] == ["yes"]


RAISES = """
def deeper(n): return deeper(n - 1) if n else 1 / 0
class N:
    def initialize(self): pass
    def aprocess(self, x): return self.process(x)
    def flush(self): pass
    def cleanup(self): pass
    def process(self, x):
        if not x:
            return "answered"
        try:
            deeper(40)
        except ZeroDivisionError as cause:
            error = KeyError("long" * 2000)
            error.add_note("a note")
            raise error from cause
"""


def test_under_the_least_limits_a_node_loads_and_its_errors_arrive(load):
    """Shortened, but with their class: limits are of what a node sends, and none hides what it has raised."""
    least = patient(value_nodes=50, reply_bytes=1024, value_depth=4, request_bytes=1024, log_bytes=256, stack_depth=100)
    node = load(RAISES, "N", limits=least)
    assert node.process(0) == "answered"
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(1)
    failure = caught.value.failure
    assert (failure.exc_type, failure.phase, failure.cause) == ("KeyError", "call", None)
    assert failure.message.startswith("'longlong")
    with pytest.raises(cloche.NodeLoadError) as caught_load:
        load("def f(n): return f(n - 1) if n else {}['missing']\nf(30)", limits=least)
    assert caught_load.value.exc_type == "KeyError"
    with pytest.raises(ValueError, match="Limits.value_nodes is 49: give a number from 50"):
        Limits(value_nodes=49)
