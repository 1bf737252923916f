"""`on_log`: records arrive while the call runs. A node prints, and then waits for what only the function can release.

The deadline of each such call is long: if a record came after the call alone, the test would end by it, and fail.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche.testing import LocalGuest
from tests.conftest import Recorder
from tests.limits import patient

WAITING = """
import logging, sys, os, warnings
from cloche_guest import services

class N:
    def process(self, what):
        exec(what)
        return "done"

    def lines(self, count):
        for number in range(count):
            print(number)
        return count

    def each(self, x):
        print("item", x)
        services.release()
        yield x
"""
Make = Callable[..., cloche.Node]


class Live:
    """A function for `on_log`, and the service that its first record releases."""

    def __init__(self, wanted: int = 1) -> None:
        self.records: list[cloche.LogRecord] = []
        self.threads: set[str] = set()
        self._wanted = wanted
        self._came = threading.Semaphore(0)

    def __call__(self, record: cloche.LogRecord) -> None:
        self.records.append(record)
        self.threads.add(threading.current_thread().name)
        self._came.release()

    def release(self) -> bool:
        """The service: waits until as many records have come as are wanted."""
        return all(self._came.acquire(timeout=60) for _ in range(self._wanted))

    @property
    def messages(self) -> list[str]:
        """The texts that have come."""
        return [record.message for record in self.records]


def make(load: Make, live: Live, **limits: Any) -> cloche.Node:
    return load(
        WAITING,
        name="talker",
        limits=patient(deadline_s=100, **limits),
        grants=cloche.Grants(services={"release": live.release}),
    )


def said(logs: Recorder) -> list[str]:
    """What the runtime's logger has got of the node; forgets it."""
    return [message for _, message, fields in logs.take() if "logger" in fields]


SAYINGS = {
    "print": ("print('working')", ["working"]),
    "log": ("logging.getLogger('t').warning('working')", ["working"]),
    "warning": ("warnings.warn('working')", ["UserWarning: working"]),
    "stderr": ("sys.stderr.write('working\\n')", ["working"]),
    "bytes": ("sys.stdout.buffer.write(b'working\\n')", ["working"]),
    "descriptor": ("os.write(1, b'working\\n')", ["working"]),
    "flushed": ("print('working ...', end='', flush=True)", ["working ..."]),
    "in two": ("print('a', end=''); print('b')", ["ab"]),
    "a handler": ("logging.basicConfig(force=True); logging.getLogger('t').warning('working')", ["working"]),
}


@pytest.mark.parametrize(("what", "expected"), SAYINGS.values(), ids=SAYINGS)
def test_a_record_comes_while_the_node_waits_for_it(load: Make, logs: Recorder, what: str, expected: list[str]) -> None:
    """However it was written. What was written before the call's end is not repeated after it."""
    live = Live()
    node = make(load, live)
    said(logs)
    assert node.with_options(on_log=live).process(f"{what}\nassert services.release()\nprint('after')") == "done"
    assert live.messages == [*expected, "after"]
    assert said(logs) == [*expected, "after"], "the logger has all of them after the call"
    assert live.threads == {"cloche-log"}


def test_other_calls_and_other_callers_are_not_heard(load: Make, logs: Recorder) -> None:
    live, other = Live(), Live()
    node = make(load, live)
    node.process("print('before')")
    node.with_options(on_log=live).process("print('mine')")
    node.with_options(on_log=other).process("print('other')")
    node.with_options(on_log=live).with_options(on_log=None).process("print('off')")
    node.process("print('after')\nprint('held', end='', flush=True)")
    assert (live.messages, other.messages) == (["mine"], ["other"])
    assert said(logs)[-3:] == ["off", "after", "held"]


def test_records_are_whole_and_in_order(load: Make) -> None:
    """With everything that the logger gets."""
    live = Live()
    node = make(load, live)
    node.with_options(on_log=live).process(
        "logging.getLogger('t').error('first', extra={'k': 1})\nprint('second\\x1b')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('t').exception('third')"
    )
    assert [(one.level, one.logger, one.message, one.call) for one in live.records] == [
        ("error", "t", "first", 2),
        ("info", "stdout", "second\\x1b", 2),
        ("error", "t", "third", 2),
    ]
    assert live.records[0].fields == {"k": 1}
    assert "ZeroDivisionError" in (live.records[2].exception or "")


def test_records_come_in_streams(load: Make) -> None:
    """Each item's before its output is asked for."""
    live = Live()
    node = load(
        WAITING.replace("process", "other").replace("each", "process"),
        limits=patient(deadline_s=100),
        grants=cloche.Grants(services={"release": live.release}),
    )
    outputs = node.with_options(on_log=live).stream([1, 2, 3])
    for number in (1, 2, 3):
        assert next(outputs) == number
        assert live.messages == [f"item {one}" for one in range(1, number + 1)]
    assert list(outputs) == []


def test_records_come_in_awaited_calls(load: Make) -> None:
    live = Live()
    view = make(load, live).with_options(on_log=live)

    async def main() -> object:
        return await view.aprocess("print('working')\nassert services.release()")

    assert asyncio.run(main()) == "done"
    assert live.messages == ["working"]


def test_a_callback_reaches_an_event_loop(load: Make) -> None:
    """As docs/how-to/logs.md says."""
    live = Live()
    node = make(load, live)

    async def main() -> str:
        loop, came = asyncio.get_running_loop(), asyncio.Queue[str]()

        def on_log(record: cloche.LogRecord) -> None:
            loop.call_soon_threadsafe(came.put_nowait, record.message)

        call = asyncio.ensure_future(
            node.with_options(on_log=on_log).aprocess("print('working')\nassert services.release()")
        )
        text = await came.get()
        live(cloche.LogRecord("info", "", "", 0))  # releases the node
        await call
        return text

    assert asyncio.run(main()) == "working"


def test_records_come_in_pools(runtime: cloche.Runtime) -> None:
    """Of items that run at the same time, to one function that is called with one record after the other."""
    live = Live()
    source = cloche.Source(WAITING)
    options: dict[str, Any] = {
        "limits": patient(deadline_s=100),
        "grants": cloche.Grants(services={"release": live.release}),
    }
    with runtime.pool(source, size=2, **options) as pool:
        view = pool.with_options(on_log=live)
        calls = [f"print({number})\nassert services.release()" for number in range(6)]
        assert list(view.map(calls)) == ["done"] * 6
        assert sorted(live.messages) == [str(number) for number in range(6)]
        assert pool.submit("print('quiet')").result() == "done"
        assert len(live.records) == 6
    assert live.threads == {"cloche-log"}


def test_records_come_from_a_local_guest() -> None:
    live = Live()
    grants = cloche.Grants(services={"release": live.release})
    with LocalGuest(cloche.Source(WAITING), grants=grants) as node:
        node.with_options(on_log=live).process("print('working', end='', flush=True)\nassert services.release()")
        assert live.messages == ["working"] == [record.message for record in node.records]


# ---- how calls end
ENDS: dict[str, tuple[str, Any]] = {
    "raises": ("raise ValueError", cloche.NodeRaisedError),
    "exits": ("os._exit(1)", cloche.GuestExitError),
    "deadline": ("while True: pass", cloche.DeadlineError),
    "hard": ("while True:\n  try:\n    while True: pass\n  except BaseException: pass", cloche.HardDeadlineError),
    "prints": ("while True: print('x' * 1000)", cloche.OutputError),
}


@pytest.mark.parametrize(("what", "kind"), ENDS.values(), ids=ENDS)
def test_nothing_is_lost_or_doubled_when_a_call_fails(load: Make, logs: Recorder, what: str, kind: Any) -> None:
    live = Live()
    node = make(load, live, log_records=50, output_bytes=10_000)
    said(logs)
    with pytest.raises(kind) as caught:
        node.with_options(on_log=live, deadline_s=1).process(f"print('said')\n{what}")
    logged = said(logs)
    assert live.messages[0] == "said"
    assert live.messages == logged
    if isinstance(caught.value, cloche.BrokenInstanceError):
        assert [record.message for record in caught.value.last_logs] == logged
    assert logged.count("said") == 1


def test_a_line_that_was_flushed_before_a_break_comes_once(load: Make, logs: Recorder) -> None:
    live = Live()
    node = make(load, live)
    said(logs)
    with pytest.raises(cloche.GuestExitError):
        node.with_options(on_log=live).process("print('loading ...', end='', flush=True)\nos._exit(1)")
    assert live.messages == ["loading ..."] == said(logs)


def test_ctrl_c_loses_no_record(load: Make, logs: Recorder) -> None:
    """The service raises what a signal's handler would, while the node waits."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    node = load(WAITING, limits=patient(deadline_s=100), grants=cloche.Grants(services={"release": interrupted}))
    live = Live()
    said(logs)
    with pytest.raises(KeyboardInterrupt):
        node.with_options(on_log=live).process("print('before')\ntry: services.release()\nfinally: print('after')")
    assert live.messages == ["before", "after"]
    assert said(logs) == live.messages
    assert node.with_options(on_log=live).process("print('again')") == "done"
    assert live.messages[-1] == "again"


def test_a_node_that_is_brought_back_is_heard(runtime: cloche.Runtime) -> None:
    live = Live()
    with runtime.load(cloche.Source(WAITING), on_break="restart", limits=patient()) as node:
        view = node.with_options(on_log=live)
        with pytest.raises(cloche.GuestExitError):
            view.process("print(1)\nos._exit(1)")
        assert view.process("print(2)") == "done"
    assert live.messages == ["1", "2"]


# ---- limits
def test_the_first_records_come_live_and_the_newest_go_to_the_logger(load: Make, logs: Recorder) -> None:
    live = Live()
    node = make(load, live, log_records=3)
    said(logs)
    assert node.with_options(on_log=live).call("lines", 10) == 10
    assert live.messages[:3] == ["0", "1", "2"]
    assert len(live.messages) == 4
    assert live.messages[3].startswith("7 of 10 log records dropped (log_records=3,")
    assert said(logs) == ["7", "8", "9", live.messages[3]]
    assert node.stats.dropped_records == 7


def test_many_records_come_all(load: Make) -> None:
    """More than the ring holds, and more than one answer of a worker process."""
    live = Live()
    node = make(load, live, log_records=10_000)
    node.with_options(on_log=live).process("for number in range(40): print(str(number) * 4000)")
    assert live.messages == [str(number) * 4000 for number in range(40)]
    live.records.clear()
    node.with_options(on_log=live).process("for number in range(15): print(str(number % 10) * 60_000)")
    assert [message[:9] for message in live.messages] == [str(number % 10) * 9 for number in range(15)]
    live.records.clear()
    node.with_options(on_log=live).call("lines", 3000)
    assert live.messages == [str(number) for number in range(3000)]


def test_forged_records_are_counted_and_hurt_nobody(load: Make, logs: Recorder) -> None:
    """A node may write to the ring past `logging`, anything that it likes."""
    live = Live()
    node = make(load, live)
    said(logs)
    node.with_options(on_log=live).process(
        "import _cloche\n"
        "for forged in ([], {}, 'x', None, [1], [20, 't', 5, None, None, 0], [20, 't', 'm', [], None, 0], [3, b'x'], [[[[]]]]):\n"
        "    _cloche.emit(forged)\n"
        "_cloche.emit([20, 't' * 10_000, '\\x1b[2J' + 'm' * 100_000, {'k': ['v' * 100_000]}, None, -1])\n"
        "_cloche.emit([10**18, 'cloche', 'm', None, 'e' * 200_000, 0])\n"
        "assert not _cloche.hold(1, [20, 'stdout', 'held', None, None, 0])\n"
    )
    assert [len(record.message) < 17_000 and "\x1b" not in record.message for record in live.records] == [True] * 3
    assert live.records[-1].message.startswith("9 of 11 log records dropped")
    assert said(logs) == live.messages


def test_a_flood_fills_no_memory(load: Make) -> None:
    """Beyond `log_records` nothing is kept for the function."""
    live = Live()
    node = make(load, live, log_records=20, output_bytes=1 << 30)
    assert node.with_options(on_log=live, deadline_s=20).call("lines", 5000) == 5000
    assert len(live.records) == 21
    assert node.stats.dropped_records == 4980


# ---- the function
def test_a_function_that_raises_costs_nothing(load: Make, logs: Recorder) -> None:
    """It is reported once, and called with the next record."""
    seen: list[str] = []

    def on_log(record: cloche.LogRecord) -> None:
        seen.append(record.message)
        raise OSError("the browser has gone")

    node = make(load, Live())
    said(logs)
    with pytest.warns(RuntimeWarning, match="the function on_log raised OSError: 'the browser has gone'") as warned:
        assert node.with_options(on_log=on_log).call("lines", 3) == 3
    assert (seen, len(warned)) == (["0", "1", "2"], 1)
    assert said(logs) == ["0", "1", "2"]


def test_a_function_that_blocks_delays_no_deadline(load: Make) -> None:
    """Nor the call's end. The rest comes when it goes on."""
    blocked, on = threading.Event(), threading.Event()
    seen: list[str] = []
    all_seen = threading.Event()

    def on_log(record: cloche.LogRecord) -> None:
        blocked.set()
        assert on.wait(100)
        seen.append(record.message)
        if len(seen) == 3:
            all_seen.set()

    view = make(load, Live()).with_options(on_log=on_log, deadline_s=0.5)
    with pytest.raises(cloche.DeadlineError):
        view.process("print(1)\nprint(2)\nwhile True: pass")
    assert blocked.is_set()
    assert view.process("print(3)") == "done"
    assert seen == [], "the calls have ended before"
    on.set()
    assert all_seen.wait(60)
    assert seen == ["1", "2", "3"]


def test_a_function_may_call_the_node(load: Make) -> None:
    """Through the same view, too: the call waits for its turn, and neither waits for ever."""
    answers: list[object] = []
    answered = threading.Event()

    def on_log(record: cloche.LogRecord) -> None:
        if record.message == "first":
            answers.append(view.process("print('second')"))
        else:
            answered.set()

    node = make(load, Live())
    view = node.with_options(on_log=on_log)
    assert view.process("print('first')") == "done"
    assert answered.wait(60)
    assert answers == ["done"]


async def wrong(record: cloche.LogRecord) -> None:
    """What asyncio's users write first."""


@pytest.mark.parametrize(
    ("given", "refused"), [(5, "on_log is 5: give a function"), (wrong, "on_log is an async function")]
)
def test_what_is_no_function_is_refused(load: Make, runtime: cloche.Runtime, given: Any, refused: str) -> None:
    with pytest.raises(TypeError, match=refused):
        load("def f(x): return x").with_options(on_log=given)
    with pytest.raises(TypeError, match=r"Node\.with_options has no option 'on_logs': did you mean on_log\?"):
        load("def f(x): return x").with_options(on_logs=print)  # type: ignore[call-arg]
