"""Clocks that are not the host's: what stands still, what moves them, and that all of them agree."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

import cloche
from cloche import Clock, Grants, Limits
from tests.limits import patient

START = 1_500_000_000

READ = """
import asyncio, datetime, time
def f(code):
    return eval(code)
def all_of_them(_):
    return [time.time(), time.monotonic(), time.perf_counter(), datetime.datetime.now(datetime.timezone.utc).timestamp()]
class Node:
    def process(self, code):
        scope = dict(globals())
        exec(code, scope)
        return scope["answer"]
"""


@pytest.fixture
def node(load):
    """A node under that clock, which runs code and returns its `answer`."""
    return lambda clock, **options: load(READ, "Node", grants=Grants(clock=clock), **options)


CLOCKS = "answer = [time.time(), time.monotonic(), time.perf_counter(), datetime.datetime.now(datetime.timezone.utc).timestamp(), time.process_time()]"


def test_a_frozen_clock_stands_still(node):
    """Whatever happens."""
    frozen = node(Clock("frozen", start=START))
    first = frozen.process(CLOCKS)
    assert first[0] == first[3] == START
    assert frozen.process("for _ in range(1000): time.time()\ntime.sleep(10)\n" + CLOCKS) == first


def test_without_a_start_it_is_the_time_of_loading(node):
    """Of the host's clock."""
    before = time.time()
    at = node("frozen").process("answer = time.time()")
    assert before <= at <= time.time()


@pytest.mark.parametrize(
    "start",
    [
        START,
        float(START),
        datetime.fromtimestamp(START, UTC),
        datetime.fromtimestamp(START, timezone(timedelta(hours=3))),
    ],
    ids=repr,
)
def test_a_start_is_seconds_or_a_datetime(node, start):
    """The same moment."""
    assert node(Clock("frozen", start=start)).process("answer = time.time_ns()") == START * 10**9


def test_sleeping_moves_a_virtual_clock_by_so_much(node):
    """All clocks by the same, and no real time passes."""
    virtual = node(Clock("virtual", start=START, step_ns=0))
    assert virtual.process(  # longer than its deadline, if it were real
        "a = time.time(), time.monotonic()\ntime.sleep(3600)\nanswer = [time.time() - a[0], time.monotonic() - a[1]]"
    ) == [3600, 3600]
    assert (
        virtual.process(
            "async def nap():\n    await asyncio.sleep(60)\n    return time.time()\nanswer = asyncio.run(nap())"
        )
        == START + 3660
    )
    assert virtual.process("answer = datetime.datetime.now(datetime.timezone.utc).timestamp()") == START + 3660


def test_timers_of_asyncio_fire_in_order(node):
    """As they would in real time."""
    code = """
async def one(name, delay):
    await asyncio.sleep(delay)
    return name, round(time.monotonic() - began, 3)
async def main():
    global began
    began = time.monotonic()
    done = []
    for task in asyncio.as_completed([one("c", 30), one("a", 10), one("b", 20)]):
        done.append(await task)
    try:
        await asyncio.wait_for(asyncio.sleep(1000), 5)
    except asyncio.TimeoutError:
        done.append(("timeout", round(time.monotonic() - began, 3)))
    return done
answer = asyncio.run(main())
"""
    virtual = node(Clock("virtual", start=START, step_ns=0))
    assert virtual.process(code) == [("a", 10.0), ("b", 20.0), ("c", 30.0), ("timeout", 35.0)]


def test_asyncio_sleep_ends_under_a_frozen_clock_too(node):
    """Its timers are due at once, for they would never be."""
    frozen = node(Clock("frozen", start=START), limits=patient())
    assert (
        frozen.process(
            "async def nap():\n    await asyncio.sleep(60)\n    return time.time()\nanswer = asyncio.run(nap())"
        )
        == START
    )
    assert (
        frozen.process(
            "async def nap():\n    await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))\n    return 1\nanswer = asyncio.run(nap())"
        )
        == 1
    )


def test_reading_moves_a_virtual_clock_by_a_step(node):
    """A loop that waits for a time comes to an end."""
    virtual = node(Clock("virtual", start=START, step_ns=10**6))
    assert virtual.process("n = 0\nend = time.time() + 1\nwhile time.time() < end: n += 1\nanswer = n") == 999
    readings = virtual.process("answer = [time.time_ns() for _ in range(3)]")
    assert [b - a for a, b in pairwise(readings)] == [10**6, 10**6]


def test_the_processor_clock_moves_with_the_others(node):
    """WASI has none of its own: sleeping counts for it, under a real clock, too."""
    virtual = node(Clock("virtual", start=START, step_ns=0))
    assert (
        virtual.process("a = time.process_time_ns()\ntime.sleep(100)\nanswer = time.process_time_ns() - a")
        == 100 * 10**9
    )


@pytest.mark.parametrize("clock", ["frozen", "virtual"])
@pytest.mark.parametrize("code", ["while True: pass", "while True: time.sleep(1)", "while True: time.time()"])
def test_deadlines_are_of_real_time(node, clock, code):
    """A clock of its own gains a node nothing."""
    with pytest.raises(cloche.DeadlineError):
        node(clock, limits=Limits(deadline_s=0.2)).process(code)


@pytest.mark.parametrize("metering", ["none", "guard"])
def test_sleeping_for_ever_ends_at_the_deadline_under_every_metering(metering):
    """Also where nothing else looks at it."""
    with cloche.Runtime(limits=Limits(deadline_s=0.2), metering=metering) as runtime:
        node = runtime.load(cloche.Source(READ), "Node", grants=Grants(clock="virtual"))
        with pytest.raises(cloche.DeadlineError):
            node.process("while True: time.sleep(1)")


def test_a_clock_cannot_be_driven_over_its_end(node):
    """64 bits of nanoseconds."""
    virtual = node(Clock("virtual", start=START))
    assert virtual.process("for _ in range(20): time.sleep(9e8)\nanswer = time.time_ns()") == (1 << 63) - 1
    assert 9 * 10**18 < virtual.process("answer = time.monotonic_ns()") < 1 << 63


def test_log_records_have_the_nodes_time(load, logs):
    """So that they are the same each time, too."""
    seen = []
    source = "import logging\ndef f(x):\n    logging.warning('said')\n"
    with cloche.Runtime(logger=logs, limits=patient()) as runtime:
        node = runtime.load(cloche.Source(source), grants=Grants(clock=Clock("frozen", start=START)))
        node._sandbox._on_records = lambda records, name: seen.extend(records)
        node.process(1)
    assert [record.time_ns for record in seen] == [START * 10**9]


def test_a_clone_and_a_restored_node_go_on_from_there(node, runtime):
    """Time does not run backwards."""
    grants = Grants(clock=Clock("virtual", start=START, step_ns=0))
    virtual = node(Clock("virtual", start=START, step_ns=0))
    virtual.process("time.sleep(100)\nanswer = None")
    saved = cloche.Snapshot.from_bytes(virtual.snapshot().to_bytes())
    with virtual.clone() as twin, runtime.restore(saved, grants=grants) as back, runtime.restore(saved) as real:
        assert twin.process("time.sleep(1)\nanswer = time.time()") == START + 101
        assert back.process("answer = time.time()") == START + 100
        assert real.process("answer = time.time()") > START + 10**8
    assert virtual.process("answer = time.time()") == START + 100


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"mode": "stopped"}, ValueError), ({"start": 5}, ValueError), ({"mode": "frozen", "start": -1}, ValueError),
        ({"mode": "frozen", "start": float("nan")}, ValueError), ({"mode": "frozen", "start": datetime(2020, 1, 1)}, ValueError),
        ({"mode": "frozen", "start": "now"}, TypeError), ({"mode": "virtual", "step_ns": -1}, ValueError),
        ({"mode": "frozen", "start": 1e18}, ValueError),
    ],
    ids=repr,
)  # fmt: skip
def test_clock_checks_its_fields(fields, error):
    """Where it is made."""
    with pytest.raises(error, match=r"clock|Clock"):
        Clock(**fields)


def test_grants_take_the_name_of_a_clock():
    """The short form."""
    assert Grants(clock="virtual").clock == Clock("virtual")
    with pytest.raises(ValueError, match="give one of 'real', 'frozen', 'virtual'"):
        Grants(clock="slow")


def test_a_snapshot_with_clocks_that_are_none_is_refused(node):
    """It may come from anywhere."""
    from dataclasses import replace

    saved = node("virtual").snapshot()
    for outside in (
        {"clock": [1, 2]},
        {"clock": [1, 2, -1]},
        {"clock": 5},
        {"drawn": "x"},
        {"other": 1},
        [],
        {"clock": [1, 2, 1 << 63]},
    ):
        with pytest.raises(cloche.ClocheError, match="clocks"):
            replace(saved, outside=outside)
