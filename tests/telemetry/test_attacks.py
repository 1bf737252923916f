"""Whatever exporters, processors and nodes do: no call fails, waits or lies for its telemetry, and no text of a node gets through raw."""

from __future__ import annotations

import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import cloche
from cloche.texts import MAX_NAME
from tests.limits import patient

NODE = """
import os

def f(x):
    if x == "raise":
        raise ValueError("no")
    if x == "exit":
        os._exit(1)
    return x
"""


class Raising:
    """A span processor of which each method raises."""

    def __init__(self, *methods: str, error: type[BaseException] = RuntimeError) -> None:
        self.calls = 0
        self._methods = methods
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., None]:
        def method(*_: Any, **__: Any) -> None:
            if name in self._methods:
                self.calls += 1
                raise self._error(name)

        return method


@pytest.mark.parametrize("method", ["on_start", "on_end"])
def test_a_processor_that_raises_costs_no_call(fresh: Callable[..., Any], method: str) -> None:
    recorded = fresh()
    processor = Raising(method)
    recorded.spans.add_span_processor(processor)
    with (
        warnings.catch_warnings(record=True) as caught,
        cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime,
    ):
        warnings.simplefilter("always", RuntimeWarning)
        node = runtime.load(cloche.Source(NODE), on_break="restart")
        assert node.process(1) == 1
        with pytest.raises(cloche.NodeRaisedError):
            node.process("raise")
        with pytest.raises(cloche.GuestExitError):
            node.process("exit")
        assert list(node.stream([1, 2])) == [1, 2]
        with runtime.pool(cloche.Source(NODE), size=1) as pool:
            assert pool.submit(1).result() == 1
    assert processor.calls >= 5
    told = f"telemetry raised RuntimeError: {method}; no call was affected. More are not reported"
    assert [str(warning.message) for warning in caught if warning.category is RuntimeWarning] == [told]


def test_a_warning_that_is_an_error_costs_no_call(fresh: Callable[..., Any]) -> None:
    recorded = fresh()
    recorded.spans.add_span_processor(Raising("on_start", "on_end"))
    with warnings.catch_warnings(), cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        warnings.simplefilter("error")
        assert runtime.load(cloche.Source(NODE)).process(1) == 1


def test_an_interrupt_in_a_processor_gets_through(fresh: Callable[..., Any]) -> None:
    """Ctrl-C is the caller's: it is no failure of the telemetry."""
    from opentelemetry.context import get_current

    recorded = fresh()
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE))
        recorded.spans.add_span_processor(Raising("on_end", error=KeyboardInterrupt))
        before = get_current()
        with pytest.raises(KeyboardInterrupt):
            node.process(1)
        assert get_current() == before


def test_an_exporter_that_blocks_holds_up_no_other_node(fresh: Callable[..., Any]) -> None:
    """One that exports in the foreground holds up the call whose span it exports: so its docstring says. That is all."""
    recorded = fresh()
    inside, goes_on = threading.Event(), threading.Event()

    class Blocking(Raising):
        def on_end(self, span: Any) -> None:
            if span.name == "process slow":
                inside.set()
                goes_on.wait(60)

    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        slow, other = (runtime.load(cloche.Source(NODE), name=name) for name in ("slow", "other"))
        recorded.spans.add_span_processor(Blocking())
        thread = threading.Thread(target=slow.process, args=(1,))
        thread.start()
        assert inside.wait(60)
        assert other.process(1) == 1
        goes_on.set()
        thread.join()


@pytest.mark.parametrize("method", ["on_start", "on_end"])
def test_a_processor_cannot_call_the_node_that_it_is_told_about(fresh: Callable[..., Any], method: str) -> None:
    """It would be told of that call, too."""
    recorded = fresh()
    answers: list[Any] = []

    class Calling(Raising):
        def _call(self, *_: Any, **__: Any) -> None:
            try:
                answers.append(node.process(1))
            except cloche.ClocheError as error:
                answers.append(str(error))

    setattr(Calling, method, Calling._call)
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        node = runtime.load(cloche.Source(NODE), name="f")
        recorded.spans.add_span_processor(Calling())
        assert node.process(2) == 2
        with pytest.raises(cloche.NodeRaisedError):
            node.process("raise")
    assert answers == ["node 'f' was called from inside its own call"] * 2


def test_texts_of_a_node_are_cleaned_and_cut(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """Names, messages, classes and tracebacks: none repaints a terminal, reorders a line, or fills a backend."""
    hostile = "\\x1b[2J\\u202e" + "x" * 100_000
    node = traced(
        f"""
def deep(n):
    if n:
        deep(n - 1)
    raise type("K" + {hostile!r}, (Exception,), {{}})("M" + {hostile!r})
def f(x):
    deep(200)
f.__name__ = f.__qualname__ = "f"
""".replace("\\\\", "\\"),
        entry="f",
        name="evil\x1b[31m\u202e" + "n" * 10_000,
    )
    recorded.take()
    with pytest.raises(cloche.NodeRaisedError):
        node.process(1)
    span = recorded.only()
    texts = [span.name, span.status.description, *map(str, span.attributes.values())]
    texts += [str(value) for event in span.events for value in event.attributes.values()]
    assert all("\x1b" not in text and "\u202e" not in text for text in texts)
    assert max(map(len, texts)) < 20_000
    assert len(span.attributes["cloche.node.name"]) <= MAX_NAME
    assert len(span.events[0].attributes["exception.message"]) < 2_100


def test_methods_of_a_node_do_not_fill_the_memory(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """A service that answers with a node may be told which method to call."""
    node = traced("class N:\n    def process(self, x): return x\n    def __getattr__(self, name): return lambda: 1")
    for number in range(300):
        try:
            node.call(f"m{number}")
        except cloche.ClocheError:
            pass
    trace = node.__cloche__.sandbox.watch.trace
    assert len(trace._known) <= 100


def test_nothing_keeps_a_closed_runtime(fresh: Callable[..., Any]) -> None:
    """One `Telemetry` may serve runtimes that come and go."""
    recorded = fresh()
    runtime = cloche.Runtime(telemetry=recorded.telemetry, limits=patient())
    node = runtime.load(cloche.Source(NODE))
    node.process(1)
    runtime.close()
    gone = weakref.ref(runtime), weakref.ref(node)
    del runtime, node
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert recorded.points("cloche.node.count") == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_in_a_service_ends_the_span_once(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """The call goes on in the child as well, where its span is the parent's."""

    def ask() -> int:
        return os.fork()

    text = "from cloche_guest import services\ndef f(x):\n    return services.ask()"
    node = traced(text, grants=cloche.Grants(services={"ask": ask}))
    recorded.take()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        child = node.process(1)
    if child == 0:
        os._exit(0 if recorded.take() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert recorded.only().status.status_code.name == "UNSET"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_by_fork_can_make_runtimes_while_metrics_are_collected(fresh: Callable[..., Any]) -> None:
    """The lock that the collecting thread of the parent holds is never released in the child."""
    recorded = fresh()
    instruments = recorded.telemetry.instruments
    held, done = threading.Event(), threading.Event()

    def collect() -> None:
        with instruments._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=collect)
    thread.start()
    assert held.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
                code = 0 if runtime.load(cloche.Source(NODE)).process(1) == 1 else 1
        finally:
            os._exit(code)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_calls_that_wait_for_a_service_keep_their_limits(recorded: Any, traced: Callable[..., cloche.Node]) -> None:
    """A failure whose error never comes does not stay open: the next call ends it, as one of an unknown kind."""
    node = traced(NODE, limits=patient())
    recorded.take()
    sandbox = node.__cloche__.sandbox
    sandbox.exchange(2, ["raise"], "")
    assert recorded.take() == []
    node.process(1)
    failed, fine = recorded.take()
    assert (failed.attributes["error.type"], failed.status.status_code.name) == ("_OTHER", "ERROR")
    assert fine.status.status_code.name == "UNSET"
