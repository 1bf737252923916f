"""Exceptions at every bytecode of what a caller can do with a node in this process: no crash, no leak, and never another call's reply."""

from __future__ import annotations

import _thread
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import cloche
from cloche._sandbox.replies import CheckedSandbox
from cloche._wasm.core import core
from tests.injection import every, inject, within
from tests.limits import patient

pytestmark = [
    pytest.mark.isolation("none", reason="tests/isolation/test_interruptions.py has the host's side of a worker"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # an exception inside `__del__` is dropped
]
HOST_SIDE = within("/runtime/cloche/")
NODE = cloche.Source("""
import numpy as np
from cloche_guest import services

class N:
    def process(self, kind, number):
        if kind == "log":
            print("a record")
        if kind == "array":
            return np.full(5000, number)
        if kind == "service":
            return services["double"](np.full(5000, number))
        if kind == "raise":
            raise ValueError(number)
        return number
    def count(self, n):
        yield from range(n)
""")
SMALL = cloche.Source("def f(x): return x\n", "small.py")


def _step(function: Callable[[], object], samples: int) -> int:
    """From one of the bytecodes to the next, so that there are about so many."""
    inject(
        function, 1 << 30, KeyboardInterrupt(), HOST_SIDE
    )  # none: a first call has bytecodes that later ones have not
    number = samples
    while inject(function, number, KeyboardInterrupt(), HOST_SIDE).place:
        number *= 2
    return max(1, number // (2 * samples))


class _Quiet:
    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Bench:
    """A runtime, and a node that is loaded again whenever an interruption has cost it."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.runtime = cloche.Runtime(logger=_Quiet(), limits=patient())
        self.grants = cloche.Grants(services={"double": lambda array: array * 2})
        self.node = self.load()

    def load(self) -> cloche.Node:
        return self.runtime.load(NODE, "N", grants=self.grants)

    def step(self, function: Callable[[], object]) -> int:
        return _step(function, self.samples)

    def survive(self, call: Callable[[cloche.Node], object], exception: type[BaseException]) -> int:
        """Interrupt the call at its bytecodes, `samples` of them; after each, the node answers its own next call, or is closed."""
        number, step = 0, self.step(lambda: call(self.node))
        for number, injected in enumerate(every(lambda: call(self.node), exception, HOST_SIDE, step=step), 1):
            try:
                assert self.node.process("echo", number) == number, injected.place
            except cloche.ClosedError:
                self.node = self.load()
        return number


@pytest.fixture(scope="module")
def bench(thorough: bool) -> Iterator[Bench]:
    """It interrupts so many bytecodes of each call, evenly spread; a call has some hundreds, a load some thousands."""
    made = Bench(samples=200 if thorough else 24)
    yield made
    made.runtime.close()


CALLS: dict[str, Callable[[cloche.Node], Any]] = {
    "echo": lambda node: node.process("echo", -1),
    "array": lambda node: node.process("array", -1),
    "log": lambda node: node.process("log", -1),
    "live log": lambda node: node.with_options(on_log=lambda record: None).process("log", -1),
    "raise": lambda node: node.process("raise", -1),
    "service": lambda node: node.process("service", -1),
    "array in": lambda node: node.process("echo", np.arange(5000)),
    "snapshot": lambda node: node.snapshot(),
    "where": lambda node: node.where(),
    "buffer": lambda node: node.buffer(100),
}


@pytest.mark.sampled
@pytest.mark.parametrize("exception", [KeyboardInterrupt, RecursionError, MemoryError])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_interrupted_anywhere_leaves_nothing_for_the_next(bench, name, exception):
    """The reply of the interrupted call, above all."""
    assert bench.survive(CALLS[name], exception) > 10


def test_after_a_live_call_that_is_interrupted_anywhere_nobody_is_heard(bench):
    """What the next caller's node says is not for the function of this one, and nothing comes twice."""
    heard: list[tuple[int, str]] = []
    on_log = lambda record: heard.append((record.call, record.message))  # noqa: E731  # one function for all views
    call = lambda: bench.node.with_options(on_log=on_log).process("log", -1)  # noqa: E731
    for injected in every(call, KeyboardInterrupt, HOST_SIDE, step=bench.step(call)):
        heard.clear()
        try:
            bench.node.process("log", 1)
            number = bench.node.stats.calls
            bench.node.with_options(on_log=on_log).process("log", 1)
        except cloche.ClosedError:
            bench.node = bench.load()
            continue
        assert [number + 1] == [one for one, _ in heard if one >= number], injected.place


@pytest.mark.parametrize("options", [{}, {"on_log": print}], ids=["after", "live"])
def test_records_of_an_interrupted_call_have_its_number(options):
    """However late they come."""
    found: list[tuple[int, str]] = []

    class Logger(_Quiet):
        def __getattr__(self, level: str) -> Callable[..., None]:
            return lambda message, **fields: found.append((fields["call"], message))

    if options:
        options = {"on_log": lambda record: found.append((record.call, record.message))}
    with cloche.Runtime(logger=Logger(), limits=patient()) as runtime:
        node = runtime.load(cloche.Source("def f(x): print(x)"))
        call = lambda: node.with_options(**options).process(node.stats.calls + 1)  # noqa: E731
        where = within("/_sandbox/instance.py", "/_wasm/memory.py")
        for injected in every(call, KeyboardInterrupt, where, step=1):
            call()
            assert all(str(number) == message for number, message in found), (injected.place, found)
            assert found, "the next call is heard"
            found.clear()


def _counts() -> tuple[int, int]:
    gc.collect()
    return core().count_guests(), core().count_stacks()


@pytest.mark.parametrize("name", ["load", "clone", "restore", "close", "pool"])
def test_what_makes_and_frees_sandboxes_leaks_none(bench, name):
    """Each run is interrupted at another bytecode; then the core has as many guests as before, but for the engine's idle ones."""
    node = bench.runtime.load(SMALL)
    snapshot = node.snapshot()

    def work() -> None:
        if name == "load":
            bench.runtime.load(SMALL).close()
        elif name == "clone":
            node.clone().close()
        elif name == "restore":
            bench.runtime.restore(snapshot).close()
        elif name == "close":
            bench.runtime.load(SMALL).close()
        else:
            with bench.runtime.pool(SMALL, size=2) as pool:
                assert list(pool.map([1, 2, 3])) == [1, 2, 3]

    work()
    before, _ = _counts()
    where = (
        within("/cloche/_sandbox/instance.py", "/cloche/_wasm/", "/cloche/_runtime/calls.py")
        if name == "close"
        else HOST_SIDE
    )
    for injected in every(work, KeyboardInterrupt, where, step=bench.step(work)):
        assert node.process(injected.place) == injected.place
    node.close()
    after, _ = _counts()
    assert after <= before + 8, "no more than the stores that an engine keeps"


def test_a_stream_that_is_interrupted_anywhere_does_not_mix_with_the_next(bench):
    """Its items are its own, and a new stream can be opened."""
    source = bench.runtime.load(cloche.Source("def f(n):\n    for i in range(n): yield i\n"), "f")

    def work() -> list[Any]:
        return list(source.stream([3]))

    for injected in every(work, KeyboardInterrupt, HOST_SIDE, step=bench.step(work)):
        if source.broken:
            source = bench.runtime.load(cloche.Source("def f(n):\n    for i in range(n): yield i\n"), "f")
        gc.collect()
        assert list(source.stream([2])) == [0, 1], injected.place


def test_a_lease_that_is_interrupted_anywhere_is_over(bench):
    """One that stayed open would keep all that the node returns, and no other could be had."""

    def lease() -> None:
        with bench.node.lease():
            pass

    for injected in every(lease, KeyboardInterrupt, HOST_SIDE):
        place = injected.place
        del injected  # its traceback has the frames of the lease
        gc.collect(1)
        with bench.node.lease():
            assert not bench.node.process("array", 1).flags.writeable, place
        assert bench.node.process("array", 1).flags.writeable, place


def test_without_metering_an_interrupt_ends_also_a_node_that_has_ignored_its_deadline() -> None:
    """It was told of its deadline in a sleep; that it is cancelled later counts all the same."""
    text = """
import time
def f(x):
    while True:
        try:
            time.sleep(1e6)
        except BaseException:
            pass
        try:
            while True: pass
        except BaseException:
            pass
"""
    limits = cloche.Limits(deadline_s=0.05, grace_s=0.05)
    with cloche.Runtime(metering="none", limits=limits) as runtime:
        node = runtime.load(cloche.Source(text), "f")
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.5, _thread.interrupt_main).start()
            node.process(0)


@pytest.mark.parametrize("on_break", ["raise", "restart"])
def test_what_a_reply_means_is_found_out_under_the_lock(bench, on_break, monkeypatch):
    """Otherwise another thread's call changes how this one has ended, or reads memory that this one is about to free."""
    node = bench.runtime.load(cloche.Source("def f(x):\n    yield x\n    raise ValueError\n"), "f", on_break=on_break)
    finish, held = CheckedSandbox.finish, []

    def watched(self, *answer):
        held.append(node.__cloche__.lock.owned())
        finish(self, *answer)

    monkeypatch.setattr(CheckedSandbox, "finish", watched)
    for call in (lambda: node.process(1), lambda: node.get("missing"), lambda: list(node.stream([1]))):
        with pytest.raises(cloche.NodeRaisedError):
            call()
    assert held == [True] * 3


AT_THE_END_OF_THE_STACK = """
import sys
import cloche

isolation, on_break = sys.argv[1:]
SOURCE = cloche.Source("class N:\\n    def process(self, x): return x\\n")
CALLS = {
    "process": lambda node: node.process(1),
    "stream": lambda node: list(node.stream([1])),
    "get": lambda node: node.get("process"),
    "snapshot": lambda node: node.snapshot(),
    "close": lambda node: node.close(),
}

def deep(levels, call):
    return call() if levels <= 0 else deep(levels - 1, call)

with cloche.Runtime(isolation=isolation, limits=cloche.Limits(deadline_s=120)) as runtime:
    node = runtime.load(SOURCE, on_break=on_break)
    limit = sys.getrecursionlimit()
    for name, call in CALLS.items():
        for levels in range(limit - 60, limit - 3):
            try:
                deep(levels, lambda: call(node))
            except Exception:
                pass
            assert not node._lock.owned(), (name, levels)
            try:
                assert node.process(levels) == levels, (name, levels)
            except cloche.ClocheError:
                node = runtime.load(SOURCE, on_break=on_break)
"""


@pytest.mark.sampled
@pytest.mark.parametrize("on_break", ["raise", "restart"])
@pytest.mark.parametrize("isolation", ["none", "process"])
def test_no_depth_of_the_stack_leaves_the_lock_held(isolation, on_break):
    """A handler that calls a function needs a frame, which there may not be."""
    command = [sys.executable, "-c", AT_THE_END_OF_THE_STACK, isolation, on_break]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
