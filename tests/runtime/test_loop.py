"""asyncio and threads in the image, where there are neither selectors nor threads."""

from __future__ import annotations

import inspect
import time

import pytest

import cloche
from tests.guest import test_loop as native
from tests.guest.context_programs import PRELUDE, PROGRAMS, natively

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


@pytest.mark.parametrize("program", PROGRAMS)
def test_calls_see_what_one_native_task_would_see(load, program):
    """Context variables, decimal's context and the like, over plain and async calls in turn."""
    source, calls = PROGRAMS[program]
    node = load(PRELUDE + source, "N")
    assert [node.call(name) for name in calls] == natively(program)


POLICIES = {
    "default": "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
    "none": "asyncio.set_event_loop_policy(None)",
    "derived": "class P(asyncio.DefaultEventLoopPolicy):\n def new_event_loop(self): return super().new_event_loop()\nasyncio.set_event_loop_policy(P())",
    "a selector of its own": "class P(asyncio.DefaultEventLoopPolicy):\n def new_event_loop(self):\n  import selectors\n  return asyncio.SelectorEventLoop(None)\nasyncio.set_event_loop_policy(P())",
    "uvloop, if it is there": "try:\n import uvloop\nexcept ImportError: pass\nelse: asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())",
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_any_event_loop_policy(load, policy):
    """Objects made outside of a coroutine, runs in plain methods, and coroutines of the node go together."""
    node = load(
        f"import asyncio\n{POLICIES[policy]}\n"
        "class N:\n"
        "    def __init__(self): self.loop = asyncio.get_event_loop(); self.future = self.loop.create_future()\n"
        "    def runs(self): return asyncio.run(asyncio.sleep(0, 1)), asyncio.Runner().run(asyncio.sleep(0, 2)), asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 3))\n"
        "    def closes(self):\n"
        "        loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\n"
        "        try: return loop.run_until_complete(asyncio.sleep(0, 4))\n"
        "        finally: loop.close()\n"
        "    def closes_its_own(self): loop = asyncio.get_event_loop(); loop.close()\n"
        "    async def process(self, x):\n"
        "        self.loop.call_soon(self.future.set_result, x)\n"
        "        return await self.future, asyncio.get_running_loop() is self.loop\n",
        "N",
    )
    assert node.call("runs") == (1, 2, 3)
    assert node.call("closes") == 4
    assert node.call("closes_its_own") is None
    assert node.process(5) == (5, True)


def test_loop_factory_of_run(load):
    """The names of asyncio's loops are those of the guest's."""
    node = load(
        "import asyncio\ndef N(x): return asyncio.run(asyncio.sleep(0, x), loop_factory=asyncio.SelectorEventLoop)"
    )
    assert node.process(5) == 5
