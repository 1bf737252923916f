"""asyncio and threads in the image, where there are neither selectors nor threads."""

from __future__ import annotations

import inspect
import time

import pytest

import cloche
from tests.guest import test_loop as native

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

CASES = [(case, expected) for case, expected in native.CASES if case is not native.current]


@pytest.mark.parametrize(("case", "expected"), CASES, ids=[case.__name__ for case, _ in CASES])
@pytest.mark.parametrize("way", ["awaited", "asyncio.run"])
def test_asyncio_works(load, case, expected, way):
    """In a coroutine of the node, and where a plain node runs its own."""
    call = (
        f"async def N(x): return await {case.__name__}()"
        if way == "awaited"
        else f"def N(x): return asyncio.run({case.__name__}())"
    )
    assert load(f"import asyncio\n{inspect.getsource(case)}\n{call}\n", "N").process(0) == expected


@pytest.mark.parametrize("way", native.DEADLOCKS)
def test_deadlock_is_an_error_at_the_await(load, way):
    """It does not wait for the deadline, and the node stays usable."""
    node = load(f"import asyncio\nasync def N(x):\n    if x: return x\n    {native.DEADLOCKS[way]}\n")
    with pytest.raises(cloche.NodeRaisedError, match="deadlock") as caught:
        node.process(0)
    assert caught.value.frames[0].text == native.DEADLOCKS[way]
    assert node.process(1) == 1


def test_sleep_takes_its_time_and_meets_the_deadline(load):
    """It really sleeps, and never longer than the call may."""
    source = "import asyncio\nasync def N(x):\n    await asyncio.sleep(x)\n    return x\n"
    node = load(source)
    began = time.monotonic()
    assert node.process(0.1) == 0.1
    assert time.monotonic() - began >= 0.1
    with pytest.raises(cloche.DeadlineError):
        load(source, limits=cloche.Limits(deadline_s=0.5)).process(1000)


def test_tasks_survive_between_calls_and_advance_with_the_next_one(load):
    """Whatever that call is."""
    node = load(
        "import asyncio\nclass N:\n    ticks = 0\n    async def initialize(self): self.task = asyncio.create_task(self.run())\n"
        "    async def run(self):\n        while True:\n            self.ticks += 1\n            await asyncio.sleep(0)\n"
        "    def process(self, x): return self.ticks\n"
    )
    node.initialize()
    first = node.process(0)
    assert node.process(0) > first


THREADS = "import threading\nfrom concurrent.futures import ThreadPoolExecutor\nclass N:\n    def process(self, code):\n        return eval(code)\n"


def test_thread_pool_runs_inline(load):
    """The futures are done when they come back."""
    assert load(THREADS).process("list(ThreadPoolExecutor(2).map(abs, [-1, 2]))") == [1, 2]


def test_thread_cannot_start_and_says_so(load):
    """With what to use instead."""
    with pytest.raises(cloche.NodeRaisedError, match="this sandbox has no threads"):
        load(THREADS).process("threading.Thread(target=print).start()")


def test_daemon_thread_is_skipped_with_a_warning(load, logs):
    """A base class's housekeeping does not keep a node from loading."""
    load(
        "import threading\nclass N:\n    def __init__(self):\n        self.sweeper = threading.Thread(target=self.sweep, daemon=True, name='sweeper')\n        self.sweeper.start()\n    def sweep(self): pass\n    def process(self, x): return x\n"
    )
    ((level, message, _),) = logs.take()
    assert (level, message) == (
        "warning",
        "thread 'sweeper' cannot start: this sandbox has no threads; as a daemon it is skipped",
    )
