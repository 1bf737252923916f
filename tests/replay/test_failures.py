"""Whatever way a recorded call fails in, its error names a recording: of the call with which it failed, and which replays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.replay import Record, Recording, replay
from tests.limits import patient

CODE = """
import os, sys
class Node:
    def __init__(self, fails=False):
        if fails == "raise": raise ValueError("at load")
        while fails == "loop": pass
    def process(self, wish):
        if wish == "raise": raise ValueError("raised")
        if wish == "exit": os._exit(3)
        if wish == "memory": return bytearray(1 << 34)
        if wish == "no value": return object()
        if wish == "reseed":
            def loop(*_):
                while True: pass
            sys.modules["cloche_guest.reseed"].numpy_seeder = loop
        while wish == "loop": pass
        while wish == "stubborn":
            try:
                while True: pass
            except BaseException: pass
        return wish
class Many:
    def process(self, item):
        while True: yield item
"""
SOURCE = cloche.Source(CODE, "node.py")
Make = Callable[..., cloche.Node]


@pytest.fixture
def recorded(runtime: cloche.Runtime, tmp_path: Path) -> Iterator[Make]:
    """Make a recorded node."""
    nodes: list[cloche.Node] = []

    def make(**options: Any) -> cloche.Node:
        nodes.append(runtime.load(SOURCE, options.pop("entry", "Node"), record=tmp_path, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def until_it_computes(node: cloche.Node) -> None:
    """Wait until the node is in one of its loops."""
    until = time.monotonic() + 60
    while "process" not in node.where():
        assert time.monotonic() < until, "the node does not begin"
        time.sleep(0.01)


def check(error: cloche.ClocheError, runtime: cloche.Runtime, kind: type[cloche.ClocheError]) -> Recording:
    """The recording that an error names, which is about that error, and replays."""
    assert isinstance(error, kind)
    recording = Recording.open(error.recording)
    assert isinstance(error, cloche.BudgetError) or recording.error == type(error).__name__
    report = replay(recording, runtime=runtime)
    assert report, str(report)
    return recording


FAILURES: dict[str, tuple[type[cloche.ClocheError], dict[str, Any]]] = {
    "raise": (cloche.NodeRaisedError, {}),
    "no value": (cloche.NodeRaisedError, {}),
    "memory": (cloche.NodeRaisedError, {}),
    "exit": (cloche.GuestExitError, {}),
    "loop": (cloche.DeadlineError, {"limits": patient(deadline_s=0.2)}),
    "stubborn": (cloche.HardDeadlineError, {"limits": patient(deadline_s=0.2, grace_s=0.05)}),
}


@pytest.mark.parametrize("wish", FAILURES)
def test_each_kind_of_failure_names_its_recording(recorded: Make, runtime: cloche.Runtime, wish: str) -> None:
    kind, options = FAILURES[wish]
    with pytest.raises(kind) as caught:
        recorded(**options).process(wish)
    assert check(caught.value, runtime, kind).calls[-1].operands == [wish]


@pytest.mark.parametrize("wish", ["loop", "stubborn"])
def test_a_budget_that_ends_a_call_names_its_recording(recorded: Make, runtime: cloche.Runtime, wish: str) -> None:
    """The error is another object than the deadline's, which it takes the place of."""
    node = recorded(budget=cloche.Budget("ada", processor_s=0.2), limits=patient(grace_s=0.05))
    kind = cloche.BudgetError if wish == "loop" else cloche.HardBudgetError
    with pytest.raises(kind) as caught:
        node.process(wish)
    assert check(caught.value, runtime, kind).calls[-1].operands == [wish]
    with pytest.raises(cloche.ClocheError) as refused:  # a call that was not let in is no failing call
        node.process("raise")
    assert not refused.value.recording


@pytest.mark.parametrize(
    ("fails", "kind", "options"),
    [
        ("raise", cloche.NodeLoadError, {}),
        ("loop", cloche.DeadlineError, {"limits": patient(load_s=0.2)}),
        ("loop", cloche.BudgetError, {"budget": cloche.Budget("eve", processor_s=0.2)}),
    ],
    ids=["raises", "late", "spent"],
)
def test_a_load_that_fails_names_its_recording(
    recorded: Make, runtime: cloche.Runtime, fails: str, kind: type[cloche.ClocheError], options: dict[str, Any]
) -> None:
    with pytest.raises(kind) as caught:
        recorded(params={"fails": fails}, **options)
    check(caught.value, runtime, kind)


@pytest.mark.parametrize("wish", ["loop", "stubborn"])
def test_an_interruption_names_its_recording(recorded: Make, runtime: cloche.Runtime, wish: str) -> None:
    """In the middle of its code, nobody knows where: a replay is told to stop as well, after the time that the call took."""
    node = recorded(limits=patient(grace_s=0.05))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(node.process, wish)
        until_it_computes(node)
        assert node.interrupt()
        with pytest.raises(cloche.CallInterruptedError) as caught:
            call.result(60)
    recording = check(caught.value, runtime, cloche.CallInterruptedError)
    assert not recording.calls[-1].is_exact


async def awaited(node: cloche.Node, wish: str) -> Any:
    return await node.aprocess(wish)


def test_awaited_calls_name_their_recordings(recorded: Make, runtime: cloche.Runtime, tmp_path: Path) -> None:
    """A task that was cancelled has no error to name one; its file is there nevertheless."""
    with pytest.raises(cloche.NodeRaisedError) as caught:
        asyncio.run(awaited(recorded(), "raise"))
    check(caught.value, runtime, cloche.NodeRaisedError)

    node = recorded()

    async def cancelled() -> None:
        task = asyncio.create_task(awaited(node, "loop"))
        await asyncio.to_thread(until_it_computes, node)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = {*tmp_path.iterdir()}
    asyncio.run(cancelled())
    (path,) = {*tmp_path.iterdir()} - before
    assert Recording.open(path).error == "CallInterruptedError"


def test_a_stream_that_passes_its_limit_names_its_recording(recorded: Make, runtime: cloche.Runtime) -> None:
    """The limit is the host's: the guest has not failed."""
    node = recorded(entry="Many", limits=patient(stream_items=3))
    with pytest.raises(cloche.StreamLimitError) as caught:
        list(node.stream([1]))
    assert len(check(caught.value, runtime, cloche.StreamLimitError).calls) >= 4


def test_a_restore_that_fails_names_its_recording(recorded: Make, runtime: cloche.Runtime, tmp_path: Path) -> None:
    node = recorded()
    node.process("reseed")
    with pytest.raises(cloche.DeadlineError) as caught:
        runtime.restore(node.snapshot(), limits=patient(deadline_s=0.2), record=tmp_path)
    assert check(caught.value, runtime, cloche.DeadlineError).calls[-1].op == "reseed"


def test_a_pools_items_name_their_recordings(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """Each clone is recorded for itself, and what failures leave is counted for all together."""
    record = Record(folder=tmp_path, max_files=3)
    with runtime.pool(SOURCE, "Node", size=2, record=record, limits=patient(grace_s=0.05)) as pool:
        for wish, kind in (("raise", cloche.NodeRaisedError), ("exit", cloche.GuestExitError)):
            error = pool.submit(wish).exception()
            assert isinstance(error, cloche.ClocheError)
            assert check(error, runtime, kind).calls[-1].operands == [wish]
        with pytest.raises(cloche.NodeRaisedError) as caught:
            list(pool.map(["a", "raise"]))
        check(caught.value, runtime, cloche.NodeRaisedError)
        with pool.acquire() as node:
            node.process("kept")
            assert node.recording.calls[-1].operands == ["kept"]
        errors = [pool.submit("raise").exception() for _ in range(6)]
    paths = {error.recording for error in errors if isinstance(error, cloche.ClocheError)}
    assert len(paths) == 6
    assert {str(path) for path in tmp_path.iterdir()} < paths and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(cloche.NodeLoadError) as failed:
        runtime.pool(SOURCE, "Node", {"fails": "raise"}, record=tmp_path)
    check(failed.value, runtime, cloche.NodeLoadError)


def test_a_pool_that_makes_a_clone_for_each_item_records_each(runtime: cloche.Runtime, tmp_path: Path) -> None:
    with runtime.pool(SOURCE, "Node", size=1, reset=True, record=tmp_path) as pool:
        assert pool.submit("a").result() == "a"
        error = pool.submit("raise").exception()
    assert isinstance(error, cloche.ClocheError)
    calls = check(error, runtime, cloche.NodeRaisedError).calls
    assert [call.operands for call in calls if call.op == "process"] == [["raise"]]
