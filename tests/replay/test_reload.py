"""`Node.reload`: other code in the place of a node's, with the same state, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche import Grants, Source
from cloche.replay import Record, replay
from tests.injection import every, within

COUNTER = """
import random, time
from cloche_guest import services

class Counter:
    def __init__(self, step):
        self.total, self.step = 0, step

    def process(self, x):
        self.total += self.step * x
        if x == 0:
            raise ValueError("nothing")
        return {"total": self.total, "draw": random.random(), "at": time.time()}

    def ask(self, question):
        return services.ask(question)

    def cleanup(self):
        services.ask("bye")
"""
TRIPLE = COUNTER.replace("self.step * x", "3 * x")
LONGER = COUNTER.replace("import random, time", "import random, time\nNAME = 'new'\n").replace(
    "    def ask", "    def name(self):\n        return NAME, self.total\n\n    def ask"
)


@pytest.fixture
def asked() -> list[Any]:
    """Questions that the service has got."""
    return []


@pytest.fixture
def counter(load: Callable[..., cloche.Node], asked: list[Any]) -> cloche.Node:
    """A recorded node with a state, which has raised once."""

    def ask(question: Any) -> Any:
        asked.append(question)
        return [question, time.time()]

    node = load(COUNTER, "Counter", {"step": 2}, grants=Grants(services={"ask": ask}), record=True)
    node.process(5)
    node.call("ask", "why?")
    with pytest.raises(cloche.NodeRaisedError):
        node.process(0)
    return node


def test_the_state_is_rebuilt_by_the_recorded_calls(
    counter: cloche.Node, asked: list[Any], runtime: cloche.Runtime
) -> None:
    view = counter.with_options(deadline_s=30)
    report = counter.reload(Source(LONGER, "node.py"))
    assert report and report.calls == 3 and asked == ["why?"], "no service is called again, and `cleanup` is not"
    assert view.call("name") == ("new", 10) and counter.process(1)["total"] == 12
    assert counter.info["methods"] == ["process", "cleanup"] and counter.stats.calls == 6
    again = replay(counter.recording, runtime=runtime)
    assert again.memory, "the new recording begins at the load"
    assert [one.call for one in again.differences] == [2], "the traceback, in which a line has moved"
    assert counter.reload(Source(LONGER)).calls == 5
    assert counter.get("total") == 12
    counter.close()
    assert asked == ["why?", "bye"]


def test_code_that_gives_something_else_is_refused(counter: cloche.Node, asked: list[Any]) -> None:
    with pytest.raises(
        cloche.ReloadError, match=r"call 2: result at result\['total'\]: recorded 10, replayed 15"
    ) as caught:
        counter.reload(Source(TRIPLE))
    assert caught.value.report is not None and not caught.value.report
    assert counter.process(1)["total"] == 12 and len(counter.recording.calls) == 4
    report = counter.reload(Source(TRIPLE), differences="keep")
    assert len(report.differences) == 2 and "result['total']" in str(report)
    assert counter.get("total") == 18 and asked == ["why?"]


def test_a_request_that_the_recording_does_not_answer_is_a_difference(counter: cloche.Node, asked: list[Any]) -> None:
    other = COUNTER.replace("services.ask(question)", "[services.ask(question), services.ask('more')][0]")
    with pytest.raises(cloche.ReloadError, match="request"):
        counter.reload(Source(other))
    assert asked == ["why?"]
    other = COUNTER.replace("services.ask(question)", "services.ask('how?')")
    with pytest.raises(cloche.ReloadError, match="'why\\?', replayed 'how\\?'"):
        counter.reload(Source(other))


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("def broken(", cloche.NodeLoadError, "SyntaxError"),
        (COUNTER.replace("random.random()", "__import__('os')._exit(1)"), cloche.ReloadError, "breaks"),
        (COUNTER.replace("step", "stop"), cloche.NodeLoadError, "step"),
    ],
)
def test_code_that_fails_leaves_the_node(counter: cloche.Node, code: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        counter.reload(Source(code))
    assert counter.process(1)["total"] == 12


def test_a_new_state(counter: cloche.Node, asked: list[Any]) -> None:
    report = counter.reload(Source(LONGER), state="new")
    assert report and report.calls == 0 and asked == ["why?", "bye"], "the old one's cleanup has run"
    assert counter.call("name") == ("new", 0) and len(counter.recording.calls) == 1
    raising = COUNTER.replace('services.ask("bye")', "1 / 0")
    counter.reload(Source(raising), state="new")
    assert counter.reload(Source(COUNTER), state="new").cleanup_error is not None


def test_a_state_that_cannot_be_rebuilt(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    code = "def f(x): return x"
    node = load(code)
    with pytest.raises(cloche.ClocheError, match=r"record=True, or reload it with state='new'"):
        node.reload(Source(code))
    node.reload(Source("def g(x): return -x"), state="new")
    assert node.process(1) == -1 and node.name == "f"
    few = load(code, record=Record(calls=1))
    for index in range(4):
        few.process(index)
    with pytest.raises(cloche.ReloadError, match="does not begin with its loading"):
        few.reload(Source(code))
    with pytest.raises(ValueError, match="'replay', 'new'"):
        node.reload(Source(code), state="old")  # type: ignore[arg-type]
    with node.clone() as clone, pytest.raises(cloche.ClocheError, match="Runtime.load has not made it"):
        clone.reload(Source(code), state="new")
    node.close()
    with pytest.raises(cloche.ClosedError):
        node.reload(Source(code), state="new")


def test_a_node_in_use_is_not_reloaded(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    code = "def f(x):\n    yield x"
    node = load(code)
    stream = node.stream([1, 2])
    next(stream)
    with pytest.raises(cloche.ClocheError, match="stream open"):
        node.reload(Source(code), state="new")
    stream.close()
    with node.lease(), pytest.raises(cloche.ClocheError, match="lease open"):
        node.reload(Source(code), state="new")
    with (
        runtime.pool(Source(code), size=1) as pool,
        pool.acquire() as lent,
        pytest.raises(cloche.ClocheError, match="Runtime.load has not made it"),
    ):
        lent.reload(Source(code), state="new")
    node.reload(Source(code), state="new")
    assert list(node.stream([1, 2])) == [1, 2]


def test_a_node_that_is_brought_back_keeps_the_new_code(load: Callable[..., cloche.Node]) -> None:
    code = "import os\nseen = []\ndef f(x):\n    seen.append(x)\n    return os._exit(1) if x < 0 else len(seen)"
    node = load(code, record=True, on_break="restore")
    node.process(1)
    node.reload(Source(code.replace("len(seen)", "len(seen[:])")))
    with pytest.raises(cloche.BrokenInstanceError):
        node.process(-1)
    assert node.process(2) == 2
    with pytest.raises(cloche.ReloadError, match="broke"):
        node.reload(Source(code))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one inside `__del__` is dropped
@pytest.mark.parametrize("state", ["new", "replay"])
def test_an_interrupt_leaves_the_old_node_or_the_new_one(runtime: cloche.Runtime, thorough: bool, state: Any) -> None:
    codes = ["def f(x):\n    return 'old', x\n", "class New:\n    def process(self, x):\n        return 'new', x\n"]
    nodes: list[cloche.Node] = []

    def prepare() -> None:
        for node in nodes:
            node.close()
        nodes[:] = [runtime.load(Source(codes[0]), name=f"reloaded {state}", record=True)]
        assert nodes[0].process(1) == ("old", 1)

    def reload() -> None:
        nodes[0].reload(Source(codes[1]), state=state, differences="keep")

    prepare()
    ages = set()
    where = within("_runtime/reloading.py", "_runtime/calls.py")
    for injected in every(reload, KeyboardInterrupt, where, step=3 if thorough else 29):
        age, _ = nodes[0].process(1)
        assert age == ("new" if nodes[0].info["kind"] == "class" else "old"), injected.place
        assert [one for one in runtime.nodes if one.name == nodes[0].name] == nodes, injected.place
        ages.add(age)
        prepare()
    assert ages == {"old", "new"} and nodes[0].process(1) == ("new", 1)
    nodes[0].close()
