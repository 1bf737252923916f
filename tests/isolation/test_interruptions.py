"""Exceptions at every bytecode of the host's side of a call: afterwards the node gives its own answers, or is closed."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloche
from cloche._isolation import worker_process
from tests.injection import every, inject, within
from tests.isolation.test_workers import eventually
from tests.limits import patient

pytestmark = [
    pytest.mark.timeout(300),
    # what loses its owner between two bytecodes is closed by the collector, which says so
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
HOST_SIDE = within("/cloche/_isolation/")
LIMITS = patient()
NODE = cloche.Source("""
import numpy as np
from cloche_guest import services

class N:
    def process(self, kind, number):
        if kind == "echo":
            return number
        if kind == "log":
            print("a record")
            return number
        if kind == "array":
            return np.full(5000, number)
        if kind == "many":
            return [b"%d" % number * 5000, "x" * 9000, np.arange(5000), "an answer that is larger than a message " * 1000]
        if kind == "service":
            return services["double"](np.full(5000, number))
        if kind == "raise":
            raise ValueError(number)
        return (kind + number).sum()
""")


def double(array: Any) -> Any:
    return array * 2


class Host:
    """One worker with a bystander in it, and a node that is loaded again whenever an interruption has cost it."""

    def __init__(self) -> None:
        self.runtime = cloche.Runtime(isolation="process", workers=1, logger=_Quiet(), limits=LIMITS)
        self.bystander = self.runtime.load(NODE, name="bystander")
        self.grants = cloche.Grants(services={"double": double})
        self.node = self.load()
        self.lost = 0

    def load(self) -> cloche.Node:
        return self.runtime.load(NODE, name="N", grants=self.grants)

    def survive(self, call: Callable[[cloche.Node], object], *, exception: type[BaseException], step: int = 1) -> int:
        """Interrupt the call at every bytecode; after each, look whether the node is what it has to be."""
        kept = number = 0
        pid = self.runtime.workers[0].pid
        for number, injected in enumerate(every(lambda: call(self.node), exception, HOST_SIDE, step=step), 1):
            try:
                assert self.node.process("echo", number) == number, injected.place
                kept += 1
            except cloche.ClosedError:
                self.node.close()
                self.node = self.load()
            except cloche.ClocheError as error:
                raise AssertionError(injected.place) from error
            assert self.runtime.workers[0].pid == pid, injected.place
        assert self.bystander.process("echo", "unharmed") == "unharmed"
        assert number
        gc.collect()
        return kept


class _Quiet:
    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, **fields: None


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised in a `__del__` is dropped: pytest's own hook keeps it, with all that its traceback holds, until the end."""
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.runtime.close()
    gc.collect()


def fds(pid: int | str = "self") -> Counter[str]:
    """Open descriptors by what they are: files by name, sockets and the like by their kind."""
    found: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # of the listing itself
            found[descriptor.readlink().parts[-1].partition("[")[0]] += 1
    return found


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def process(*data: Any) -> Callable[[cloche.Node], object]:
    return lambda node: node.process(*data)


ARRAY = np.arange(5000)
CALLS = {
    "plain": process("echo", 0),
    "log": process("log", 0),
    "failure": process("raise", 0),
    "array-there": process(ARRAY, 1),
    "array-back": process("array", 1),
    "bodies-back": process("many", 1),
    "service": process("service", 1),
    "snapshot": lambda node: node.snapshot(),
    "buffer": lambda node: node.buffer(1000),
    "stream": lambda node: list(node.stream([("echo", 1), ("echo", 2)])),
}


@pytest.mark.sampled
@pytest.mark.parametrize("exception", [KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("kind", CALLS)
def test_a_call_that_is_interrupted_anywhere_leaves_a_good_node_or_none(host, kind, exception, thorough):
    """Never another call's answer, never a hang; the worker lives on, and its other nodes.

    With --all a plain call at every bytecode; what the others do beside, at a part of them.
    """
    step = 7 if exception is RecursionError else 1 if kind == "plain" else 4
    if not thorough:
        step = 211
    kept = host.survive(CALLS[kind], exception=exception, step=step)
    assert kept > 0


def test_making_and_closing_a_node_can_be_interrupted_anywhere(host, thorough):
    """No descriptor stays open, here or in the worker, and no thread of the worker goes on."""
    snapshot = host.node.snapshot()

    def there_and_back() -> None:
        node = host.runtime.restore(snapshot)
        node.name = "another"
        node._sandbox.name = "another"
        node.close()

    def settled() -> bool:
        return fds() <= before[0] and fds(pid) <= before[1] and threads(pid) <= before[2]

    (pid,) = [worker.pid for worker in host.runtime.workers]
    there_and_back()
    gc.collect()
    eventually(lambda: host.runtime.workers[0].nodes == 2)
    before = fds(), fds(pid), threads(pid)
    for injected in every(there_and_back, KeyboardInterrupt, HOST_SIDE, step=23 if thorough else 211):
        assert type(injected.error) in (KeyboardInterrupt, type(None)), injected  # None: it was raised in a `__del__`
        del injected
        gc.collect()
        eventually(lambda: host.runtime.workers[0].nodes == 2)
        eventually(settled, lambda: f"{before} has become {(fds(), fds(pid), threads(pid))}")
    assert host.node.process("echo", 1) == 1
    assert [worker.pid for worker in host.runtime.workers] == [pid]


STAND_IN = """
import os, signal, socket, struct, sys
import cbor2
control = socket.socket(fileno=int(sys.argv[1]))
control.recv(1 << 20)
control.send(cbor2.dumps(["ready", 1, [], {}]))
while True:
    data, descriptors, _, _ = socket.recv_fds(control, 4096, 8)
    if not data:
        os._exit(0)
    for descriptor in descriptors:
        os.close(descriptor)
"""
"""A worker that is up at once, and has no nodes."""


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()} | {
        int(pid) for task in os.listdir("/proc/self/task") for pid in _children(task)
    }


def _children(task: str) -> list[str]:
    try:
        return Path(f"/proc/self/task/{task}/children").read_text().split()
    except OSError:
        return []


def test_a_start_that_is_interrupted_anywhere_leaves_no_process(recorder, monkeypatch, thorough):
    """No worker, no zombie, no descriptor, no thread; the runtime can be used, and closed."""
    monkeypatch.setattr(worker_process, "_BOOT", STAND_IN)

    def start() -> None:
        runtime.load(NODE)

    def rest() -> tuple[Counter[str], int, set[int]]:
        return fds(), threading.active_count(), children()

    def is_as(before: tuple[Counter[str], int, set[int]]) -> bool:
        now = rest()
        return now[0] <= before[0] and now[1] <= before[1] and now[2] == before[2]

    before: tuple[Counter[str], int, set[int]] | None = None
    number = 1
    while True:
        runtime = cloche.Runtime(isolation="process", workers=1, logger=recorder, limits=patient())
        injected = inject(start, number, KeyboardInterrupt(), HOST_SIDE)
        assert type(injected.error) in (KeyboardInterrupt, cloche.BrokenInstanceError), injected
        reached = bool(injected.place)
        del injected
        with pytest.raises(cloche.BrokenInstanceError):
            start()  # the stand-in closes every node's socket
        runtime.close()
        if not reached:
            break
        gc.collect()
        if before is None:
            before = rest()
        else:
            eventually(partial(is_as, before), lambda: str(rest()))
        number += 181 if thorough else 1009
    assert before is not None
    assert children() == before[2]


def test_a_close_that_is_interrupted_anywhere_is_ended_by_the_next(recorder, monkeypatch, thorough):
    """Or by the collector."""
    monkeypatch.setattr(worker_process, "_BOOT", STAND_IN)
    before = children()
    number = 1
    while True:
        runtime = cloche.Runtime(isolation="process", workers=1, logger=recorder, limits=patient())
        with pytest.raises(cloche.BrokenInstanceError):
            runtime.load(NODE)
        engine = runtime._engine
        reached = bool(inject(engine.close, number, KeyboardInterrupt(), HOST_SIDE).place)
        engine.close()
        assert children() == before
        runtime.close()
        if not reached:
            break
        number += 13 if thorough else 67
