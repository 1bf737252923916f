"""Nodes whose calls meet each other through services: an error in time, never a deadlock; and interrupts between lock and call."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import cloche
from cloche import Grants, Limits, Service
from cloche._requests import node_lock
from cloche._runtime import node as _node
from cloche._runtime import stream as _stream
from tests.injection import inject, within
from tests.limits import patient

CALLER = "from cloche_guest import services\ndef f(name, *args): return getattr(services, name)(*args)\n"
OWN = "node 'own' was called from inside its own call"


def direct(call):
    """On the node's own thread."""
    return call()


def copied_context(call):
    """On a thread that was given the service's context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, call).result()


def thread_pool(call):
    """On a thread that knows nothing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


async def to_thread(call):
    """From a coroutine."""
    return await asyncio.to_thread(call)


async def blocking(call):
    """On the event loop's own thread."""
    return call()


@pytest.mark.sampled
@pytest.mark.parametrize("deadline_s", [None, 20.0], ids=["inline", "thread"])
@pytest.mark.parametrize(
    "way", [direct, copied_context, thread_pool, to_thread, blocking], ids=lambda way: way.__name__
)
def test_a_node_that_calls_itself_through_a_service_gets_an_error(load, logs, way, deadline_s):
    """Whichever way the call takes. Only what nothing connects with the call has to wait until the call is over."""
    outcomes = []

    def again():
        try:
            outcomes.append(node.process("end"))
        except cloche.ClocheError as error:
            outcomes.append(str(error))
            raise

    def service():
        return way(again)

    async def aservice():
        return await way(again)

    function = aservice if asyncio.iscoroutinefunction(way) else service
    # the deadline decides if nothing else can; the grace is for a service that holds the guest for longer
    limits = Limits(deadline_s=0.3 if way is thread_pool else 20, grace_s=60)
    services = {"go": Service(function, deadline_s=deadline_s), "end": int}
    node = load(CALLER, name="own", limits=limits, grants=Grants(services=services))
    with pytest.raises(cloche.ClocheError):
        node.process("go")
    while not outcomes:  # a thread that knows nothing may outlive the call
        pass
    if way is not thread_pool:
        assert outcomes == [OWN]
    elif deadline_s is None:  # the call cannot end before its service
        (text,) = outcomes
        assert "it may wait for this very call" in text
    else:
        assert outcomes == [0]
    assert node.process("end") == 0


def test_from_a_thread_with_a_small_stack(load, logs):
    """Where the guest may run on another stack than its caller's."""
    errors, outcomes = [], []

    def again():
        try:
            return node.process("end")
        except cloche.ClocheError as error:
            errors.append(str(error))
            raise

    def call():
        with pytest.raises(cloche.NodeRaisedError):
            node.process("go")
        outcomes.append(node.process("end"))

    node = load(CALLER, name="own", grants=Grants(services={"go": again, "end": int}))
    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=call)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert (errors, outcomes) == ([OWN], [0])


@pytest.mark.parametrize("kind", ["inline", "thread", "async", "async-to-thread"])
@pytest.mark.parametrize("count", [2, 3])
def test_nodes_that_call_each_other_are_told_the_circle(load, logs, kind, count):
    """One call is refused, in time; the others get their results; all nodes stay usable."""
    barrier = threading.Barrier(count)
    errors, results = [], []
    nodes = []

    def call_next(index):
        barrier.wait(60)
        try:
            return nodes[(index + 1) % count].process("end")
        except cloche.ClocheError as error:
            errors.append(str(error))
            raise

    async def acall_next(index):
        return await asyncio.to_thread(call_next, index)

    async def aprocess_next(index):
        await asyncio.to_thread(barrier.wait, 60)
        try:
            return await nodes[(index + 1) % count].aprocess("end")
        except cloche.ClocheError as error:
            errors.append(str(error))
            raise

    service = {
        "inline": call_next,
        "thread": Service(call_next, deadline_s=60),
        "async": aprocess_next,
        "async-to-thread": acall_next,
    }[kind]
    nodes += [
        load(CALLER, name=chr(ord("a") + index), grants=Grants(services={"next": service, "end": int}))
        for index in range(count)
    ]

    def call(index):
        try:
            results.append(nodes[index].process("next", index))
        except cloche.NodeRaisedError:
            pass

    threads = [threading.Thread(target=call, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    (error,) = errors
    assert results == [0] * (count - 1)
    assert "which waits for" in error and error.endswith("nodes that call each other would wait for ever")
    assert [node.process("end") for node in nodes] == [0] * count


def test_a_logger_that_calls_nodes_counts_as_inside_the_call(recorder):
    """It runs while the node is held."""
    errors = []

    class Logger:
        def __getattr__(self, level):
            def log(*_, **__):
                try:
                    copied_context(lambda: node.process(1))
                except cloche.ClocheError as error:
                    errors.append(str(error))

            return log

    with cloche.Runtime(logger=Logger()) as runtime:
        node = runtime.load(
            cloche.Source("import logging\ndef f(x):\n    logging.error('told')\n    return x\n"), "f", name="own"
        )
        assert node.process(1) == 1
    assert errors == [OWN]


class Hit(BaseException):
    """Injected."""


def interrupted_at(position, function):
    """Call it, raising Hit before that bytecode of the node or its lock; whether it came so far."""
    injected = inject(function, position + 1, Hit(), within(_node.__file__, node_lock.__file__, _stream.__file__))
    assert injected.error is None or isinstance(injected.error, Hit), injected
    return bool(injected.place)


ACTS = {
    "process": lambda node: node.process(1),
    "get": lambda node: node.get("x"),
    "flush": lambda node: node.flush(),
    "stream": lambda node: list(node.stream([1, 2])),
}


@pytest.mark.parametrize("on_break", ["raise", "restart"])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_exception_at_any_bytecode_of_a_call_leaves_the_node_free(load, act, on_break, thorough):
    """Ctrl-C between lock and call: other threads are not locked out, and no call or stream is taken to be under way."""
    node = load("class N:\n    x = 5\n    def process(self, v): return v\n", "N", on_break=on_break)
    position = 0
    with ThreadPoolExecutor(1) as pool:
        while interrupted_at(position, lambda at=node: act(at)):
            assert not node._lock.owned(), f"held after an exception at bytecode {position}"
            outputs = pool.submit(lambda: [node.process(7), *node.stream([8])]).result(60)
            assert outputs == [7, 8], f"after an exception at bytecode {position}"
            position += 1 if thorough else 5
    assert position > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_node_that_was_in_a_call_at_a_fork_is_refused_in_the_child(isolation, logs):
    """At once, with a clear error; it can be closed there, and new nodes loaded."""
    started, go = threading.Event(), threading.Event()

    def meet():
        started.set()
        go.wait(60)
        return 5

    def in_child():
        errors = []
        for act in (lambda: node.process("end"), node.snapshot, node.flush):
            try:
                act()
            except cloche.ClocheError as error:
                errors.append("was in a call of the parent process when this process was forked" in str(error))
        new = runtime.load(cloche.Source("def f(x): return x\n"), "f")
        result = new.process(3)
        runtime.close()
        return errors == [True] * 3 and result == 3

    with cloche.Runtime(isolation=isolation, logger=logs, limits=patient()) as runtime:
        node = runtime.load(
            cloche.Source(CALLER), limits=Limits(deadline_s=60), grants=Grants(services={"meet": meet, "end": int})
        )
        results = []
        caller = threading.Thread(target=lambda: results.append(node.process("meet")))
        caller.start()
        assert started.wait(60)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = 0 if in_child() else 2
            finally:
                os._exit(code)
        go.set()
        caller.join()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert results == [5] and node.process("end") == 0
