"""``Runtime(on_call=, on_break=)``: one record for each call and each break, and no hook can harm a call."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import cloche
from cloche._sandbox import Instance, Watched
from cloche.isolation import Isolation
from tests.limits import patient

NODE = cloche.Source("""
import os
import cloche_guest

class Node:
    def __init__(self, session_id=None):
        self.session_id = session_id
    def process(self, x=None):
        match x:
            case "raise":
                raise ValueError("no")
            case "exit":
                os._exit(3)
            case "long":
                while True:
                    pass
        return x
    def initialize(self):
        pass
    def twice(self, x):
        return 2 * x
""")
STREAM = cloche.Source("def parts(item):\n    yield item")


class Told:
    """Hooks that keep what they get."""

    def __init__(self) -> None:
        self.calls: list[cloche.CallRecord] = []
        self.breaks: list[cloche.BreakRecord] = []

    def take(self) -> list[tuple[str, str, int, str]]:
        """Op, method, number and error of the calls so far; forgets them."""
        calls, self.calls = self.calls, []
        return [(each.op, each.method, each.call, each.error) for each in calls]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def own(isolation: Isolation, told: Told) -> Iterator[cloche.Runtime]:
    with cloche.Runtime(
        isolation=isolation,
        limits=patient(),
        on_call=lambda record: told.calls.append(record),
        on_break=told.breaks.append,
    ) as runtime:
        yield runtime


def test_every_call_is_reported_once(own: cloche.Runtime, told: Told) -> None:
    node = own.load(NODE, session_id="tenant-1", name="mine")
    node.initialize()
    node.process(1)
    node.process(x=2)
    node.call("twice", 3)
    node.get("session_id")
    assert told.calls[0].session_id == "tenant-1"
    assert {record.node for record in told.calls} == {"mine"}
    assert all(record.seconds > 0 for record in told.calls)
    assert told.take() == [
        ("load", "", 1, ""),
        ("invoke", "initialize", 2, ""),
        ("process", "process", 3, ""),
        ("call", "process", 4, ""),
        ("call", "twice", 5, ""),
        ("get", "", 6, ""),
    ]
    node.clone(name="clone")
    assert (told.calls[0].node, told.calls[0].session_id) == ("clone", "tenant-1")
    assert told.take() == [("reseed", "", 7, "")]


def test_a_record_says_how_many_bytes_went_in_and_out(own: cloche.Runtime, told: Told) -> None:
    node = own.load(NODE)
    node.process(b"x" * 300_000)  # beside the message
    large = told.calls[-1]
    assert 300_000 <= large.bytes_in < 300_200
    assert 300_000 <= large.bytes_out < 300_200
    node.process(1)
    small = told.calls[-1]
    assert 0 < small.bytes_in < 100
    assert 0 < small.bytes_out < 100


def test_the_answers_of_services_count(own: cloche.Runtime, told: Told) -> None:
    source = cloche.Source(
        "from cloche_guest import services\ndef f(x):\n    return len(services.large(b'y' * 70_000))"
    )
    node = own.load(source, grants=cloche.Grants(services={"large": lambda text: b"x" * 200_000}))
    node.process(1)
    assert 200_000 <= told.calls[-1].bytes_in < 200_500
    assert 70_000 <= told.calls[-1].bytes_out < 70_500


def test_a_record_names_the_error_that_the_caller_gets(own: cloche.Runtime, told: Told) -> None:
    node = own.load(NODE, limits=patient(deadline_s=0.05, grace_s=60))
    told.take()
    errors = []
    for value in ("raise", "long", object(), "exit"):
        with pytest.raises(cloche.ClocheError) as caught:
            node.process(value)
        errors.append(type(caught.value).__name__)
    assert errors == ["NodeRaisedError", "DeadlineError", "EncodeError", "GuestExitError"]
    assert [record.error for record in told.calls] == errors
    told.take()
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    assert told.take() == []  # there was no call


def test_a_load_that_fails_is_reported(own: cloche.Runtime, told: Told) -> None:
    with pytest.raises(cloche.NodeLoadError):
        own.load(cloche.Source("1 / 0"))
    with pytest.raises(cloche.GuestExitError):
        own.load(cloche.Source("import os\nos._exit(1)"))
    assert told.take() == [("load", "", 1, "NodeLoadError"), ("load", "", 1, "GuestExitError")]
    assert [(record.op, record.error, record.recovered) for record in told.breaks] == [("load", "GuestExitError", None)]


def test_a_break_is_reported_with_its_error(own: cloche.Runtime, told: Told) -> None:
    node = own.load(NODE, name="mine", session_id="s")
    with pytest.raises(cloche.GuestExitError) as caught:
        node.process("exit")
    assert [record.exception for record in told.breaks] == [caught.value]
    assert told.breaks == [
        cloche.BreakRecord(
            node="mine", session_id="s", op="process", call=2, error="GuestExitError", exception=caught.value
        )
    ]
    with suppress(cloche.ClosedError):
        node.process(1)
    assert len(told.breaks) == 1


def test_a_break_says_whether_the_node_goes_on(own: cloche.Runtime, told: Told) -> None:
    node = own.load(NODE, on_break="restart", max_restarts=1)
    for _ in range(2):
        with pytest.raises(cloche.GuestExitError):
            node.process("exit")
    assert [record.recovered for record in told.breaks] == ["restart", None]
    assert [each[0] for each in told.take()] == ["load", "process", "reseed", "process"]


def test_every_step_of_a_stream_is_a_call(own: cloche.Runtime, told: Told) -> None:
    node = own.load(STREAM)
    told.take()
    assert list(node.stream([1, 2])) == [1, 2]
    ops = [each[0] for each in told.take()]
    assert ops[0] == "stream_open"
    assert set(ops) == {"stream_open", "stream_feed", "stream_next", "stream_end"}


def test_calls_of_pools_and_awaited_ones_are_reported(own: cloche.Runtime, told: Told) -> None:
    with own.pool(NODE, size=2, session_id="pool") as pool:
        told.take()
        assert sorted(pool.map([1, 2, 3])) == [1, 2, 3]
        with pytest.raises(cloche.GuestExitError):
            pool.submit("exit").result()
    assert sorted(record.error for record in told.calls if record.op == "process") == ["", "", "", "GuestExitError"]
    assert {record.session_id for record in told.calls} == {"pool"}
    assert [record.recovered for record in told.breaks] == [None]

    async def work() -> Any:
        return await own.load(NODE).aprocess(7)

    told.take()
    assert asyncio.run(work()) == 7
    assert [each[0] for each in told.take()] == ["load", "process"]


def test_what_a_hook_raises_costs_no_answer(isolation: Isolation) -> None:
    """It is told, with the place; also where warnings are errors."""

    def fail(record: object) -> None:
        raise LookupError(f"no gauge for {type(record).__name__}")

    with cloche.Runtime(isolation=isolation, limits=patient(), on_call=fail, on_break=fail) as runtime:
        with pytest.warns(
            RuntimeWarning, match=r"the hook on_call of a runtime raised LookupError: no gauge for CallRecord"
        ):
            node = runtime.load(NODE)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert node.process(1) == 1
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(cloche.GuestExitError):
                node.process("exit")
        first, second = (str(warning.message) for warning in told)
        assert re.match(rf".*on_break .*{re.escape(__file__)}, line \d+\); the call was not affected", first)
        assert "on_call" in second


def test_an_interrupt_in_a_hook_is_heard(isolation: Isolation) -> None:
    """Ctrl-C is no failure of the hook."""
    hooks: list[Callable[[], None]] = []

    def hook(record: object) -> None:
        for each in hooks:
            each()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with cloche.Runtime(isolation=isolation, limits=patient(), on_call=hook) as runtime:
        node = runtime.load(NODE)
        hooks.append(interrupt)
        with pytest.raises(KeyboardInterrupt):
            node.process(1)
        hooks.clear()
        assert node.process(2) == 2


def test_a_hook_cannot_call_its_own_node_but_another_one(isolation: Isolation) -> None:
    nodes: list[cloche.Node] = []
    results: list[Any] = []

    def hook(record: cloche.CallRecord) -> None:
        if record.node == "first" and len(nodes) == 2:
            results.append(nodes[1].process(5))
            nodes[0].process(6)

    with cloche.Runtime(isolation=isolation, limits=patient(), on_call=hook) as runtime:
        nodes += [runtime.load(NODE, name="first"), runtime.load(NODE, name="second")]
        with pytest.warns(RuntimeWarning, match="node 'first' was called from inside its own call"):
            assert nodes[0].process(1) == 1
        assert results == [5]


def test_a_runtime_may_have_one_of_the_hooks(isolation: Isolation, told: Told) -> None:
    with cloche.Runtime(isolation=isolation, limits=patient(), on_break=told.breaks.append) as runtime:
        node = runtime.load(NODE)
        assert node.process(1) == 1
        with pytest.raises(cloche.GuestExitError):
            node.process("exit")
    assert len(told.breaks) == 1
    with cloche.Runtime(isolation=isolation, limits=patient(), on_call=told.calls.append) as runtime:
        node = runtime.load(NODE)
        with pytest.raises(cloche.GuestExitError):
            node.process("exit")
    assert told.take() == [("load", "", 1, ""), ("process", "process", 2, "GuestExitError")]


async def nothing(record: object) -> None:
    """An ``async def`` hook would never be awaited."""


@pytest.mark.parametrize("hook", [3, nothing], ids=["a number", "async"])
@pytest.mark.parametrize("name", ["on_call", "on_break"])
def test_a_hook_that_nobody_could_call_is_refused(name: str, hook: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is .*: give a plain function of one record, or None$"):
        cloche.Runtime(**{name: hook})


@pytest.mark.isolation("none", reason="the class of the sandbox")
def test_without_hooks_the_sandboxes_are_plain_ones(runtime: cloche.Runtime) -> None:
    """So that nothing is looked up in a call for a hook that nobody has given."""
    node = runtime.load(NODE)
    assert type(node._sandbox) is Instance  # type: ignore[comparison-overlap]
    assert "exchange" in vars(Watched)
    assert "exchange" not in vars(Instance)
