"""Pools under control: bounded queues and waits, cancelling, stats, nodes handed out, and the caller's event loop and context."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed, wait
from typing import Any

import anyio
import anyio.to_thread
import pytest

import cloche
from cloche import Grants, Limits, Source

NODE = Source("""
from cloche_guest import services

class N:
    calls = 0
    def process(self, x):
        self.calls += 1
        if x == "wait": return services.wait()
        while x == "spin": pass
        if x == "raise": raise ValueError(x)
        return x
    def count(self):
        return self.calls
    def shout(self, x, *, mark="!"):
        return f"{x}{mark}"
""")
ENDLESS = Limits(deadline_s=None, grace_s=60)


class Gate:
    """The service `wait`, which returns when the test lets it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.grants = Grants(services={"wait": self.wait})

    def wait(self) -> str:
        self.entered.release()
        self.go.wait(60)
        return "waited"


@pytest.fixture
def gate() -> Iterator[Gate]:
    """At the end it is open."""
    made = Gate()
    yield made
    made.go.set()


@pytest.fixture
def pool(runtime, gate) -> Iterator[Callable[..., cloche.Pool]]:
    """Makes pools that are closed at the end, after the gate has opened."""
    pools = []

    def make(size: int = 1, **options: Any) -> cloche.Pool:
        pools.append(runtime.pool(NODE, size=size, **{"grants": gate.grants, "limits": ENDLESS, **options}))
        return pools[-1]

    yield make
    gate.go.set()
    for made in pools:
        made.close(timeout=0)


def occupied(pool: cloche.Pool, gate: Gate) -> list[Any]:
    """Have all of the pool's nodes wait at the gate."""
    futures = [pool.submit("wait") for _ in range(pool.size)]
    for _ in futures:
        assert gate.entered.acquire(timeout=60)
    return futures


def test_a_full_queue_is_refused(pool, gate):
    """With queue_timeout_s=0, at once; the others run, in their order."""
    made = pool(max_queue=2, queue_timeout_s=0)
    (running,) = occupied(made, gate)
    waiting = [made.submit(x) for x in (1, 2)]
    for _ in range(3):
        with pytest.raises(cloche.PoolTimeoutError) as caught:
            made.submit(3)
    assert str(caught.value) == "the pool's queue was full for 0.0 s (max_queue=2, queue_timeout_s=0.0)"
    assert (caught.value.limit, caught.value.value) == ("queue_timeout_s", 0.0)
    assert isinstance(caught.value, TimeoutError)
    assert made.stats.queued == 2
    gate.go.set()
    assert [future.result(60) for future in (running, *waiting)] == ["waited", 1, 2]
    assert made.submit(4).result(60) == 4


def test_submit_waits_for_room(pool, gate):
    """Until an item has begun; nothing is lost, and the order is kept."""
    made = pool(max_queue=2)
    occupied(made, gate)
    order, done = [], []

    def submit() -> None:
        for x in range(30):
            future = made.submit(x)
            order.append(x)
            done.append(future)

    thread = threading.Thread(target=submit)
    thread.start()
    while len(order) < 2:
        pass
    assert made.stats.queued <= 3
    gate.go.set()
    thread.join(60)
    assert [future.result(60) for future in done] == list(range(30))


def test_a_cancelled_item_makes_room(pool, gate):
    """For a submitter that waits."""
    made = pool(max_queue=1)
    occupied(made, gate)
    first = made.submit(1)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(made.submit(2)))
    thread.start()
    while made.stats.queued < 2:
        pass
    assert first.cancel()
    thread.join(60)
    assert len(results) == 1
    gate.go.set()
    assert results[0].result(60) == 2


def test_an_item_waits_for_a_node_no_longer_than_it_may(pool, gate):
    """Its future says so; items with more patience get theirs."""
    made = pool(acquire_timeout_s=0.05)
    patient = made.with_options(acquire_timeout_s=None)
    running = occupied(patient, gate)
    late, other = made.submit(1), patient.submit(2)
    error = late.exception(60)
    assert isinstance(error, cloche.PoolTimeoutError) and isinstance(error, TimeoutError)
    assert str(error) == "no node of the pool of 1 was free within 0.05 s (acquire_timeout_s=0.05)"
    assert error.reached >= 0.05
    gate.go.set()
    assert (running[0].result(60), other.result(60)) == ("waited", 2)
    assert made.with_options(acquire_timeout_s=0).submit(3).result(60) == 3, "a node is free"
    assert made.stats.timed_out == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaited_items_wait_no_longer_than_they_may(pool, gate, backend):
    """asubmit, acall and aacquire."""
    made = pool()
    occupied(made, gate)
    view = made.with_options(acquire_timeout_s=0.01)

    async def main() -> None:
        with pytest.raises(cloche.PoolTimeoutError):
            await view.asubmit(1)
        with pytest.raises(cloche.PoolTimeoutError):
            await view.acall("count")
        with pytest.raises(cloche.PoolTimeoutError):
            async with view.aacquire():
                raise AssertionError

    anyio.run(main, backend=backend)
    with pytest.raises(cloche.PoolTimeoutError), view.acquire():
        raise AssertionError


def test_cancelling_an_item_that_runs_interrupts_its_node(pool):
    """The future is cancelled at once, and the node goes on with the next item, with its state."""
    made = pool()
    assert made.submit("x").result(60) == "x"
    future = made.submit("spin")
    while not future.running():
        pass
    assert future.cancel() and future.cancel()
    assert future.cancelled() and future.done() and not future.running()
    with pytest.raises(CancelledError):
        future.result()
    assert made.call("count") in (1, 2), "the node may have been told before it had counted"
    assert (made.replaced, made.stats.cancelled) == (0, 1)


def test_cancelling_an_item_that_waits(pool, gate):
    """It never begins. A future that is done cannot be cancelled."""
    made = pool()
    (running,) = occupied(made, gate)
    waiting = made.submit("raise")
    assert waiting.cancel()
    gate.go.set()
    assert running.result(60) == "waited"
    assert not running.cancel()
    assert made.call("count") == 1


def test_the_functions_of_concurrent_futures_see_a_cancelled_future(pool):
    """wait and as_completed end."""
    made = pool()
    futures = [made.submit("spin"), made.submit("spin")]
    seen = []
    thread = threading.Thread(target=lambda: seen.append(wait(futures, timeout=60)))
    thread.start()
    for future in futures:
        future.cancel()
    thread.join(60)
    assert seen[0].done == set(futures) and set(as_completed(futures, timeout=1)) == set(futures)


def test_a_storm_of_cancels(pool):
    """From several threads: every node is free in the end, none is replaced, and all items are counted."""
    made = pool(size=3)
    outcomes = {"done": 0, "cancelled": 0}
    lock = threading.Lock()

    def work(number: int) -> None:
        for index in range(40):
            future = made.submit("spin" if (index + number) % 3 == 0 else index)
            if (index + number) % 3 == 0 or index % 5 == 0:
                future.cancel()
            try:
                result = future.result(60)
                assert result == index
                outcome = "done"
            except CancelledError:
                outcome = "cancelled"
            with lock:
                outcomes[outcome] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sum(outcomes.values()) == 160
    assert list(made.map(range(20))) == list(range(20))
    stats = made.stats
    assert (stats.busy, stats.queued, stats.failed, stats.replaced) == (0, 0, 0, 0)
    assert stats.done + stats.cancelled == 180


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_a_task_interrupts_its_item(pool, backend):
    """The task ends when the node has unwound."""
    made = pool()

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await made.asubmit("spin")
        assert scope.cancelled_caught
        assert made.stats.busy == 0
        assert await made.asubmit(1) == 1
        assert await made.acall("count") in (1, 2)

    anyio.run(main, backend=backend)
    assert made.replaced == 0


def test_a_map_that_is_left_interrupts_what_it_began(pool):
    """Nobody waits for it any more."""
    made = pool(size=2)
    results = made.map([1, "spin", "spin"])
    assert next(results) == 1
    results.close()
    assert made.submit(2).result(60) == 2
    made.close()
    assert made.stats.cancelled == 2


def test_stats(pool, gate):
    """Each item is counted once, and times are means."""
    made = pool(size=2)
    before = made.stats
    assert (before.size, before.idle, before.busy, before.queued, before.mean_wait_s, before.mean_run_s) == (
        2,
        2,
        0,
        0,
        0,
        0,
    )
    occupied(made, gate)
    more = [made.submit(x) for x in (1, "raise", 3)]
    stats = made.stats
    assert (stats.idle, stats.busy, stats.queued) == (0, 2, 3)
    gate.go.set()
    wait(more)
    made.close()
    stats = made.stats
    assert (stats.done, stats.failed, stats.cancelled, stats.timed_out, stats.replaced) == (4, 1, 0, 0, 0)
    assert stats.mean_wait_s > 0 and stats.mean_run_s > 0
    assert (stats.busy, stats.queued) == (0, 0)


def test_other_methods(pool):
    """With keyword arguments; a view's deadline bounds them."""
    made = pool()
    assert made.call("shout", "a") == "a!"
    assert made.call("shout", "a", mark="?") == asyncio.run(made.acall("shout", "a", mark="?")) == "a?"
    with pytest.raises(cloche.NodeRaisedError, match="nothing"):
        made.call("nothing")
    with pytest.raises(ValueError, match="without a leading underscore"):
        made.call("_private")


def test_a_node_for_several_calls(pool):
    """It is one node, which nobody else gets meanwhile; then it goes back."""
    made = pool(size=1)
    with made.acquire() as node:
        assert [node.process("a"), node.process("b")] == ["a", "b"]
        waiting = made.submit("c")
        assert (made.stats.busy, made.stats.queued) == (1, 1)
        assert list(node.stream(["d"])) == ["d"]
        assert node.get("calls") == 3
    assert waiting.result(60) == "c"
    assert made.call("count") == 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_node_for_several_awaited_calls(pool, backend):
    """Tasks take turns; a task that is cancelled while it waits leaves no trace."""
    made = pool(size=1)

    async def main() -> None:
        order: list[str] = []

        async def use(name: str) -> None:
            async with made.aacquire() as node:
                for _ in range(2):
                    order.append(await node.aprocess(name))

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(use, name)
        assert sorted(order) == list("aabbcc")
        assert all(order[index] == order[index + 1] for index in (0, 2, 4))

    anyio.run(main, backend=backend)
    assert made.submit(1).result(60) == 1, "it has come back"


def test_a_node_that_breaks_while_it_is_held_is_replaced(pool):
    """As after an item."""
    made = pool(size=1, limits=Limits(deadline_s=0.05, grace_s=0))
    with made.acquire() as node, pytest.raises(cloche.HardDeadlineError):
        node.process("spin")
    assert made.submit(1).result(60) == 1
    assert made.replaced == 1


def test_a_node_that_is_kept_after_its_block_is_closed_for_its_holder(pool, gate):
    """So are its views and its streams; and it interrupts and watches nobody else's calls."""
    made = pool(size=1)
    with made.acquire() as node:
        view, stream = node.with_options(deadline_s=50), node.stream([1, 2])
        assert next(stream) == 1
        assert view.process("x") == "x"
    item = made.submit("wait")
    assert gate.entered.acquire(timeout=60)
    assert not node.interrupt()
    assert node.where() == ""
    uses: list[Callable[[], Any]] = [
        lambda: node.process(1),
        lambda: view.process(1),
        lambda: node.call("count"),
        lambda: node.buffer(1),
        node.snapshot,
    ]
    for use in uses:
        with pytest.raises(cloche.ClosedError, match="was given back to its pool"):
            use()
    with pytest.raises(cloche.ClosedError, match="was given back to its pool"):
        next(stream)
    node.close()
    assert not item.done(), "a use has waited for the call that another one makes"
    gate.go.set()
    assert item.result(60) == "waited"
    assert made.submit(1).result(60) == 1
    assert made.replaced == 0


STREAMS = Source("""
class N:
    closed = 0
    def process(self, x):
        try:
            yield x
            yield x
        finally:
            self.closed += 1
    def count(self):
        return self.closed
""")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_holder_leaves_open_is_closed(runtime, backend):
    """The next one finds no stream and no lease; a buffer goes with its node."""
    with runtime.pool(STREAMS, size=1) as made:
        for count in range(3):
            with made.acquire() as node:
                assert node.call("count") == 2 * count
                stream = node.stream([1])
                assert next(stream) == 1
                node.lease().__enter__()

            async def main() -> None:
                async with made.aacquire() as node:
                    left = node.stream([2])
                    assert next(left) == 2
                    node.lease().__enter__()

            anyio.run(main, backend=backend)
        assert made.replaced == 0
        with made.acquire() as node:
            node.buffer(1000)
        assert made.call("count") == 0
        assert made.replaced == 1


def test_a_node_that_was_closed_elsewhere_is_replaced(pool, runtime):
    """By its holder, or through `Runtime.nodes`."""
    made = pool(size=1)
    with made.acquire() as node:
        node.close()
        with pytest.raises(cloche.ClosedError):
            node.process(1)
    assert made.submit(1).result(60) == 1
    for node in runtime.nodes:
        node.close()
    assert made.submit(2).result(60) == 2


def test_with_reset_a_held_node_is_pristine_and_used_once(pool):
    """Nothing crosses."""
    made = pool(size=1, reset=True)
    for _ in range(2):
        with made.acquire() as node:
            node.process("a")
            assert node.get("calls") == 1
    assert made.call("count") == 0


def test_closing_waits_for_a_held_node_but_not_for_ever(pool):
    """Inside the block itself it is refused."""
    made = pool(size=1)
    with made.acquire() as node:
        with pytest.raises(cloche.ClocheError, match="while this code holds one of its nodes"):
            made.close(timeout=0)
        assert node.process("x") == "x"
        closer = threading.Thread(target=contextvars.Context().run, args=(made.close, 0))
        closer.start()
        closer.join(60)
        with pytest.raises(cloche.ClosedError):
            node.process("y")
    made.close()
    with pytest.raises(cloche.ClosedError), made.acquire():
        raise AssertionError


def test_an_exception_in_the_block_gives_the_node_back(pool):
    """As leaving it does."""
    made = pool(size=1)
    for _ in range(3):
        with pytest.raises(RuntimeError), made.acquire():
            raise RuntimeError
    assert made.submit(1).result(60) == 1


SERVED = Source("from cloche_guest import services\ndef f(x): return services.where(x)\n")
TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_services_run_on_the_caller_s_loop_and_in_its_context(runtime, backend):
    """In nodes and pools, whichever call it is."""
    seen = []

    async def where(x):
        await anyio.sleep(0)
        seen.append((threading.get_ident(), TENANT.get()))
        return x

    async def main() -> None:
        TENANT.set("mine")
        outcomes = [await pool.asubmit(1)]
        outcomes += [x async for x in pool.amap([2, 3, 4])]
        outcomes += sorted([x async for x in pool.aimap_unordered([5, 6])])
        async with pool.aacquire() as node:
            outcomes.append(await node.aprocess(7))
        outcomes.append(await single.aprocess(8))
        assert outcomes == list(range(1, 9))

    grants = Grants(services={"where": where})
    with runtime.pool(SERVED, size=2, grants=grants) as pool, runtime.load(SERVED, grants=grants) as single:
        anyio.run(main, backend=backend)
        assert seen == [(threading.get_ident(), "mine")] * 8
        TENANT.set("sync")
        assert pool.submit(9).result(60) == single.process(10) - 1 == 9
    assert [name for _, name in seen[8:]] == ["sync"] * 2
    assert threading.get_ident() not in [thread for thread, _ in seen[8:]]


def test_a_plain_service_sees_the_context_of_who_submitted_the_item(runtime):
    """Each its own."""
    seen = []

    def where(x):
        seen.append((x, TENANT.get()))

    with runtime.pool(SERVED, size=2, grants=Grants(services={"where": where})) as pool:
        for x in ("a", "b", "c"):
            TENANT.set(x)
            pool.submit(x).result(60)
    assert seen == [("a", "a"), ("b", "b"), ("c", "c")]


def test_an_async_service_of_a_synchronous_call_on_the_loop_s_own_thread(runtime):
    """It cannot run on that loop, which waits for it: it runs on Cloche's own, and nothing hangs."""

    async def where(x):
        await asyncio.sleep(0)
        return x

    async def outer(x):
        return inner.process(x)

    grants = Grants(services={"where": where})
    others = Grants(services={"where": outer})
    with runtime.load(SERVED, grants=grants) as inner, runtime.load(SERVED, grants=others) as node:
        assert asyncio.run(node.aprocess(3)) == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hundred_requests_hold_no_thread_of_the_event_loop(pool, gate, backend):
    """Of a pool and of single nodes: the default limiter has all of its tokens, and the loop turns."""
    made = pool(size=2)

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        results = []

        async def request(number: int) -> None:
            if number % 2:
                results.append(await made.asubmit("wait"))
                return
            async with made.aacquire() as node:
                results.append(await node.aprocess("wait"))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(request, number)
            await anyio.to_thread.run_sync(gate.entered.acquire)
            assert limiter.borrowed_tokens == 0
            assert await anyio.to_thread.run_sync(lambda: "endpoint") == "endpoint"
            gate.go.set()
        assert results == ["waited"] * 100

    anyio.run(main, backend=backend)


def test_options_of_a_pool_are_checked(runtime):
    """By name."""
    with pytest.raises(ValueError, match="max_queue is 0: give 1 or more"):
        runtime.pool(NODE, max_queue=0)
    with pytest.raises(TypeError, match="acquire_timeout_s is 'x': give a number of seconds, or None"):
        runtime.pool(NODE, acquire_timeout_s="x")
    with pytest.raises(ValueError, match="queue_timeout_s is -1"):
        runtime.pool(NODE, queue_timeout_s=-1)
