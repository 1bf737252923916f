"""Closing a runtime: during loads and calls, from inside of it, from two threads, interrupted, with cleanups that fail."""

from __future__ import annotations

import threading

import pytest

import cloche
from cloche import Grants, Limits, Source
from cloche._requests import node_lock
from cloche._runtime import node as _node
from cloche._runtime import runtime as _runtime
from tests.injection import inject, within
from tests.limits import patient

GOOD = Source(
    "import logging\nclass G:\n    def process(self, d): return d\n    def cleanup(self): logging.info('good cleanup ran')\n"
)
BAD = Source("class B:\n    def process(self, d): return d\n    def cleanup(self): raise ValueError('no')\n")
CALLER = Source("from cloche_guest import services\ndef f(name, *args): return getattr(services, name)(*args)\n")
ASKS_WHILE_LOADING = Source(
    "from cloche_guest import services\nclass N:\n    def __init__(self): services.meet()\n    def process(self, d): return d\n"
)
SPINS_WHILE_LOADING = Source(
    "class N:\n    def __init__(self):\n        while True: pass\n    def process(self, d): return d\n"
)


@pytest.fixture
def own(isolation, logs):
    """A runtime for the test alone."""
    made = cloche.Runtime(isolation=isolation, logger=logs, limits=patient())
    yield made
    made.close()


def outcome(function, *arguments, **options):
    """What it gives, or the exception."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return error


def in_thread(function, *arguments, **options):
    """Start it on a thread; gives the thread and the list that the outcome lands in."""
    results = []
    thread = threading.Thread(target=lambda: results.append(outcome(function, *arguments, **options)))
    thread.start()
    return thread, results


@pytest.mark.parametrize("bad", [1, 3])
def test_every_node_is_closed_and_all_failures_are_raised_together(own, logs, bad):
    """A failing cleanup keeps no other one from running; a single one comes in a group as well."""
    nodes = [own.load(GOOD, "G") for _ in range(3)]
    nodes += [own.load(BAD, "B", name=f"bad{index}") for index in range(bad)]
    with pytest.raises(ExceptionGroup, match="^not all nodes of the runtime could be closed cleanly") as caught:
        own.close()
    assert sorted((type(error), error.node) for error in caught.value.exceptions) == [
        (cloche.NodeRaisedError, f"bad{index}") for index in range(bad)
    ]
    assert [message for _, message, _ in logs.take()].count("good cleanup ran") == 3
    assert all(repr(node).endswith("closed>") for node in nodes)
    own.close()
    with pytest.raises(cloche.ClosedError):
        own.load(GOOD, "G")


def test_a_load_that_ends_after_the_close_gives_no_node(own):
    """It is waited for, since it has a deadline; its instance is freed."""
    loading, go, ended = threading.Event(), threading.Event(), threading.Event()

    def meet():
        loading.set()
        go.wait(60)

    loader, results = in_thread(own.load, ASKS_WHILE_LOADING, "N", grants=Grants(services={"meet": meet}))
    assert loading.wait(60)
    closer, closed = in_thread(lambda: (own.close(), ended.is_set())[1])
    while not own._closed:  # from here on it waits
        pass
    assert closer.is_alive()
    ended.set()
    go.set()
    loader.join(60)
    closer.join(60)
    assert closed == [True], "the close has waited for the load"
    assert [(type(result), str(result)) for result in results] == [(cloche.ClosedError, "the runtime is closed")]
    assert not list(own._nodes) and not own._loads


@pytest.mark.parametrize("metering", ["guard", "epoch"])
def test_a_load_keeps_its_deadline_while_the_runtime_is_closed(metering):
    """The timer lives until nothing needs it any more."""
    with cloche.Runtime(limits=Limits(deadline_s=0.3), metering=metering) as runtime:
        loader, results = in_thread(runtime.load, SPINS_WHILE_LOADING, "N")
        while not runtime._loads:
            pass
        runtime.close()
        loader.join(60)
        assert not loader.is_alive() and isinstance(results[0], cloche.ClocheError)


def test_a_call_under_way_is_waited_for(own):
    """It gives its result; the next one is refused."""
    calling, go = threading.Event(), threading.Event()

    def meet():
        calling.set()
        go.wait(60)
        return 5

    node = own.load(CALLER, grants=Grants(services={"meet": meet}))
    caller, results = in_thread(node.process, "meet")
    assert calling.wait(60)
    closer, closed = in_thread(own.close)
    while not own._closed:
        pass
    go.set()
    caller.join(60)
    closer.join(60)
    assert (results, closed) == ([5], [None])
    with pytest.raises(cloche.ClosedError):
        node.process("meet")


def test_closing_from_inside_a_call_or_a_load_is_refused(own, logs):
    """It would wait for itself. Nothing is closed."""
    errors = []

    def close():
        errors.append(outcome(own.close))

    node = own.load(CALLER, grants=Grants(services={"close": close, "later": cloche.Service(close, deadline_s=60)}))
    node.process("close")
    node.process("later")
    own.load(ASKS_WHILE_LOADING, "N", grants=Grants(services={"meet": close}))
    text = "the runtime cannot be closed from inside a call of one of its own nodes"
    assert [(type(error), str(error)) for error in errors] == [(cloche.ClocheError, text)] * 3
    assert own.load(GOOD, "G").process(3) == 3


def test_two_threads_close_at_once(own, logs):
    """Each returns when all is closed; each cleanup runs once."""
    nodes = [own.load(GOOD, "G") for _ in range(4)]
    closers = [in_thread(own.close) for _ in range(3)]
    for thread, _ in closers:
        thread.join(60)
    assert [results for _, results in closers] == [[None]] * 3
    assert [message for _, message, _ in logs.take()].count("good cleanup ran") == len(nodes)


def test_an_interrupted_close_is_ended_by_the_next(logs):
    """Ctrl-C between two nodes."""
    hits = [KeyboardInterrupt]

    class Interrupting:
        def __getattr__(self, level):
            def log(message, **_):
                cleaned.append(message)
                if hits:
                    raise hits.pop()

            return log

    cleaned = []
    runtime = cloche.Runtime(logger=Interrupting())
    nodes = [runtime.load(GOOD, "G") for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        runtime.close()
    assert len(cleaned) == 1
    runtime.close()
    assert len(cleaned) == 3 and all(node.__cloche__.closed and node._sandbox.closed for node in nodes)
    runtime.close()


def test_a_runtime_whose_node_waits_for_the_caller_is_closed_later(runtime, logs):
    """Its engine is still needed: an error that names the circle, and the next close goes on."""
    other = cloche.Runtime(logger=logs, limits=patient())
    both, errors = threading.Barrier(2), []

    def close_other():
        both.wait(60)
        errors.append(outcome(other.close))

    def call_outer():
        both.wait(60)
        errors.append(outcome(outer.process, "nothing"))

    with runtime.load(CALLER, name="outer", grants=Grants(services={"close": close_other, "nothing": int})) as outer:
        inner = other.load(CALLER, name="inner", grants=Grants(services={"call": call_outer}))
        thread, results = in_thread(inner.process, "call")
        outer.process("close")
        thread.join(60)
    assert not isinstance(results[0], BaseException)
    text = "nodes that call each other would wait for ever"
    texts = [str(error.exceptions[0] if isinstance(error, ExceptionGroup) else error) for error in errors]
    assert sum(text in one for one in texts) == 1
    other.close()
    assert inner.__cloche__.closed


class Hit(BaseException):
    """Injected."""


def interrupted_at(position, function, files):
    """Call it, raising Hit before that bytecode of those files; what it gives (or None), and whether it came so far."""
    injected = inject(function, position + 1, Hit(), within(*files))
    assert injected.error is None or isinstance(injected.error, Hit), injected
    return injected.result, bool(injected.place)


def test_an_exception_at_any_bytecode_of_a_close_is_mended_by_the_next(logs):
    """Every node is closed, and then the engine."""
    files = {_runtime.__file__, _node.__file__, node_lock.__file__}
    with cloche.Runtime(logger=logs, limits=patient()) as runtime:
        with runtime.load(GOOD, "G") as node:
            snapshot = node.snapshot()
        close_engine, position = runtime._engine.close, 0
        engine_closed = []
        runtime._engine.close = lambda: engine_closed.append(True)
        while True:
            node = runtime.restore(snapshot)
            _, came_so_far = interrupted_at(position, runtime.close, files)
            runtime.close()
            assert engine_closed, f"interrupted at bytecode {position}"
            assert node.__cloche__.closed and node._sandbox.closed, f"interrupted at bytecode {position}"
            engine_closed.clear()
            runtime._closed = False
            if not came_so_far:
                break
            position += 1
        runtime._engine.close = close_engine
    assert position > 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one inside `__del__` is dropped
@pytest.mark.parametrize("way", ["load", "restore"])
def test_an_exception_at_any_bytecode_of_a_load_leaves_nothing_that_a_close_waits_for(logs, way):
    """The load is forgotten, and no other thread finds its lock held."""
    files = {_runtime.__file__, _node.__file__, node_lock.__file__}
    with cloche.Runtime(logger=logs, limits=patient()) as runtime:
        with runtime.load(GOOD, "G") as node:
            snapshot = node.snapshot()
        position = 0
        while True:
            make = (lambda: runtime.load(GOOD, "G")) if way == "load" else (lambda: runtime.restore(snapshot))
            made, came_so_far = interrupted_at(position, make, files)
            assert not runtime._loads, f"interrupted at bytecode {position}"
            if made is not None:
                made.close()
            if not came_so_far:
                break
            position += 1
        closer, results = in_thread(runtime.close)
        closer.join(60)
        assert results == [None]
    assert position > 100
