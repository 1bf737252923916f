"""`Node.interrupt`: ends the call under way, wherever the node is, and never another one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

import cloche
from cloche import Grants, Limits, Service, Source
from tests.injection import every, within
from tests.limits import patient

LIMITS = Limits(deadline_s=None, grace_s=60, load_s=None)
NODE = """
import time
from cloche_guest import Cancelled, services

class N:
    cleaned = 0
    def process(self, kind, value=None):
        try:
            if kind == "sleep": time.sleep(10**6)
            if kind == "service": return services.wait()
            while kind == "spin": pass
            if kind == "swallow":
                try:
                    while True: pass
                except Cancelled: return "swallowed"
            while kind == "deaf":
                try:
                    while True: pass
                except BaseException: pass
            return kind
        finally:
            self.cleaned += 1
    async def wait(self):
        import asyncio
        await asyncio.sleep(10**6)
    def endless(self):
        yield 1
        while True: pass
"""
INTERRUPTED = "the call on node 'n' was interrupted by its caller"


LOOPS = {number for number, line in enumerate(NODE.splitlines(), 1) if line.strip() == "while True: pass"}


@contextlib.contextmanager
def interrupting(node: cloche.Node, *, in_loop: bool = False) -> Iterator[None]:
    """Interrupts every call in the block, from another thread; `in_loop`: once the node is in an endless loop."""
    over = threading.Event()

    def work() -> None:
        where = node.__cloche__.sandbox.where
        while not over.is_set():
            if not in_loop or any(frame.line in LOOPS for frame in where()):
                node.interrupt()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def forever() -> None:
    """A service that never answers."""
    await asyncio.Event().wait()


@pytest.fixture
def node(load) -> Iterator[cloche.Node]:
    """Without a deadline, and with a service that never answers."""
    made = load(NODE, "N", name="n", limits=LIMITS, grants=Grants(services={"wait": forever}))
    yield made
    made.__cloche__.discard()


CALLS: dict[str, Callable[[cloche.Node], Any]] = {
    "spin": lambda node: node.process("spin"),
    "sleep": lambda node: node.process("sleep"),
    "service": lambda node: node.process("service"),
    "keywords": lambda node: node.process("spin", value=1),
    "await": lambda node: node.call("wait"),
    "generator": lambda node: node.call("endless"),
    "stream": lambda node: list(node.stream(["spin"])),
    "aprocess": lambda node: asyncio.run(node.aprocess("spin")),
    "view": lambda node: node.with_options(deadline_s=10**6).process("sleep"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_ended_wherever_the_node_is(node, name):
    """The next call is answered."""
    with interrupting(node), pytest.raises(cloche.CallInterruptedError) as caught:
        CALLS[name](node)
    error = caught.value
    assert str(error) == INTERRUPTED
    assert isinstance(error, cloche.NodeError) and not isinstance(error, cloche.BrokenInstanceError)
    assert (error.node, error.exc_type) == ("n", "cloche_guest.Cancelled")
    assert node.process("next") == "next"
    assert not node.broken


def test_the_error_says_where_the_node_was(node):
    """As a traceback of the node's own lines. Its finally blocks have run."""

    def work() -> None:
        while "line 9, in N.process" not in node.where():
            pass
        node.interrupt()

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(cloche.CallInterruptedError) as caught:
        node.process("sleep")
    thread.join()
    assert 'in process\n    if kind == "sleep": time.sleep(10**6)' in caught.value.guest_traceback
    assert node.get("cleaned") == 1


def test_at_rest_there_is_nothing_to_interrupt(node):
    """Before the first call, after one, after one that raised, after one that could not be sent, and closed."""
    assert not node.interrupt()
    assert node.process("x") == "x"
    assert not node.interrupt()
    with pytest.raises(cloche.EncodeError):
        node.process(object())
    assert not node.interrupt()
    with pytest.raises(cloche.NodeRaisedError):
        node.call("nothing")
    assert not node.interrupt()
    assert node.process("y") == "y"
    node.__cloche__.discard()
    assert not node.interrupt()


def test_a_node_that_does_not_listen_is_stopped(load):
    """After the grace. With on_break it is brought back, and no restart is counted against it."""
    node = load(NODE, "N", name="n", limits=Limits(deadline_s=None, grace_s=0.02), on_break="restart", max_restarts=1)
    for _ in range(3):
        with interrupting(node, in_loop=True), pytest.raises(cloche.HardInterruptedError) as caught:
            node.process("deaf")
        assert str(caught.value).startswith(
            f"{INTERRUPTED}, and went on for 0.02 s of grace; it was stopped; the node goes on"
        )
        assert isinstance(caught.value, cloche.CallInterruptedError) and isinstance(
            caught.value, cloche.BrokenInstanceError
        )
    assert node.process("next") == "next"


def test_a_node_that_returns_all_the_same_has_answered(node):
    """It has noticed the interrupt, and may finish within the grace."""
    with interrupting(node, in_loop=True):
        assert node.process("swallow") == "swallowed"


def test_the_next_call_is_never_hit(load):
    """A storm of interrupts from another thread, on calls of which the odd ones never end: no even one fails."""
    text = "def f(n):\n    while n % 2: pass\n    return n\n"
    node = load(text, name="n", limits=LIMITS)
    wanted: SimpleQueue[bool] = SimpleQueue()

    def work() -> None:
        while wanted.get():
            while not node.interrupt():
                pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for n in range(0, 200, 2):
            assert node.process(n) == n
            wanted.put(True)
            with pytest.raises(cloche.CallInterruptedError):
                node.process(n + 1)
    finally:
        wanted.put(False)
        thread.join()


def test_a_storm_leaves_the_node_usable(load):
    """Interrupts without end, on calls with arrays, for which the guest's allocator runs: none breaks the node."""
    import numpy as np

    node = load("def f(x): return x.sum()", name="n", limits=patient(grace_s=60))
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            node.interrupt()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        array, outcomes = np.ones(300_000), set()
        for _ in range(150):
            try:
                outcomes.add(float(node.process(array)))
            except cloche.CallInterruptedError as error:
                assert not isinstance(error, cloche.BrokenInstanceError)
                outcomes.add(0.0)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert outcomes <= {0.0, 300_000.0}
    assert node.process(array) == 300_000.0


def test_calls_that_wait_for_their_turn_go_on(node):
    """Only the one that is under way ends."""
    results = []
    started = threading.Event()

    def wait() -> None:
        started.set()
        results.append(node.process("mine"))

    other = threading.Thread(target=wait)

    def run() -> None:
        while not node.where():
            pass
        other.start()
        started.wait(60)
        while not node.interrupt():
            pass

    helper = threading.Thread(target=run)
    helper.start()
    with pytest.raises(cloche.CallInterruptedError):
        node.process("spin")
    helper.join()
    other.join()
    assert results == ["mine"]


@pytest.mark.parametrize("deadline_s", [None, 10.0**5], ids=["own-thread", "thread"])
def test_from_inside_the_node_s_own_service(load, deadline_s):
    """The call ends when the service has returned, or at once if the service has a thread of its own."""
    told = []

    def stop() -> None:
        told.append(node.interrupt())

    text = "from cloche_guest import services\ndef f(x):\n    if x: services.stop()\n    while x: pass\n    return x\n"
    service = Service(stop, deadline_s=deadline_s)
    node = load(text, name="n", limits=LIMITS, grants=Grants(services={"stop": service}))
    with pytest.raises(cloche.CallInterruptedError):
        node.process(1)
    assert told == [True]
    assert node.process(0) == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_from_a_handler_of_a_signal(node):
    """On the thread that calls the node."""
    told = []

    def handler(*_: object) -> None:
        told.append(node.interrupt())
        if not told[-1]:
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(cloche.CallInterruptedError):
            node.process("spin")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert told[-1]
    assert node.process("next") == "next"


def test_from_a_task(node):
    """The event loop is free while the node runs."""

    async def main() -> None:
        call = asyncio.create_task(node.aprocess("spin"))
        while not node.interrupt():
            await asyncio.sleep(0)
        with pytest.raises(cloche.CallInterruptedError):
            await call
        assert await node.aprocess("next") == "next"

    asyncio.run(main())


def test_a_stream_ends_and_another_can_begin(node):
    """The interrupted step's stream is over."""
    outputs = []
    with pytest.raises(cloche.CallInterruptedError), interrupting(node):
        for output in node.stream(["a", "spin"]):
            outputs.append(output)
    assert set(outputs) <= {"a"}
    assert list(node.stream(["b"])) == ["b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_fork_interrupts_nothing_of_its_parent(node):
    """The call is the parent's."""
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(_outcome(lambda: node.process("spin"))))
    thread.start()
    while not node.where():
        pass
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if node.interrupt() is False else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not outcomes
    while not node.interrupt():
        pass
    thread.join()
    assert outcomes == ["CallInterruptedError"]


def _outcome(function: Callable[[], Any]) -> str:
    try:
        return str(function())
    except Exception as error:
        return type(error).__name__


def test_from_a_thread_with_a_small_stack(node):
    """As any thread."""
    told = []

    def work() -> None:
        while not node.interrupt():
            pass
        told.append(True)

    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    with pytest.raises(cloche.CallInterruptedError):
        node.process("sleep")
    thread.join()
    assert told == [True]


@pytest.mark.isolation("none", reason="the host's side is the same")
def test_an_exception_anywhere_in_interrupt_leaves_the_node_usable(load):
    """Ctrl-C while another call is being interrupted."""
    node = load(
        "from cloche_guest import services\ndef f(x):\n    if x: services.stop()\n    return x\n",
        name="n",
        limits=LIMITS,
        grants=Grants(services={"stop": lambda: act[0]()}),
    )
    act = [lambda: None]

    def run() -> Any:
        act[0] = node.interrupt
        return node.process(1)

    where = within("/cloche/_runtime/calls.py", "/cloche/_sandbox/replies.py", "/cloche/_sandbox/instance.py")
    for injected in every(run, KeyboardInterrupt, where, step=7):
        assert node.process(0) == 0, injected.place


def test_a_load_cannot_be_interrupted_but_its_node_can(runtime):
    """There is no node before."""
    node = runtime.load(Source("def f(x):\n    while x: pass\n    return x\n"), name="n", limits=LIMITS)
    with node, interrupting(node), pytest.raises(cloche.CallInterruptedError):
        node.process(1)


def test_a_local_guest_cannot_be_interrupted():
    """It is plain Python of this process."""
    from cloche.testing import LocalGuest

    with LocalGuest(Source("def f(x): return x")) as node:
        assert not node.interrupt()
        assert node.with_options(deadline_s=1).process(2) == 2
