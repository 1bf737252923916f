"""The awaitable twins under asyncio and trio: the loop stays free, nodes run in parallel, cancelling stops the guest."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import anyio
import anyio.to_thread
import pytest

import cloche
from cloche._runtime import async_calls

pytestmark = pytest.mark.anyio

ECHO = "class N:\n    def process(self, x):\n        return x\n"
ENDLESS = {
    "loop": "services.enter()\n    while True: pass",
    "sleep": "services.enter()\n    import time\n    time.sleep(1e6)",
    "swallow": "while True:\n        try:\n            services.enter()\n            while True: pass\n        except BaseException: pass",
}
MEET = "from cloche_guest import services\ndef f(x):\n    services.meet()\n    return x\n"


def endless(load, way="loop"):
    """A node that never returns by itself, without a deadline, and an event that is set once the node is inside its call."""
    inside = anyio.Event()

    async def enter():
        inside.set()

    source = f"from cloche_guest import services\ndef f(x):\n    if x == 'back': return x\n    {ENDLESS[way]}\n"
    grants = cloche.Grants(services={"enter": enter})
    return load(source, grants=grants, limits=cloche.Limits(deadline_s=None)), inside


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Both."""
    return request.param


async def test_aprocess_returns_what_process_returns(load):
    """The same value, awaited."""
    assert await load(ECHO).aprocess({"a": 1}) == {"a": 1}


async def test_aprocess_raises_what_process_raises(load):
    """Not wrapped in a group."""
    node = load("def f(x):\n    raise ValueError('no')\n")
    with pytest.raises(cloche.NodeRaisedError, match="no"):
        await node.aprocess(0)
    with pytest.raises(cloche.EncodeError):
        await node.aprocess(object())


async def test_loop_goes_on_while_nodes_run_in_parallel(load):
    """Four calls wait in each other's middle for a task of the loop: one after another, or with the loop blocked, none would end."""
    arrived, all_there = 0, anyio.Event()

    async def meet():
        nonlocal arrived
        arrived += 1
        if arrived == 4:
            all_there.set()
        await all_there.wait()

    grants = cloche.Grants(services={"meet": meet})
    nodes = [load(MEET, grants=grants, limits=cloche.Limits(deadline_s=60)) for _ in range(4)]
    async with anyio.create_task_group() as group:
        for node in nodes:
            group.start_soon(node.aprocess, 1)
    assert arrived == 4


@pytest.mark.parametrize("way", ["loop", "sleep"])
async def test_cancelling_interrupts_the_guest(load, way):
    """It has no deadline; the node stays usable."""
    node, inside = endless(load, way)
    async with anyio.create_task_group() as group:
        group.start_soon(node.aprocess, 0)
        await inside.wait()
        group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught
    assert not node.broken
    assert await node.aprocess("back") == "back"


async def test_cancelling_stops_a_guest_that_goes_on_regardless(load):
    """Once the grace is over; the node says that it is broken."""
    node, inside = endless(load, "swallow")
    async with anyio.create_task_group() as group:
        group.start_soon(node.aprocess, 0)
        await inside.wait()
        group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught
    assert node.broken


def test_asyncio_cancelling_a_task_interrupts_the_guest(load):
    """`Task.cancel`, and so `asyncio.wait_for`, goes around anyio's scopes."""

    async def main():
        node, inside = endless(load)
        task = asyncio.ensure_future(asyncio.wait_for(node.aprocess(1), None))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not node.broken
        assert await node.aprocess("back") == "back"

    asyncio.run(main())


async def test_cancelling_a_call_that_waits_leaves_the_other_one_alone(load):
    """Two calls on one node: only the one that was cancelled ends."""
    inside, go = anyio.Event(), anyio.Event()

    async def meet():
        inside.set()
        await go.wait()

    node = load(MEET, grants=cloche.Grants(services={"meet": meet}), limits=cloche.Limits(deadline_s=60))
    results = []

    async def first():
        results.append(await node.aprocess("first"))

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await inside.wait()
        with anyio.move_on_after(0.05) as scope:
            await node.aprocess("second")
        assert scope.cancelled_caught
        go.set()
    assert results == ["first"]
    assert not node.broken


async def test_astream_of_an_async_iterable(load):
    """Items come from the loop, outputs go to it."""
    node = load(
        "class N:\n    is_streaming = True\n    async def process(self, items):\n        async for x in items:\n            yield x + 1\n"
    )

    async def items():
        for i in range(3):
            await anyio.sleep(0)
            yield i

    assert [y async for y in node.astream(items())] == [1, 2, 3]
    assert [y async for y in node.astream(range(3))] == [1, 2, 3]


async def test_leaving_astream_early_closes_the_nodes_generator(load):
    """Through aclosing, as for every async generator."""
    node = load(
        "class N:\n    closed = False\n    def process(self, x):\n        try:\n            while True: yield x\n        finally:\n            self.closed = True\n"
    )
    async with contextlib.aclosing(node.astream([1])) as stream:
        async for output in stream:
            assert output == 1
            break
    assert node.get("closed") is True


async def test_error_of_an_async_input_is_the_callers(load):
    """Itself, not a copy."""
    node = load(ECHO)

    async def items():
        yield 1
        raise LookupError("tape")

    with pytest.raises(LookupError, match="tape"):
        async for _ in node.astream(items()):
            pass


async def test_async_with_closes_the_node(runtime):
    """aclose runs cleanup on a worker thread."""
    async with runtime.load(cloche.Source(ECHO), "N") as node:
        assert await node.aprocess(1) == 1
    with pytest.raises(cloche.ClosedError):
        node.process(1)


async def test_calls_that_wait_for_one_node_hold_one_thread(load, anyio_backend):
    """And not the threads that everybody on the event loop shares: another node, and other code, go on."""
    started, go = threading.Event(), threading.Event()

    def hold():
        started.set()
        go.wait(60)
        return 1

    source = "from cloche_guest import services\ndef f(x): return services.hold()\n"
    node, other = load(source, grants=cloche.Grants(services={"hold": hold})), load(ECHO)
    limiter = anyio.to_thread.current_default_thread_limiter()
    results = []

    async def one():
        results.append(await node.aprocess(0))

    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(45):
                    group.start_soon(one)
                while not started.is_set():
                    await anyio.sleep(0)
                await anyio.wait_all_tasks_blocked()
                assert (limiter.borrowed_tokens, async_calls._limiter().borrowed_tokens) == (0, 1)
                assert await other.aprocess(5) == 5
                assert results == []
                go.set()
    finally:
        go.set()
    assert results == [1] * 45


async def test_a_call_that_waits_behind_a_plain_one_is_cancelled_at_once(load):
    """It has not begun: the node stays usable, and the thread that it waited on is free again."""
    started, go = threading.Event(), threading.Event()

    def hold():
        started.set()
        go.wait(60)
        return 1

    source = "from cloche_guest import services\ndef f(x): return services.hold() if x else 2\n"
    node = load(source, grants=cloche.Grants(services={"hold": hold}))
    plain = threading.Thread(target=node.process, args=(1,))
    plain.start()
    try:
        assert started.wait(60)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(node.aprocess, 0)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
    finally:
        go.set()
        plain.join()
    assert not node.broken and await node.aprocess(0) == 2


async def test_calls_inside_other_calls_wait_for_none_of_the_shared_threads(load):
    """Each outer call holds one of them until the inner one has ended."""
    inner = load(ECHO)

    async def through(x):
        return await inner.aprocess(x)

    source = "from cloche_guest import services\ndef f(x): return services.through(x)\n"
    outer = [load(source, grants=cloche.Grants(services={"through": through})) for _ in range(3)]
    limiter = async_calls._limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    results = []

    async def one(node, x):
        results.append(await node.aprocess(x))

    try:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for x, node in enumerate(outer):
                    group.start_soon(one, node, x)
                    group.start_soon(one, inner, x + 3)
    finally:
        limiter.total_tokens = before
    assert sorted(results) == list(range(6))


LIFE = """
class N:
    def __init__(self):
        self.steps = []
    async def initialize(self):
        self.steps.append("initialize")
        return "ready"
    def process(self, x):
        return self.steps
    def flush(self):
        self.steps.append("flush")
        return "rest"
    def cleanup(self):
        self.steps.append("cleanup")
        return self.steps
"""


async def test_the_life_of_a_node_is_awaitable(load):
    """Each twin returns what its method returns, and leaves the same state."""
    node = load(LIFE)
    assert await node.ainitialize() == "ready"
    assert await node.aflush() == "rest"
    assert await node.acleanup() == ["initialize", "flush", "cleanup"]
    assert await node.aprocess(0) == ["initialize", "flush", "cleanup"]
    await node.aclose()
    with pytest.raises(cloche.ClosedError):
        await node.aprocess(0)


async def test_twins_of_methods_that_a_node_does_not_have_return_none(load):
    """As the methods themselves do."""
    node = load(ECHO)
    assert [await node.ainitialize(), await node.aflush(), await node.acleanup(), await node.aclose()] == [None] * 4


@pytest.mark.parametrize("method", ["initialize", "cleanup"])
async def test_twins_raise_what_their_methods_raise(load, method):
    """Not wrapped in a group; and the node can still be used."""
    node = load(
        f"class N:\n    def {method}(self):\n        raise ValueError('no')\n    def process(self, x):\n        return x\n"
    )
    with pytest.raises(cloche.NodeRaisedError, match=r"^ValueError: no(\n|$)"):
        await getattr(node, f"a{method}")()
    assert await node.aprocess(1) == 1
    with pytest.raises(cloche.NodeRaisedError) if method == "cleanup" else contextlib.nullcontext():
        node.close()


async def test_aclose_raises_what_cleanup_raises_and_frees_the_node(load):
    """Calling it again does nothing: cleanup is not run twice."""
    node = load(
        "class N:\n    def cleanup(self):\n        raise ValueError('no')\n    def process(self, x):\n        return x\n"
    )
    with pytest.raises(cloche.NodeRaisedError, match=r"^ValueError: no(\n|$)"):
        await node.aclose()
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    await node.aclose()


@pytest.mark.parametrize("twin", ["ainitialize", "acleanup", "aclose"])
async def test_the_loop_runs_while_a_twin_waits(load, twin):
    """The node waits in its method for a task of the loop: with the loop blocked, neither would go on."""
    entered, go = anyio.Event(), anyio.Event()

    async def meet():
        entered.set()
        await go.wait()

    method = {"ainitialize": "initialize"}.get(twin, "cleanup")
    source = f"from cloche_guest import services\nclass N:\n    def {method}(self):\n        services.meet()\n    def process(self, x):\n        return x\n"
    node = load(source, grants=cloche.Grants(services={"meet": meet}), limits=cloche.Limits(deadline_s=60))
    async with anyio.create_task_group() as group:
        group.start_soon(getattr(node, twin))
        await entered.wait()
        go.set()
    if twin != "aclose":
        assert node.process(1) == 1
        await node.aclose()
    with pytest.raises(cloche.ClosedError):
        node.process(1)


@pytest.mark.parametrize("twin", ["ainitialize", "acleanup"])
async def test_cancelling_a_twin_interrupts_the_guest(load, twin):
    """It has no deadline; the node stays usable."""
    inside = anyio.Event()

    async def enter():
        inside.set()

    source = (
        "from cloche_guest import services\nclass N:\n    busy = True\n"
        f"    def {twin[1:]}(self):\n        while self.busy:\n            self.busy = True\n            services.enter()\n"
        "    def process(self, x):\n        self.busy = False\n        return x\n"
    )
    node = load(source, grants=cloche.Grants(services={"enter": enter}), limits=cloche.Limits(deadline_s=None))
    async with anyio.create_task_group() as group:
        group.start_soon(getattr(node, twin))
        await inside.wait()
        group.cancel_scope.cancel()
    assert node.process(1) == 1


async def test_async_with_initializes_nothing_and_closes(load):
    """The block ends with `aclose`: cleanup runs once."""
    ran = []

    async def note():
        ran.append("cleanup")

    source = "from cloche_guest import services\nclass N:\n    def cleanup(self):\n        services.note()\n    def process(self, x):\n        return x\n"
    async with load(source, grants=cloche.Grants(services={"note": note})) as node:
        assert await node.aprocess(1) == 1
        assert ran == []
    assert ran == ["cleanup"]
    with pytest.raises(cloche.ClosedError):
        node.process(1)
