"""Deadlines, cancelling and Ctrl-C at random moments of nodes of every shape: the node is usable afterwards, and its blocks have ended.

No outcome depends on how fast the machine is: a call may end before its deadline, and the grace is longer than any clean-up takes.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path

import anyio
import pytest

import cloche
from cloche._runtime.recovery import OnBreak
from cloche._sandbox.instance import Instance
from cloche.isolation import Isolation
from tests.conftest import Recorder

ROUNDS = int(os.environ.get("SOFT_DEADLINE_ROUNDS", "2"))
"""Interruptions of each shape in each isolation."""
LIMITS = cloche.Limits(deadline_s=120.0, grace_s=60.0, log_records=100_000)

SOURCE = """
import asyncio, json, logging, pickle, re, time, weakref
from contextlib import ExitStack, asynccontextmanager, contextmanager
import numpy as np
from cloche_guest import services

log = logging.getLogger("node")

class Final:
    def __del__(self):
        sum(range(200))

class Target:
    pass

class Node:
    def __init__(self):
        self.entered = self.left = self.number = self.ends = 0

    @contextmanager
    def counted(self):
        self.entered += 1
        try:
            yield
        finally:
            self.left += 1

    @asynccontextmanager
    async def acounted(self):
        with self.counted():
            yield

    def process(self, what):
        return getattr(self, what)()

    def state(self):
        return [self.entered, self.left]

    def usable(self):
        return asyncio.run(self.answer())

    async def answer(self):
        await asyncio.sleep(0)
        return sum(await asyncio.gather(self.one(), self.one()))

    async def one(self):
        await asyncio.sleep(0)
        return 1

    def loops(self):
        self.entered += 1
        try:
            number = 0
            while True:
                number += 1
                if number % 7 == 3: number += 1
        finally:
            self.left += 1

    def nested(self, depth=30):
        with self.counted():
            if depth: return self.nested(depth - 1)
            while True: pass

    def excepts(self):
        self.entered += 1
        try:
            while True:
                try:
                    {}["x"]
                except KeyError as error:
                    try:
                        raise ValueError from error
                    except ValueError:
                        pass
        finally:
            self.left += 1

    def stack(self):
        with ExitStack() as stack:
            for _ in range(5): stack.enter_context(self.counted())
            while True: pass

    def source(self):
        self.entered += 1
        try:
            for number in range(10 ** 9):
                if number % 2: yield number
        finally:
            self.left += 1

    def generator(self):
        for _ in self.source(): pass

    def items(self):
        return self.source()

    def pipeline(self):
        doubled = (2 * x for x in self.source())
        evens = filter(lambda x: x % 4 == 0, map(int, doubled))
        for _ in evens: pass

    async def spin(self):
        async with self.acounted():
            while True: await asyncio.sleep(0)

    async def gather(self):
        with self.counted():
            await asyncio.gather(*(self.spin() for _ in range(3)))

    async def gather_all(self):
        with self.counted():
            await asyncio.gather(self.spin(), self.spin(), return_exceptions=True)

    async def group(self):
        with self.counted():
            async with asyncio.TaskGroup() as group:
                group.create_task(self.spin())
                group.create_task(self.spin())

    async def wait_for(self):
        with self.counted():
            await asyncio.wait_for(self.spin(), 1000)

    async def sleep(self):
        with self.counted():
            await asyncio.sleep(1000)

    async def background(self):
        tasks = set()
        task = asyncio.create_task(self.spin())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with self.counted():
            await asyncio.Event().wait()

    async def queues(self):
        queue = asyncio.Queue(2)
        async def put():
            with self.counted():
                while True: await queue.put(1)
        async def get():
            with self.counted():
                while True: await queue.get()
        await asyncio.wait([asyncio.create_task(put()), asyncio.create_task(get())])

    def run(self):
        asyncio.run(self.gather())

    async def aitems(self):
        self.entered += 1
        try:
            for number in range(10 ** 9):
                await asyncio.sleep(0)
                if number % 3 == 1: yield number
        finally:
            self.left += 1

    async def apipeline(self):
        async def doubled(items):
            with self.counted():
                async for item in items: yield 2 * item
        async for _ in doubled(self.aitems()): pass

    def waits(self):
        with self.counted():
            time.sleep(1000)

    def service(self):
        with self.counted():
            while True: services.add(1, 2)

    def slow_service(self):
        with self.counted():
            while True: services.hang()

    async def async_service(self):
        with self.counted():
            while True: await services.aadd.acall(1, 2)

    def reads(self):
        with self.counted():
            while True:
                with open("/data/file.txt") as file: assert file.read() == "text"

    def regex(self):
        with self.counted(): re.match("(a+)+b", "a" * 60)

    def integer(self):
        with self.counted():
            while True: (3 ** 30000) ** 3

    def sorts(self):
        values = np.arange(5000)[::-1]
        with self.counted():
            while True: np.sort(values)

    def logs(self):
        with self.counted():
            while True:
                self.number += 1
                log.warning("%d", self.number)
                if self.number % 500 == 0: time.sleep(0.001)

    def prints(self):
        with self.counted():
            while True:
                self.number += 1
                print(self.number)
                if self.number % 500 == 0: time.sleep(0.001)

    def dumps(self):
        value = [{"key": [number, str(number)]} for number in range(100)]
        with self.counted():
            while True: assert pickle.loads(pickle.dumps(json.loads(json.dumps(value)))) == value

    def recursion(self, depth=None):
        with self.counted():
            while True:
                try:
                    self.deeper()
                except RecursionError:
                    pass

    def deeper(self):
        self.deeper()

    def callbacks(self):
        with self.counted():
            while True:
                target = Target()
                reference = weakref.ref(target, lambda _: sum(range(100)))
                del target

    def finals(self):
        with self.counted():
            while True: Final()

    def cycles(self):
        with self.counted():
            while True:
                final = Final()
                final.me = final

    def initialize(self):
        self.loops()

    def flush(self):
        yield from self.source()

    def encoded(self):
        return [{str(number): (number, {number})} for number in range(20000)]
"""
SHAPES = """
loops nested excepts stack generator items pipeline gather gather_all group wait_for sleep background queues run aitems apipeline waits
service slow_service async_service reads regex integer sorts logs prints dumps recursion callbacks finals cycles encoded
""".split()
STREAMS = {
    "over the input": """
import asyncio
class Node:
    is_streaming = True
    entered = left = 0
    async def process(self, items):
        self.entered += 1
        try:
            async for item in items:
                for number in range(item):
                    await asyncio.sleep(0)
                    if number % 100 == 7: yield number
        finally:
            self.left += 1
    def flush(self):
        return "flushed"
""",
    "by generator": """
class Node:
    entered = left = 0
    def process(self, item):
        self.entered += 1
        try:
            for number in range(10 * item):
                if number % 100 == 7: yield number
        finally:
            self.left += 1
    def flush(self):
        return "flushed"
""",
    "by async generator": """
import asyncio
class Node:
    entered = left = 0
    async def process(self, item):
        self.entered += 1
        try:
            for number in range(item):
                await asyncio.sleep(0)
                if number % 100 == 7: yield number
        finally:
            self.left += 1
    async def flush(self):
        yield "flushed"
""",
}


@contextmanager
def within(node: cloche.Node, seconds: float) -> Iterator[None]:
    """In the block each call has so many seconds; those that a test makes to look at the node have plenty."""
    # a worker knows the deadline_s of its node; it is sent only what stream_s leaves of it
    field = "deadline_s" if isinstance(node._sandbox, Instance) else "stream_s"
    node._sandbox.limit_next_calls(seconds, field)
    try:
        yield
    finally:
        node._sandbox.limit_next_calls(None)


@pytest.fixture(scope="module")
def runtime(isolation: Isolation) -> Iterator[cloche.Runtime]:
    """Of each isolation."""
    with cloche.Runtime(isolation=isolation, limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def loaded(runtime: cloche.Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[cloche.Node]:
    """The node above, for all tests: what one interruption leaves behind meets the next one."""
    folder: Path = tmp_path_factory.mktemp("data")
    (folder / "file.txt").write_text("text")
    never = threading.Event()
    functions = {
        "add": lambda a, b: a + b,
        "hang": cloche.Service(lambda: never.wait(0.05), deadline_s=1000.0),
        "aadd": _add,
    }
    grants = cloche.Grants(services=functions, mounts={"/data": folder})
    with runtime.load(cloche.Source(SOURCE, "node.py"), "Node", grants=grants) as made:
        yield made
    never.set()


async def _add(a: int, b: int) -> int:
    return a + b


def assert_whole(node: cloche.Node, what: object) -> None:
    """It answers, its event loop runs, and every block that was entered has been left."""
    assert not node.broken, what
    entered, left = node.process("state")
    assert entered == left, f"{what}: a finally block did not run"
    assert node.process("usable") == 2, what


def random_seconds(source: random.Random) -> float:
    """A deadline of 2 to 30 ms."""
    return 0.002 + 0.028 * source.random()


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", SHAPES)
def test_a_deadline_at_any_moment_leaves_the_node_usable(loaded: cloche.Node, what: str) -> None:
    """The caller has the deadline's error or the result, never another one."""
    source = random.Random(what)
    for number in range(ROUNDS):
        try:
            with within(loaded, random_seconds(source)):
                loaded.process(what)
        except cloche.DeadlineError as error:
            assert not isinstance(error, cloche.BrokenInstanceError), what
            assert error.limit in ("deadline_s", "stream_s")
            assert error.node == loaded.name
        assert_whole(loaded, (what, number))


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["initialize", "flush"])
def test_a_deadline_in_the_methods_around_it_leaves_the_node_usable(loaded: cloche.Node, method: str) -> None:
    """They end as process does."""
    for _ in range(ROUNDS):
        with within(loaded, 0.01), pytest.raises(cloche.DeadlineError):
            getattr(loaded, method)()
        assert_whole(loaded, method)


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", STREAMS)
def test_a_deadline_in_a_stream_closes_it_and_the_next_one_opens(runtime: cloche.Runtime, kind: str) -> None:
    """The error names the item; the node's generators are closed."""
    source = random.Random(kind)
    with runtime.load(cloche.Source(STREAMS[kind], "node.py"), "Node") as node:
        for number in range(4 * ROUNDS):
            items = itertools.count(2000)
            try:
                with within(node, random_seconds(source)), closing(node.stream(items)) as outputs:
                    for _ in itertools.islice(outputs, 40):
                        pass
            except cloche.DeadlineError as error:
                given = next(items) - 2000
                assert error.item == (given - 1 if given else None)
            assert not node.broken
            assert node.get("entered") == node.get("left"), (kind, number)
            assert list(node.stream([8, 1]))[-1] == "flushed"


@pytest.mark.timeout(600)
def test_a_deadline_while_loading_is_the_loads_error(runtime: cloche.Runtime) -> None:
    """In an import and in ``__init__``; the next load works."""
    sources = (
        "import time\nwhile True: pass\ndef f(x): return x\n",
        "import time\ntime.sleep(1000)\ndef f(x): return x\n",
        "class f:\n    def __init__(self):\n        while True: pass\n    def process(self, x): return x\n",
    )
    for text in sources:
        for _ in range(ROUNDS):
            with pytest.raises(cloche.DeadlineError) as caught:
                runtime.load(cloche.Source(text, "node.py"), "f", limits=cloche.Limits(load_s=0.02, grace_s=60.0))
            assert caught.value.limit == "load_s"
            with runtime.load(cloche.Source("def f(x): return x\n", "node.py"), "f") as node:
                assert node.process(1) == 1


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("what", SHAPES)
def test_cancelling_at_any_moment_leaves_the_node_usable(loaded: cloche.Node, what: str, backend: str) -> None:
    """The task's scope ends it; the guest has time to clean up."""
    source = random.Random(what)

    async def cancelled(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await loaded.aprocess(what)

    for number in range(max(1, ROUNDS // 2)):
        anyio.run(cancelled, random_seconds(source), backend=backend)
        assert_whole(loaded, (what, number))


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_a_stream_closes_it_and_the_next_one_opens(runtime: cloche.Runtime, kind: str, backend: str) -> None:
    """As a deadline does."""
    source = random.Random(kind)

    async def cancelled(node: cloche.Node, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            async with aclosing(node.astream(itertools.repeat(2000))) as outputs:
                async for _ in outputs:
                    pass

    with runtime.load(cloche.Source(STREAMS[kind], "node.py"), "Node") as node:
        for number in range(ROUNDS):
            anyio.run(cancelled, node, random_seconds(source), backend=backend)
            assert not node.broken
            assert node.get("entered") == node.get("left"), (kind, number)
            assert list(node.stream([8, 1]))[-1] == "flushed"


@pytest.mark.isolation(
    "none", reason="in the middle of a message it closes the node: tests/isolation/test_interruptions.py"
)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", [shape for shape in SHAPES if shape != "encoded"])
def test_ctrl_c_at_any_moment_is_raised_by_the_call(loaded: cloche.Node, what: str) -> None:
    """And the node is usable afterwards."""
    source = random.Random(what)
    for number in range(max(1, ROUNDS // 2)):
        timer = threading.Timer(random_seconds(source), os.kill, (os.getpid(), signal.SIGINT))
        gc.disable()  # Python can only print what is raised in a callback of a weak reference
        try:
            with within(loaded, 60.0), pytest.raises(KeyboardInterrupt):
                timer.start()
                loaded.process(what)
        finally:
            gc.enable()
        timer.join()
        assert_whole(loaded, (what, number))


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["logs", "prints"])
def test_what_was_logged_before_a_deadline_arrives_in_order(
    isolation: Isolation, recorder: Recorder, what: str
) -> None:
    """Nothing is lost, nothing comes twice, and what the next call logs comes after it."""
    made = cloche.Runtime(isolation=isolation, limits=LIMITS, logger=recorder)
    with made, made.load(cloche.Source(SOURCE, "node.py"), "Node") as node:
        recorder.take()
        for _ in range(5 * ROUNDS):
            with within(node, 0.01), pytest.raises(cloche.DeadlineError):
                node.process(what)
        numbers = [int(message) for _, message, _ in recorder.take()]
        lacking = node.get("number") - len(numbers)
        assert 0 <= lacking <= 5 * ROUNDS, "each interruption may hit between the counting and the record"
        assert numbers == sorted(set(numbers))


CATCHING = """
import asyncio
from cloche_guest import DeadlineExceeded
class Node:
    def process(self, what):
        return getattr(self, what)() if what else 1
    def value(self):
        try:
            while True: pass
        except DeadlineExceeded:
            return "in time"
    def another(self):
        try:
            while True: pass
        except DeadlineExceeded as error:
            raise ValueError("cleaning up failed") from error
    async def spin(self):
        while True: await asyncio.sleep(0)
    async def group(self):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.spin())
            group.create_task(self.spin())
    def on(self):
        while True:
            try:
                while True: pass
            except DeadlineExceeded:
                pass
"""


def test_what_a_node_makes_of_the_deadline_is_its_answer(runtime: cloche.Runtime) -> None:
    """A value that it returns in time is the result; another exception, and one in a group, is the deadline's error."""
    with runtime.load(cloche.Source(CATCHING, "node.py"), "Node") as node:
        with within(node, 0.01):
            assert node.process("value") == "in time"
        for what in ("another", "group"):
            with within(node, 0.01), pytest.raises(cloche.DeadlineError) as caught:
                node.process(what)
            assert not isinstance(caught.value, cloche.BrokenInstanceError)
            assert node.process(None) == 1
        assert node.stats.breaks == 0


@pytest.mark.parametrize("on_break", ["raise", "restart", "restore"])
def test_a_soft_deadline_is_no_break_and_one_that_is_ignored_is(runtime: cloche.Runtime, on_break: OnBreak) -> None:
    """Nothing is restarted while the node has answered for itself."""
    source = cloche.Source(CATCHING, "node.py")
    limits = cloche.Limits(deadline_s=0.02, grace_s=60.0)
    with runtime.load(source, "Node", limits=limits, on_break=on_break) as node:
        with pytest.raises(cloche.DeadlineError):
            node.process("group")
        assert (node.stats.breaks, node.stats.restarts, node.broken) == (0, 0, False)
    for grace in (0.0, 0.01):
        with runtime.load(
            source, "Node", limits=cloche.Limits(deadline_s=0.02, grace_s=grace), on_break=on_break
        ) as node:
            with pytest.raises(cloche.HardDeadlineError) as caught:
                node.process("on")
            assert caught.value.data == ("on",)
            assert (node.stats.breaks, node.broken) == (1, on_break == "raise")


def test_a_pool_keeps_the_clone_of_a_soft_deadline(runtime: cloche.Runtime) -> None:
    """It is the same node that answers next."""
    text = "class Node:\n    calls = 0\n    def process(self, x):\n        self.calls += 1\n        while x: pass\n        return self.calls\n"
    limits = cloche.Limits(deadline_s=0.1, grace_s=60.0)
    with runtime.pool(cloche.Source(text, "node.py"), "Node", size=1, limits=limits) as pool:
        assert pool.submit(0).result() == 1
        with pytest.raises(cloche.DeadlineError):
            pool.submit(1).result()
        assert pool.submit(0).result() == 3
