"""An exception that the host raises between two instructions: whatever it hits, the guest answers, and its next call finds it whole."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import gc
import itertools
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from cloche_guest import Cancelled, DeadlineExceeded, Interrupted
from cloche_guest.failure import describe
from cloche_guest.loop import Loop, run_inline
from cloche_guest.threads import _submit
from cloche_wire import Op, Reply
from tests.guest.conftest import Bench

pytestmark = pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # of an interrupted call, as it is collected


@pytest.fixture(autouse=True)
def no_hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pytest's own hook, in Python, would be interrupted too. `id` takes what a hook takes, and does nothing.

    What the interrupted calls leave is collected here, or it would complain in another test.
    """
    monkeypatch.setattr(sys, "unraisablehook", id)
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    """`logging` holds a lock of the whole process for a moment: an interruption there must not stop other tests' threads."""
    yield
    lock: Any = logging._lock  # type: ignore[attr-defined]
    while lock._is_owned():
        lock.release()


NODE = """
import asyncio, concurrent.futures, logging
from contextlib import contextmanager

log = logging.getLogger("node")

class Node:
    def __init__(self):
        self.entered = self.left = 0

    @contextmanager
    def counted(self):
        self.entered += 1
        try:
            yield
        finally:
            self.left += 1

    def process(self, what):
        return getattr(self, what)()

    def whole(self):
        return self.entered == self.left

    def count(self):
        with self.counted():
            return sum(number * number for number in range(5))

    def text(self):
        with self.counted():
            log.warning("%s %s", "a", [1], extra={"x": {"y": (1, 2)}})
            print("a", "b")
            print("half", end="")

    def fault(self):
        with self.counted():
            try:
                {}["x"]
            except KeyError as error:
                raise ValueError("from it") from error

    def inline(self):
        with self.counted(), concurrent.futures.ThreadPoolExecutor() as pool:
            return pool.submit(len, "abc").result()

    async def sleep(self):
        with self.counted():
            await asyncio.sleep(0)
            await asyncio.sleep(0.0001)
            return 1

    async def gather(self):
        with self.counted():
            return await asyncio.gather(self.sleep(), self.sleep())

    async def timeout(self):
        with self.counted():
            return await asyncio.wait_for(self.sleep(), 5)

    def run(self):
        with self.counted():
            return asyncio.run(self.sleep())

    def items(self):
        with self.counted():
            yield 1
            yield 2

    async def aitems(self):
        with self.counted():
            yield 1
            await asyncio.sleep(0)
            yield 2
"""
STREAM = """
class Node:
    is_streaming = True
    entered = left = 0
    async def process(self, items):
        self.entered += 1
        try:
            async for item in items:
                yield item * 2
        finally:
            self.left += 1
    def flush(self):
        return "flushed"
"""
ITEMS = """
class Node:
    entered = left = 0
    def process(self, item):
        self.entered += 1
        try:
            yield item * 2
        finally:
            self.left += 1
    def flush(self):
        return "flushed"
"""
KINDS = ["count", "text", "fault", "inline", "sleep", "gather", "timeout", "run", "items", "aitems"]
OWN = (
    "cloche_guest",
    "cloche_wire",
    "asyncio",
    "logging",
    "contextlib",
    "threading",
    "importlib",
    "concurrent",
    "weakref",
    "_weakrefset",
)


_calls = itertools.count(1)


class Interrupter:
    """Raises at the n-th place where CPython looks for signals: as a function begins, as a loop goes round, after a call.

    As the shim does, it puts that off while the runtime's own code is on top, unless it is to raise everywhere.

    Attributes:
        places: passed so far.
    """

    def __init__(self, at: int, everywhere: bool) -> None:
        self.places = 0
        self._at = at
        self._everywhere = everywhere
        self._called: set[FrameType] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_globals.get("__name__", "")
        if not self._everywhere and name.partition(".")[0] in OWN:
            return None
        frame.f_trace_opcodes = True
        if event in ("call", "opcode") and self._looks_for_signals(frame, event):
            self.places += 1
            if self.places == self._at:
                raise DeadlineExceeded("the call passed its deadline")
        return self

    def _looks_for_signals(self, frame: FrameType, event: str) -> bool:
        operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if event == "call":
            return operation == "RESUME"  # and not a generator that something is thrown into
        called = frame in self._called
        (self._called.add if operation.startswith("CALL") else self._called.discard)(frame)
        return called or operation == "JUMP_BACKWARD"


def answer(
    bench: Bench, op: Op, *operands: Any, trace: Interrupter | None = None, recover: bool = True
) -> tuple[Reply, Any]:
    """One message and its reply, by the steps of the shim's `answer`; `recover`: as after a call that had a notice."""
    guest, before = bench.guest, sys.gettrace()
    with bench.surroundings.lent():
        sys.settrace(trace)
        try:
            kind, value = guest.handle([int(op), next(_calls), *operands])
        except Interrupted as error:
            sys.settrace(None)
            kind, value = guest.fail(error, "call", int(op), last=True)
        finally:
            sys.settrace(before)
        if recover:
            guest.recover()
    return Reply(kind), value


def assert_whole() -> None:
    """No loop is left running in this thread."""
    assert asyncio._get_running_loop() is None


def interruptions(call: Callable[[Interrupter], Any], everywhere: bool, step: int) -> Iterator[Any]:
    """What `call` answers, interrupted at its first place, `step` places on, and so on until it is not interrupted any more."""
    at = 1 - step
    while True:
        at += step
        trace = Interrupter(at, everywhere)
        yield call(trace)
        if trace.places < at:
            return


@pytest.fixture
def step(thorough, everywhere):
    """From one place to the next. In the node there are few of them; everywhere, some thousands."""
    return 1 if thorough or not everywhere else 23


@pytest.mark.parametrize("everywhere", [False, True], ids=["in the node", "everywhere"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_interrupted_anywhere_leaves_the_node_usable(load, monkeypatch, kind, everywhere, step):
    """It fails as an ordinary failure or has ended already; the next call works, and so does the loop."""
    monkeypatch.setattr(asyncio, "run", lambda main: _run_in(Loop(), main))  # of the guest's own kind, as in the image
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", _submit)  # likewise
    bench = load(NODE)
    failed = 0
    for reply, value in interruptions(lambda trace: answer(bench, Op.PROCESS, kind, trace=trace), everywhere, step):
        if reply is Reply.FAILURE and value["type"] == "cloche_guest.DeadlineExceeded":
            failed += 1
        assert_whole()
        assert answer(bench, Op.PROCESS, "count") == (Reply.RESULT, 30)
        assert answer(bench, Op.PROCESS, "sleep") == (Reply.RESULT, 1)
        if not everywhere:
            assert answer(bench, Op.PROCESS, "whole") == (Reply.RESULT, True), "a finally block did not run"
    assert failed > (2 if step == 1 else 0)


@pytest.mark.parametrize("everywhere", [False, True], ids=["in the node", "everywhere"])
@pytest.mark.parametrize("source", [STREAM, ITEMS], ids=["whole input", "items"])
def test_a_stream_interrupted_anywhere_is_closed_as_after_an_exception(load, source, everywhere, step):
    """Its finally blocks run; the next stream starts afresh."""
    bench = load(source)

    def stream(trace: Interrupter | None = None) -> list[Any]:
        outputs, left = [], iter([1, 2])
        reply = answer(bench, Op.STREAM_OPEN, trace=trace)
        while reply[0] not in (Reply.END, Reply.FAILURE):
            kind, value = reply
            if kind is not Reply.NEED:
                outputs.append(value)
            item = None if kind is Reply.YIELD else next(left, 0)
            message = (Op.STREAM_NEXT,) if item is None else (Op.STREAM_FEED, item) if item else (Op.STREAM_END,)
            reply = answer(bench, *message, trace=trace)
        return [*outputs, reply[0]]

    whole = [2, 4, "flushed", Reply.END]
    assert stream() == whole
    failed = 0
    for outputs in interruptions(stream, everywhere, step):
        failed += outputs[-1] is Reply.FAILURE
        assert_whole()
        assert stream() == whole
        if not everywhere:
            assert answer(bench, Op.GET, "entered") == answer(bench, Op.GET, "left")
    assert failed > (2 if step == 1 else 0)


def test_what_a_node_catches_is_the_deadline_and_no_exception(load):
    """``except Exception`` lets it pass, ``except DeadlineExceeded`` takes it."""
    source = """
        from cloche_guest import Cancelled, DeadlineExceeded, Interrupted
        class Node:
            def process(self, data):
                try:
                    raise DeadlineExceeded("now")
                except Exception:
                    return "no"
                except Cancelled:
                    return "no"
                except Interrupted as error:
                    return str(error)
    """
    assert load(textwrap.dedent(source)).process(1) == "now"
    assert not issubclass(Interrupted, Exception)
    assert issubclass(Cancelled, Interrupted)


def test_an_executor_does_not_keep_it():
    """As KeyboardInterrupt, it leaves the function's caller at once instead of becoming a result."""

    def interrupted() -> None:
        raise DeadlineExceeded

    loop = Loop()
    with pytest.raises(DeadlineExceeded):
        run_inline(loop.create_future(), interrupted)
    loop.finish()


def test_a_callback_of_the_loop_hands_it_on_and_it_is_not_logged(caplog):
    """asyncio logs what a callback raises; this is no accident of the callback's."""
    loop = Loop()

    def interrupted() -> None:
        raise Cancelled("now")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(interrupted)
        await asyncio.sleep(10)

    with pytest.raises(Cancelled, match="now"):
        loop.drive(main())
    loop.finish()
    assert caplog.records == []


def test_a_wait_of_the_loop_raises_it_at_the_await(monkeypatch):
    """The sleeping loop is where the host's notice arrives; the coroutine that waits is what it is for."""
    seen = []

    async def main() -> None:
        try:
            await asyncio.sleep(10)
        except DeadlineExceeded as error:
            seen.append(str(error))
            raise

    def interrupted(seconds: float) -> None:
        raise DeadlineExceeded("now")

    loop = Loop()
    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(DeadlineExceeded):
        loop.drive(main())
    monkeypatch.undo()
    assert seen == ["now"]
    loop.finish()


def test_an_interrupted_description_is_tried_again():
    """The first attempt hands it on, so that the shim can report it; the last one reports what it can."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        describe(Hostile(), "call")
    assert describe(Hostile(), "call", last=True).message == "<cannot be described: cloche_guest.DeadlineExceeded>"


def test_the_last_attempt_leaves_out_what_took_too_long():
    """What was being described when the deadline came is the context of its exception."""
    try:
        try:
            raise ValueError
        except ValueError:
            raise DeadlineExceeded("now") from None
    except DeadlineExceeded as error:
        error.__suppress_context__ = False
        assert describe(error, "call").cause is not None
        assert describe(error, "call", last=True).cause is None


TASKS = """
import asyncio
from cloche_guest import DeadlineExceeded

class Node:
    def __init__(self):
        self.seen = []
        self.kept = None
        self.done = 0

    def process(self, what):
        return getattr(self, what)()

    async def interrupted(self):
        await asyncio.sleep(0)
        raise DeadlineExceeded("now")

    async def spin(self):
        try:
            while True:
                await asyncio.sleep(0)
                self.done += 1
        finally:
            self.seen.append("spin")

    async def keep(self):
        self.kept = asyncio.create_task(self.spin())
        await asyncio.sleep(0)

    async def wait_beside(self):
        task = asyncio.create_task(self.interrupted())
        try:
            await asyncio.sleep(1000)
        except DeadlineExceeded as error:
            self.seen.append(str(error))
            raise

    async def work_beside(self):
        task = asyncio.create_task(self.interrupted())
        task.add_done_callback([].append)
        await self.spin()

    async def wait_for_both(self):
        tasks = [asyncio.create_task(self.interrupted()), asyncio.create_task(self.spin())]
        await asyncio.wait(tasks)

    async def collect(self):
        await asyncio.gather(self.interrupted(), self.spin(), return_exceptions=True)

    async def gather(self):
        await asyncio.gather(self.interrupted(), self.spin())

    def inside(self):
        asyncio.run(self.wait_beside())

    async def catch(self):
        try:
            await asyncio.create_task(self.interrupted())
        except DeadlineExceeded:
            for number in range(100):
                await asyncio.sleep(0)
            return "cleaned up"

    def steps(self):
        before, self.done = self.done, 0
        return before

    def take(self):
        seen, self.seen = self.seen, []
        return seen
"""


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("wait_beside", ["now"]),
        ("inside", ["now"]),
        ("work_beside", ["spin"]),
        ("wait_for_both", ["spin"]),
        ("collect", ["spin"]),
        ("gather", ["spin"]),
    ],
)
def test_an_interruption_of_any_task_ends_the_call_and_its_tasks(load, monkeypatch, what, seen):
    """Whoever awaits that task or does not: the call may not go on without having heard of it, nor its tasks after it."""
    monkeypatch.setattr(asyncio, "run", lambda main: _run_in(Loop(), main))
    bench = load(TASKS)
    reply, failure = answer(bench, Op.PROCESS, what)
    assert (reply, failure["type"], failure["message"]) == (Reply.FAILURE, "cloche_guest.DeadlineExceeded", "now")
    assert answer(bench, Op.PROCESS, "take") == (Reply.RESULT, seen)
    answer(bench, Op.PROCESS, "steps")
    assert answer(bench, Op.PROCESS, "steps") == (Reply.RESULT, 0), "a task of the interrupted call goes on"


def _run_in(loop: Loop, main: Any) -> Any:
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_an_interruption_that_was_caught_is_not_raised_again(load):
    """However long the awaiting coroutine then takes to clean up."""
    assert answer(load(TASKS), Op.PROCESS, "catch") == (Reply.RESULT, "cleaned up")


def test_tasks_of_earlier_calls_survive_an_interruption(load):
    """A node keeps what it has started before; only what the interrupted call has started is cancelled."""
    bench = load(TASKS)
    assert answer(bench, Op.PROCESS, "keep", recover=False)[0] is Reply.RESULT
    assert answer(bench, Op.PROCESS, "wait_beside")[0] is Reply.FAILURE
    answer(bench, Op.PROCESS, "steps")
    assert answer(bench, Op.PROCESS, "steps", recover=False)[1] > 0
    assert answer(bench, Op.PROCESS, "take") == (Reply.RESULT, ["now"])
