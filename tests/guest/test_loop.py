"""asyncio without selector, sockets and threads; and what threads become."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import sys
import threading
import weakref

import pytest

from cloche_guest import threads
from cloche_guest.loop import Loop
from cloche_wire import Op, Reply
from tests.guest.conftest import Bench


@pytest.fixture
def loop():
    """A loop that is closed at the end."""
    made = Loop()
    yield made
    if not made.is_closed():
        made.finish()


async def sleepers():
    order = []

    async def one(name, delay):
        await asyncio.sleep(delay)
        order.append(name)
        return name

    return [await asyncio.gather(one("c", 0.003), one("a", 0.001), one("b", 0.002)), order]


async def queues():
    queue, got = asyncio.Queue(2), []

    async def produce():
        for i in range(5):
            await queue.put(i)
        await queue.put(None)

    async def consume():
        while (x := await queue.get()) is not None:
            got.append(x)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(consume())
    return got


async def timeouts():
    found = []
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.001)
    except TimeoutError:
        found.append("wait_for")
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        found.append("timeout")
    async with asyncio.timeout(60):
        found.append(await asyncio.wait_for(asyncio.sleep(0, "v"), 60))
    return found


async def inline():
    loop = asyncio.get_running_loop()

    def boom():
        raise KeyError("k")

    def nested():
        return asyncio.run(asyncio.sleep(0, "nested"))

    caught = ""
    try:
        await asyncio.to_thread(boom)
    except KeyError as error:
        caught = repr(error)
    return [
        await asyncio.to_thread(pow, 2, 10),
        await loop.run_in_executor(None, len, "abc"),
        caught,
        await asyncio.to_thread(nested),
    ]


async def locks():
    event, lock, condition = asyncio.Event(), asyncio.Lock(), asyncio.Condition()
    asyncio.get_running_loop().call_later(0.001, event.set)
    await event.wait()
    async with lock, asyncio.Semaphore(1), condition:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    done, pending = await asyncio.wait([asyncio.create_task(asyncio.sleep(0, 1)), task], return_when="FIRST_COMPLETED")
    return [
        task.cancelled(),
        len(done) + len(pending),
        [await f for f in asyncio.as_completed([asyncio.sleep(0.002, 2), asyncio.sleep(0, 1)])],
    ]


async def current():
    return [
        asyncio.current_task() is not None,
        isinstance(asyncio.get_running_loop(), Loop),
        asyncio.get_running_loop().time() > 0,
    ]


CASES = [
    (sleepers, [["c", "a", "b"], ["a", "b", "c"]]),
    (queues, [0, 1, 2, 3, 4]),
    (timeouts, ["wait_for", "timeout", "v"]),
    (inline, [1024, 3, "KeyError('k')", "nested"]),
    (locks, [True, 2, [1, 2]]),
    (current, [True, True, True]),
]


@pytest.mark.parametrize(("case", "expected"), CASES, ids=[case.__name__ for case, _ in CASES])
@pytest.mark.parametrize("way", ["drive", "run_until_complete"])
def test_asyncio_works(loop, case, expected, way):
    """As the guest drives it, and as asyncio itself does."""
    assert getattr(loop, way)(case()) == expected


def test_coroutine_that_never_suspends_needs_no_iteration(loop, monkeypatch):
    """Awaiting is nearly free then (Python 3.12 and later: eager tasks)."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")
    monkeypatch.setattr(loop, "_run_once", None)

    async def plain():
        return asyncio.current_task() is not None

    assert loop.drive(plain()) is True


def test_running_loop_is_put_back(loop):
    """A guest may be called from inside another loop (an async test)."""

    async def outer():
        assert loop.drive(asyncio.sleep(0, 5)) == 5
        return asyncio.get_running_loop() is not loop

    assert asyncio.run(outer()) is True
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


DEADLOCKS = {
    "event": "await asyncio.Event().wait()",
    "queue": "await asyncio.Queue().get()",
    "task": "await asyncio.create_task(asyncio.Event().wait())",
    "gather": "await asyncio.gather(asyncio.Event().wait(), asyncio.sleep(0))",
    "future": "await asyncio.get_running_loop().create_future()",
}


@pytest.mark.parametrize("way", DEADLOCKS)
def test_deadlock_is_an_error_at_the_await(load, way):
    """Its traceback says which one, and the node stays usable."""
    bench = load(f"import asyncio\nasync def N(x):\n    if x: return x\n    {DEADLOCKS[way]}\n")
    failure = bench.failure(0)
    assert (failure["type"], failure["message"]) == (
        "RuntimeError",
        "deadlock: every task waits, and there is no timer or input that could wake one",
    )
    assert failure["frames"][0] == ["node.py", 4, "N", DEADLOCKS[way]]
    assert bench.process(1) == 1


def test_deadlock_inside_asyncio_run(loop):
    """The same where asyncio drives the loop."""
    with pytest.raises(RuntimeError, match="deadlock"):
        loop.run_until_complete(asyncio.Event().wait())


def test_tasks_survive_between_calls_and_advance_with_the_next_one(load):
    """Whatever that call is: plain, async or a step of a stream."""
    bench = load("""
        import asyncio
        class N:
            ticks = 0
            async def initialize(self):
                self.task = asyncio.create_task(self.background())
            async def background(self):
                while True:
                    self.ticks += 1
                    await asyncio.sleep(0.001)
            def process(self, x):
                import time
                time.sleep(0.002)
                return self.ticks
            async def flush(self): return self.ticks
    """)
    bench.send(Op.INVOKE, "initialize")
    first = bench.process(0)
    second = bench.process(0)
    assert second > first
    bench.process(0)
    assert bench.send(Op.INVOKE, "flush")[1] > second


def test_task_that_never_rests_does_not_hold_up_a_call(load):
    """It gets a bounded number of steps with each."""
    bench = load("""
        import asyncio
        class N:
            steps = 0
            async def spin(self):
                while True:
                    self.steps += 1
                    await asyncio.sleep(0)
            async def process(self, x):
                self.task = self.__dict__.get("task") or asyncio.create_task(self.spin())
                return x
    """)
    assert [bench.process(1), bench.process(2)] == [1, 2]
    assert 2 <= bench.send(Op.GET, "steps")[1] < 200


def test_failure_of_a_background_task_is_logged(load):
    """Nobody awaits it."""
    bench = load("""
        import asyncio, gc
        class N:
            async def fail(self): raise ValueError("lost")
            async def process(self, x):
                asyncio.create_task(self.fail())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                gc.collect()  # here: what is logged between two calls is not the node's
    """)
    bench.process(0)
    (record,) = [record for record in bench.records if record[1] == "asyncio"]
    assert record[0] == logging.ERROR
    assert "Task exception was never retrieved" in record[2]
    assert record[4].endswith("ValueError: lost")


def test_dropped_async_generator_is_closed_by_the_next_call(load):
    """Its finally block awaits, so that only the loop can run it."""
    bench = load("""
        import asyncio
        class N:
            closed = False
            async def gen(self):
                try:
                    while True: yield 1
                finally:
                    await asyncio.sleep(0)
                    self.closed = True
            async def process(self, x):
                async for y in self.gen(): return y
    """)
    assert bench.process(0) == 1
    bench.process(0)
    assert bench.send(Op.GET, "closed") == (Reply.RESULT, True)


def test_finish_cancels_what_is_pending(loop):
    """Natively a guest ends; its tasks unwind."""
    seen = []

    async def forever():
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("unwound")

    loop.start(forever())
    loop.tick()
    loop.finish()
    assert seen == ["unwound"]


@pytest.fixture
def image_like(monkeypatch):
    """The patches that `boot` makes, for one test."""
    for kind, names in (
        (concurrent.futures.ThreadPoolExecutor, ["submit"]),
        (threading.Thread, ["start", "join", "is_alive"]),
    ):
        for name in names:
            monkeypatch.setattr(kind, name, getattr(kind, name))
    threads.install()


def test_thread_pool_runs_inline(image_like):
    """submit, map, an initializer, and exceptions in the future."""
    seen = []
    with concurrent.futures.ThreadPoolExecutor(2, initializer=seen.append, initargs=("init",)) as pool:
        future = pool.submit(pow, 2, exp=5)
        assert (future.done(), future.result()) == (True, 32)
        assert list(pool.map(len, ["a", "bb"])) == [1, 2]
        assert isinstance(pool.submit(int, "x").exception(), ValueError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    if sys.version_info < (3, 14):  # the image has 3.13; later versions keep the initializer elsewhere
        assert seen == ["init"]


def test_thread_cannot_start_and_says_so(image_like):
    """With its name, and what to use."""
    with pytest.raises(RuntimeError, match=r"thread 'worker' cannot start: this sandbox has no threads \(use asyncio"):
        threading.Thread(target=print, name="worker").start()
    with pytest.raises(RuntimeError, match="no threads"):
        threading.Timer(1, print).start()


def test_daemon_thread_is_skipped_with_a_warning(image_like, caplog):
    """Base classes start them for housekeeping; the node can do without."""
    thread = threading.Thread(target=print, name="sweeper", daemon=True)
    thread.start()
    thread.join()
    assert not thread.is_alive()
    assert threading.main_thread().is_alive()
    assert [record.message for record in caplog.records] == [
        "thread 'sweeper' cannot start: this sandbox has no threads; as a daemon it is skipped"
    ]


@pytest.fixture
def policy(monkeypatch):
    """The policy module, with all that `install` changes put back afterwards."""
    from cloche_guest import loop_policy as policy  # deprecated names since 3.14; the image has 3.13

    for module in (asyncio, asyncio.unix_events):
        for name in policy._NAMES:
            monkeypatch.setattr(module, name, asyncio.SelectorEventLoop, raising=False)
    for name in ("_loop_factory", "get_event_loop"):
        monkeypatch.setattr(asyncio.DefaultEventLoopPolicy, name, getattr(asyncio.DefaultEventLoopPolicy, name))
    before = asyncio.get_event_loop_policy()
    yield policy
    asyncio.set_event_loop_policy(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("chosen", ["installed", "default again", "none", "derived"])
def test_policy_makes_asyncio_use_the_loop(policy, chosen):
    """asyncio.run, new_event_loop, and get_event_loop before and after them, also under a policy that the node sets."""
    loop = Loop()

    class Derived(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return super().new_event_loop()

    try:
        policy.install(loop)
        if chosen != "installed":
            made = {"default again": asyncio.DefaultEventLoopPolicy, "none": lambda: None, "derived": Derived}[chosen]()
            asyncio.set_event_loop_policy(made)
        assert asyncio.get_event_loop() is loop
        assert asyncio.run(current()) == [True, True, True]
        assert asyncio.get_event_loop() is loop
        assert asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 1)) == 1
        other = asyncio.new_event_loop()
        asyncio.set_event_loop(other)
        assert asyncio.get_event_loop() is other
        other.close()
        assert asyncio.get_event_loop() is loop
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            assert runner.run(current()) == [True, True, True]
    finally:
        loop.finish()


def test_guests_own_loop_cannot_be_closed_by_the_node(load):
    """Scripts close the loop that they were given; the host's calls need it."""
    bench = load("import asyncio\nasync def N(x):\n asyncio.get_running_loop().close()\n return x")
    assert (bench.process(1), bench.process(2)) == (1, 2)
    own = Loop()
    own.close()
    assert own.is_closed()


@pytest.mark.parametrize(
    ("attempt", "kind", "message"),
    [("await asyncio.create_subprocess_exec('ls')", "OSError", "a sandboxed node has no processes"),
     ("await asyncio.create_subprocess_shell('ls')", "OSError", "a sandboxed node has no processes"),
     ("asyncio.get_running_loop().add_signal_handler(2, print)", "NotImplementedError", "no signal ever arrives in this sandbox"),
     ("asyncio.get_running_loop().add_reader(0, print)", "NotImplementedError", "this sandbox has no sockets or pipes to wait for")],
    ids=["exec", "shell", "signal", "reader"],
)  # fmt: skip
def test_what_the_loop_cannot_do_says_why(load, attempt, kind, message):
    """Where it is used, not where asyncio is imported."""
    failure = load(f"import asyncio\nasync def N(x): {attempt}").failure(0)
    assert failure["type"] == kind
    assert message in failure["message"]


def test_sync_node_may_call_asyncio_run(load):
    """While the guest's loop is not running."""
    assert load("import asyncio\ndef N(x): return asyncio.run(asyncio.sleep(0, x))").process(5) == 5


def test_guest_is_freed_with_its_node():
    """Nothing global keeps it."""
    bench = Bench()
    bench.load("class N:\n async def process(self, x): return x")
    assert bench.process(1) == 1
    loop = weakref.ref(bench.guest.loop)
    bench.close()
    del bench
    gc.collect()
    assert loop() is None


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_failed_coroutine_held_is_freed_at_once(waits: bool) -> None:
    """Not by some later garbage collection: a generator among it is closed, and its ``finally`` blocks run, while it matters."""
    freed = []

    class Held:
        def __del__(self) -> None:
            freed.append(True)

    async def fails() -> None:
        held = Held()
        if waits:
            await asyncio.sleep(0.001)
        raise ValueError(type(held))

    loop = Loop()
    gc.disable()
    try:
        loop.drive(fails())
    except ValueError as error:
        assert error.args == (Held,) and not freed
    finally:
        gc.enable()
    assert freed
    loop.finish()
