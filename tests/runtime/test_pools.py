"""Many items on clones of one node: in parallel, in order or not, and what happens to those that fail."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import anyio
import anyio.to_thread
import pytest

import cloche
from cloche import Source
from cloche._runtime.calls import NodeCalls

from .test_snapshots import COUNTER

DOUBLE = Source("def f(x):\n    return 2 * x\n")
BREAKER = Source(
    "import os\ndef f(x):\n    if x == 'break': os.abort()\n    if x == 'raise': raise ValueError(x)\n    return x\n"
)


def test_pool_runs_items_in_parallel_and_in_order(runtime):
    """Clones of one node."""
    with runtime.pool(Source(COUNTER), "N", size=3) as pool:
        assert max(pool.imap_unordered([1] * 30)) <= 30
    with runtime.pool(Source("def f(x):\n    return x * x\n"), "f", size=3) as pool:
        assert list(pool.map(range(50))) == [x * x for x in range(50)]


def test_pool_with_reset_lets_nothing_cross(runtime):
    """Every item meets a pristine node."""
    with runtime.pool(Source(COUNTER), "N", size=2, reset=True) as pool:
        assert list(pool.map([1] * 20)) == [1] * 20
        assert pool.replaced == 20


def test_pool_survives_items_that_break_their_node(runtime):
    """The item is reported, never tried again; the others get their results."""
    source = Source(
        "import os\ndef f(x):\n    if x == 3: os.abort()\n    if x == 5: raise ValueError(x)\n    return x\n"
    )
    with runtime.pool(source, "f", size=2) as pool:
        futures = [pool.submit(x) for x in range(8)]
        outcomes = [type(future.exception()).__name__ if future.exception() else future.result() for future in futures]
    assert outcomes == [0, 1, 2, "GuestTrapError", 4, "NodeRaisedError", 6, 7]


def test_pool_takes_endless_input_a_few_ahead(runtime):
    """Backpressure."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with runtime.pool(Source("def f(x):\n    return -x\n"), "f", size=2) as pool:
        results = pool.map(endless())
        assert [next(results) for _ in range(10)] == [-x for x in range(1, 11)]
        results.close()
    assert taken < 20


def test_pool_recycles_by_count(runtime):
    """max_calls bounds what one clone accumulates."""
    with runtime.pool(Source(COUNTER), "N", size=1, max_calls=5) as pool:
        assert list(pool.map([1] * 12)) == [1, 2, 3, 4, 5] * 2 + [1, 2]


def test_closed_pool_takes_nothing(runtime):
    """ClosedError, as everywhere."""
    pool = runtime.pool(Source("def f(x):\n    return x\n"), "f", size=1)
    pool.close()
    with pytest.raises(cloche.ClosedError):
        pool.submit(1)


@pytest.mark.parametrize("method", ["map", "imap_unordered"])
@pytest.mark.parametrize(("bad", "kind"), [("break", cloche.GuestTrapError), ("raise", cloche.NodeRaisedError)])
def test_the_item_that_failed_is_named(runtime, method, bad, kind):
    """By its index, and a node that broke says what it was given."""
    items = [0, 1, 2, bad, 4, 5, 6, 7, 8, 9]
    with runtime.pool(BREAKER, "f", size=2) as pool:
        results = []
        with pytest.raises(kind) as caught:
            results.extend(getattr(pool, method)(items))
        assert caught.value.item == 3
        assert getattr(caught.value, "data", (bad,)) == (bad,)
        assert set(results) <= set(items) - {bad}
        if method == "map":
            assert results == [0, 1, 2]
        assert list(pool.map(range(4))) == [0, 1, 2, 3], "the pool is as good as before"
        assert pool.replaced == (bad == "break")


@pytest.mark.parametrize("method", ["map", "imap_unordered"])
def test_progress_is_told_after_each_result(runtime, method):
    """One more each time."""
    told = []
    with runtime.pool(DOUBLE, "f", size=2) as pool:
        assert sorted(getattr(pool, method)(range(9), progress=told.append)) == [2 * x for x in range(9)]
    assert told == list(range(1, 10))


def test_a_large_job_does_not_starve_a_small_one(runtime):
    """A map has two items a worker in the queue, however many it has: what comes next waits for no more than these."""
    started = threading.Event()
    stop = threading.Event()
    done = 0

    def endless():
        while not stop.is_set():
            yield 1

    with runtime.pool(DOUBLE, "f", size=2) as pool:

        def hog() -> None:
            nonlocal done
            for _ in pool.imap_unordered(endless()):
                done += 1
                started.set()

        thread = threading.Thread(target=hog)
        thread.start()
        assert started.wait(20)
        ahead = []
        for i in range(20):
            ahead.append(len(pool._workers._queue))
            assert pool.submit(i).result(20) == 2 * i
        stop.set()
        thread.join()
    assert max(ahead) <= 4
    assert done


def test_eight_consumers_share_a_pool(runtime):
    """Each gets its own results, in its own order."""
    wrong = []

    def consume(index: int) -> None:
        items = range(100 * index, 100 * index + 40)
        if list(pool.map(items)) != [2 * x for x in items]:
            wrong.append(index)

    with runtime.pool(DOUBLE, "f", size=3) as pool:
        threads = [threading.Thread(target=consume, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_closing_with_cancel_ends_a_map_under_way(runtime):
    """Its consumer is told; what has begun is finished."""
    pool = runtime.pool(DOUBLE, "f", size=1)
    results = pool.map(range(100))
    assert next(results) == 0
    pool.close(cancel=True)
    with pytest.raises(cloche.ClosedError):
        list(results)
    assert "closed" in repr(pool)


def test_closing_waits_for_what_was_submitted(runtime):
    """Without cancel: no result is lost."""
    pool = runtime.pool(DOUBLE, "f", size=2)
    futures = [pool.submit(x) for x in range(30)]
    pool.close()
    assert [future.result(0) for future in futures] == [2 * x for x in range(30)]


def test_every_node_is_closed_though_a_cleanup_fails(runtime):
    """The failures are raised together; closing again does nothing."""
    source = Source(
        "class N:\n    def process(self, x): return x\n    def cleanup(self): raise RuntimeError('not clean')\n"
    )
    before = len(runtime._nodes)
    pool = runtime.pool(source, "N", size=3)
    assert list(pool.map([1])) == [1]
    nodes = [slot.node for slot in pool._workers._slots]
    with pytest.raises(ExceptionGroup, match="^not all nodes of the pool could be closed cleanly") as caught:
        pool.close()
    assert [(type(error), error.message) for error in caught.value.exceptions] == [
        (cloche.NodeRaisedError, "not clean")
    ] * 3
    pool.close()
    assert all(node.__cloche__.closed for node in nodes)
    assert len(nodes) == 3
    del nodes
    assert len(runtime._nodes) <= before + 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaitable_twins(runtime, backend):
    """asubmit, amap, aimap_unordered, with progress."""

    async def main() -> None:
        told = []
        assert await pool.asubmit(4) == 8
        assert [x async for x in pool.amap(range(7), progress=told.append)] == [2 * x for x in range(7)]
        assert sorted([x async for x in pool.aimap_unordered(range(7))]) == [2 * x for x in range(7)]
        assert told == list(range(1, 8))

    with runtime.pool(DOUBLE, "f", size=2) as pool:
        anyio.run(main, backend=backend)


def test_a_pool_recycles_by_age(runtime):
    """max_age_s."""
    with runtime.pool(Source(COUNTER), "N", size=1, max_age_s=0.0) as pool:
        assert list(pool.map([1, 1, 1])) == [1, 1, 1]
        assert pool.replaced == 3


def test_a_pool_takes_no_policy_for_breaks(runtime):
    """It has its own: say so rather than ignore it."""
    with pytest.raises(TypeError, match="a pool always replaces a clone that breaks"):
        runtime.pool(DOUBLE, "f", on_break="restart")


def test_an_age_is_measured_from_the_clone_s_making(runtime):
    """A young one is kept."""
    with runtime.pool(Source(COUNTER), "N", size=1, max_age_s=1000.0) as pool:
        began = time.monotonic()
        assert list(pool.map([1, 1, 1])) == [1, 2, 3]
        assert pool._workers._free[0].made <= began


SERVED = Source("from cloche_guest import services\ndef f(x): return services.meet(x)\n")


def test_a_clone_that_cannot_be_made_is_reported_on_its_items_future(runtime, monkeypatch):
    """The pool goes on with the next item."""
    with runtime.pool(BREAKER, "f", size=1) as pool:
        good, failures = pool._workers._clone, [OSError("no more memory"), KeyboardInterrupt()]

        def clone():
            if failures:
                raise failures.pop(0)
            return good()

        monkeypatch.setattr(pool._workers, "_clone", clone)
        futures = [pool.submit(x) for x in ("break", 1, 2, 3)]
        kinds = [type(future.exception(60)) for future in futures]
        assert kinds == [cloche.GuestTrapError, OSError, KeyboardInterrupt, type(None)]
        assert futures[3].result() == 3
        assert pool.stats.busy == 0


def test_a_pool_whose_clones_cannot_be_made_leaves_none_behind(runtime, monkeypatch):
    """Some were made before one failed: they are closed, and the failure is raised."""
    made = []
    restore = runtime._restored

    def failing(*arguments, **options):
        if len(made) == 2:
            raise OSError("no more memory")
        made.append(restore(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(runtime, "_restored", failing)
    with pytest.raises(OSError, match="no more memory"):
        runtime.pool(DOUBLE, "f", size=3)
    assert len(made) == 2 and all(node.__cloche__.closed for node in made)


def test_closing_a_pool_from_inside_its_own_item_is_refused(runtime):
    """It would wait for itself."""
    errors = []

    def meet(x):
        try:
            pool.close()
        except cloche.ClocheError as error:
            errors.append(str(error))
        return x

    with runtime.pool(SERVED, "f", size=1, grants=cloche.Grants(services={"meet": meet})) as pool:
        assert pool.submit(3).result(60) == 3
        assert pool.submit(4).result(60) == 4
    assert errors == ["the pool cannot be closed from inside one of its own items"] * 2


def test_an_interrupted_close_is_ended_by_the_next(runtime, monkeypatch):
    """Ctrl-C while a node is being closed."""
    pool = runtime.pool(DOUBLE, "f", size=3)
    nodes = [slot.node for slot in pool._workers._slots]
    hits = [KeyboardInterrupt]
    close = NodeCalls.close

    def interrupted(node, closing):
        if hits:
            raise hits.pop()
        close(node, closing)

    monkeypatch.setattr(NodeCalls, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    pool.close()
    assert all(node.__cloche__.closed for node in nodes) and not any(slot.node for slot in pool._workers._slots)
    with pytest.raises(cloche.ClosedError):
        pool.submit(1)


def test_an_interrupted_map_gives_up_its_items_and_keeps_its_nodes(runtime):
    """Ctrl-C at the consumer: what has not begun never begins."""
    started, go, seen = threading.Event(), threading.Event(), []

    def meet(x):
        seen.append(x)
        started.set()
        go.wait(60)
        return x

    with runtime.pool(SERVED, "f", size=1, grants=cloche.Grants(services={"meet": meet})) as pool:
        results = pool.map(range(100), progress=lambda _: results.throw(KeyboardInterrupt))
        consumer = threading.Thread(target=go.set)
        consumer.start()
        next(results)
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
        assert pool.submit("last").result(60) == "last"
        assert pool.stats.busy == 0
    assert seen[0] == 0 and len(seen) <= 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_items_that_are_awaited_hold_no_thread_of_the_event_loop(runtime, backend):
    """However many wait."""
    go = threading.Event()

    def meet(x):
        go.wait(60)
        return x

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        results = []

        async def one(x):
            results.append(await pool.asubmit(x))

        async with anyio.create_task_group() as group:
            for x in range(45):
                group.start_soon(one, x)
            await anyio.wait_all_tasks_blocked()
            assert limiter.borrowed_tokens == 0
            go.set()
        assert sorted(results) == list(range(45))

    grants = cloche.Grants(services={"meet": meet})
    with runtime.pool(SERVED, "f", size=2, limits=cloche.Limits(deadline_s=60), grants=grants) as pool:
        try:
            anyio.run(main, backend=backend)
        finally:
            go.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_pool_works_in_the_child_of_a_fork(runtime):
    """Its threads do not exist there; items under way are the parent's."""
    with runtime.pool(DOUBLE, "f", size=2) as pool:
        assert pool.submit(1).result(60) == 2
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = 0 if list(pool.map(range(5))) == [0, 2, 4, 6, 8] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert pool.submit(2).result(60) == 4


def test_the_end_of_the_caller_s_stack_is_not_taken_for_a_pool_that_cannot_run_the_item(runtime, monkeypatch):
    """A RecursionError is a RuntimeError, as is what an executor says that starts no thread."""
    with contextlib.closing(runtime.pool(DOUBLE, size=1)) as pool:

        def full(*_):
            raise RecursionError("maximum recursion depth exceeded")

        monkeypatch.setattr(pool._workers._executor, "submit", full)
        with pytest.raises(RecursionError):
            pool.submit(1)
