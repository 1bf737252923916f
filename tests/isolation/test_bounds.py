"""Bounds on a worker that no longer is what it was: one that was taken over keeps no limit by itself."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

import cloche
from cloche._isolation import rlimits, worker_process
from cloche._isolation.rlimits import Bounds, bytes_for
from tests.isolation.test_workers import ECHO, eventually, exists, pids
from tests.limits import patient

BOOT = """\
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
boot = json.loads(control.recv(1 << 20))
sys.path[:] = boot["path"]
import ctypes, mmap, threading, time
from cloche._isolation import server
from cloche._isolation.worker_main import main
{evil}
def relay(self, message, honest=server._Relayed.relay):
    if b"turn evil" in bytes(message.frame):
        threading.Thread(target=evil, daemon=True).start()
    return honest(self, message)
server._Relayed.relay = relay
main(control, boot)
"""
"""A worker that does what no guest can have it do, once a message says so. It is confined as any other."""

BURN = """
def evil():
    while True: pass
"""
HIDE = """
def evil():
    mprotect, kept = ctypes.CDLL(None).mprotect, []
    while True:
        area = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, 16 << 20, 4096):
            area[at] = 1
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        assert not mprotect(ctypes.c_void_p(start), ctypes.c_size_t(16 << 20), mmap.PROT_READ)
        kept.append(area)
"""
MULTIPLY = """
def evil():
    threading.stack_size(1 << 16)
    while True:
        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        time.sleep(0.001)
"""
EVIL = {
    "processor-time": (BURN, "processor time for which no call had asked"),
    "memory-that-the-kernel-does-not-count": (HIDE, "bytes of memory, [0-9]+ allowed"),
    "threads": (MULTIPLY, "threads, [0-9]+ allowed"),
}


@pytest.fixture
def evil(recorder, monkeypatch, request) -> Iterator[cloche.Runtime]:
    monkeypatch.setattr(worker_process, "_BOOT", BOOT.format(evil=request.param))
    limits = patient(memory_bytes=64 << 20, reply_bytes=1 << 20, request_bytes=1 << 20)
    with cloche.Runtime(isolation="process", workers=1, logger=recorder, limits=limits) as runtime:
        yield runtime


@pytest.mark.few(1)
@pytest.mark.parametrize(("evil", "match"), EVIL.values(), ids=EVIL, indirect=["evil"])
def test_a_worker_that_takes_more_than_its_nodes_may_is_killed(evil, match):
    """Nobody has to call it for that; the next call on one of its nodes says why."""
    node = evil.load(ECHO)
    (worker,) = pids(evil)
    assert {"memory", "processor_time"} <= set(evil.workers[0].confined_by)
    node.process("turn evil")
    eventually(lambda: not exists(worker))
    with pytest.raises(cloche.BrokenInstanceError, match=match):
        node.process(1)
    assert evil.load(ECHO).process(2) == 2


def test_memory_is_bounded_by_what_the_nodes_may_use(own):
    """The kernel keeps it, from the first node on; what is not needed any more is not allowed any more."""
    limits = patient(memory_bytes=512 << 20)
    one = own.load(ECHO)
    (worker,) = pids(own)
    first = data_bytes(worker)
    two = [own.load(ECHO, limits=limits) for _ in range(3)]
    most = data_bytes(worker)
    here = sum(1 for node in two if node._sandbox._process.pid == worker)
    assert here and most - first == here * bytes_for(limits)
    for node in two:
        node.close()
    eventually(lambda: data_bytes(worker) == first)
    assert one.process(1) == 1


def data_bytes(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_DATA)[0]


def test_a_guest_may_fill_its_memory(own):
    """The bound of the worker is none for honest nodes: each meets its own limit first, as a MemoryError."""
    grow = cloche.Source("def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n")
    nodes = [own.load(grow, limits=patient(memory_bytes=120 << 20)) for _ in range(2)]
    before = pids(own)
    for node in nodes:
        with pytest.raises(cloche.NodeRaisedError, match="MemoryError") as caught:
            node.process(1)
        assert caught.value.limit == "memory_bytes"
        node.snapshot()
    assert pids(own) == before


class Idle:
    """A process that does nothing, in place of a worker."""

    def __init__(self) -> None:
        self.popen = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        self.pid = self.popen.pid

    def end(self) -> None:
        self.popen.communicate()


@pytest.fixture
def idle() -> Iterator[Idle]:
    made = Idle()
    yield made
    made.end()


def test_processor_time_counts_only_beyond_that_of_calls(idle, monkeypatch):
    """A bucket that leaks: what calls took is free, a little more is forgiven, the rest adds up."""
    cpu, now = 0.0, 0.0
    monkeypatch.setattr(rlimits.time, "clock_gettime", lambda clock: cpu)
    monkeypatch.setattr(rlimits.time, "monotonic", lambda: now)
    bounds = Bounds(idle.pid)
    bounds.resize([(cloche.Limits(), 0)])
    cpu, now = 100.0, 100.0
    assert bounds.exceeded(95.0, 1) == ""
    cpu, now = 102.0, 101.0
    assert bounds.exceeded(95.0, 1) == ""
    cpu, now = 102.0, 119.0
    assert bounds.exceeded(95.0, 1) == ""
    cpu, now = 105.5, 120.0
    assert "3.5 s of processor time" in bounds.exceeded(95.0, 1)
