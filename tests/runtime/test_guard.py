"""Deadlines by page guard on the real image: at any moment, on every path, and the process lives."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref

import numpy as np
import pytest

import cloche
from benches.interrupts import KINDS, Tally, interrupt_all

pytestmark = pytest.mark.isolation("none", reason="the page that stops a guest is of this process")

COUNTER = """
class N:
    def __init__(self):
        self.calls = 0
    def process(self, x):
        self.calls += 1
        return self.calls, x
    def spin(self):
        while True: pass
    def flush(self):
        while True: self.calls += 1
"""


@pytest.fixture
def load(runtime):
    """Load source text as a node of the runtime."""
    nodes = []

    def make(text, entry=None, **options):
        nodes.append(runtime.load(cloche.Source(text, "node.py"), entry, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.__cloche__.discard()


@pytest.mark.parametrize("grace_s", [0.0, 0.1], ids=["hard", "soft"])
def test_every_kind_of_program_is_interrupted_at_random_moments(runtime, grace_s):
    """What the proof by 100,000 interrupts (benches/interrupts.py) does, some hundreds of times."""
    tally = Tally()
    interrupt_all(runtime, count=16 * len(KINDS), threads=4, tally=tally, seed=1, grace_s=grace_s)
    assert tally.wrong == []
    assert tally.count == 16 * len(KINDS)
    assert bool(tally.interrupted) is bool(grace_s)


def test_values_and_arrays_pass_as_ever(load):
    """Compiled without the engine's checks."""
    node = load(COUNTER, "N")
    array = np.arange(100_000, dtype="float32")
    count, back = node.process({"a": [1, "x", None], "b": array})
    assert (count, back["a"]) == (1, [1, "x", None])
    assert np.array_equal(back["b"], array)
    buffer = node.buffer(50_000)
    buffer[:] = 3
    assert float(node.process(buffer)[1].sum()) == 150_000
    with node.lease():
        assert node.process(array)[1][-1] == 99_999


def test_a_buffer_lives_through_the_stop_of_its_node(load):
    """It is an ordinary array afterwards."""
    node = load(COUNTER, "N", limits=cloche.Limits(deadline_s=0.05, grace_s=0))
    buffer = node.buffer(100_000)
    buffer[:] = 7
    with pytest.raises(cloche.DeadlineError):
        node.flush()
    assert float(buffer.sum()) == 700_000
    buffer[:] = 1


@pytest.mark.parametrize("metering", ["epoch", "guard"])
def test_the_last_view_frees_the_memory_of_a_closed_node(runtime, epoch_runtime, metering):
    """At once, not at some collection of cycles: it may be gigabytes."""
    chosen = runtime if metering == runtime.metering else epoch_runtime
    node = chosen.load(cloche.Source(COUNTER), "N")
    buffer = node.buffer(1000)
    store = weakref.ref(node._sandbox._slot)
    gc.collect()
    gc.disable()
    try:
        node.close()
        del node
        assert store() is not None
        buffer[:] = 1
        del buffer
        assert store() is None
    finally:
        gc.enable()


def test_clones_snapshots_and_recycled_stores_work(load, runtime):
    """A node that was restored is stopped as its original is."""
    node = load(COUNTER, "N")
    node.process(None)
    with node.clone() as twin:
        assert twin.process(None) == node.process(None) == (2, None)
    restored = runtime.restore(node.snapshot())
    for _ in range(12):
        with runtime.load(cloche.Source(COUNTER), "N") as other:
            assert other.process("x") == (1, "x")
    restored._sandbox.limit_next_calls(0.05)
    with pytest.raises(cloche.DeadlineError):
        restored.flush()
    assert not restored.broken
    assert restored.process(None)[0] > 2, "its state is what it was when the deadline came"


def test_cancelling_a_task_interrupts_the_guest(load):
    """`aprocess` under asyncio."""
    node = load(COUNTER, "N")

    async def main():
        task = asyncio.create_task(node.aflush())
        while not node.__cloche__.busy:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not node.broken
    assert node.process(None)[1] is None


def test_streams_end_at_the_deadline_of_a_step(load):
    """Outputs before it arrive."""
    node = load("def f(x):\n    yield 1\n    while True: pass\n", "f", limits=cloche.Limits(deadline_s=1.0))
    stream = node.stream([0])
    assert next(stream) == 1
    with pytest.raises(cloche.DeadlineError):
        next(stream)


def test_logs_up_to_the_stop_are_delivered(load):
    """The ring does not lie in the stop page."""
    node = load(
        "import logging\ndef f(x):\n    logging.warning('before')\n    while True: pass\n",
        "f",
        limits=cloche.Limits(deadline_s=1.0, grace_s=0),
    )
    with pytest.raises(cloche.HardDeadlineError) as caught:
        node.process(0)
    assert "before" in [record.message for record in caught.value.last_logs]


def test_growth_while_the_deadline_comes(runtime):
    """The stop page stays where it is, and locked."""
    source = cloche.Source(
        "def f(x):\n    while True:\n        a = []\n        for n in range(100): a.append(bytearray(1 << 17))\n"
    )
    luck = random.Random(2)

    def run():
        for _ in range(10):
            limits = cloche.Limits(deadline_s=0.02 + luck.random() * 0.02, load_s=60, grace_s=0, memory_bytes=128 << 20)
            try:
                node = runtime.load(source, "f", limits=limits)
                node.process(0)
            except cloche.DeadlineError:
                ended.append(1)

    ended: list[int] = []
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 40


def test_an_array_that_claims_to_lie_in_the_stop_page_never_reaches_the_host(load):
    """A view of it would crash the host as soon as the node is stopped."""
    node = load(
        "import numpy as np\n"
        "class Low:\n    __array_interface__ = {'data': (8, False), 'shape': (9000,), 'typestr': '|u1', 'version': 3}\n"
        "def f(x):\n    return np.asarray(Low())\n",
        "f",
    )
    with node.lease(), pytest.raises(cloche.ProtocolError, match="refused"):
        node.process(0)
