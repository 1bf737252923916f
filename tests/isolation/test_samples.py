"""Nodes in worker processes are sampled there. What a worker says of them is checked, and one that says nothing costs seconds."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cbor2
import pytest

import cloche
from cloche._isolation import samples
from cloche._isolation.descriptors import connected
from cloche._isolation.samples import RemoteSampler
from cloche.profiling import sample
from tests.limits import patient
from tests.profiling.test_sampling import SOURCE, calling, eventually, found

LIMITS = patient(grace_s=60.0)


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def test_where_nodes_are(
    threads: ThreadPoolExecutor, runtime: cloche.Runtime, runtimes: Callable[..., cloche.Runtime]
) -> None:
    """In workers and in this process, in one profile; asked for while they run, and kept afterwards."""
    apart = runtime.load(cloche.Source(SOURCE, "node.py"), "Work", limits=LIMITS, name="apart")
    here = runtimes("none").load(cloche.Source(SOURCE, "node.py"), "Work", limits=LIMITS, name="here")
    with apart, here:
        with sample(here, apart, hz=1000) as profile, calling(threads, apart, "spin"), calling(threads, here, "sleep"):
            eventually(lambda: found(profile, "Work.spin") and found(profile, "Work.sleep"))
        row = next(row for row in profile.functions() if row.name == "Work.spin")
        assert row.samples and row.file == "node.py" and 0 < row.self_s <= profile.seconds
        assert profile.nodes == ("here", "apart")
        assert sum(line.self_s for line in profile.lines()) == pytest.approx(profile.seconds)
        seconds = profile.seconds
        with calling(threads, apart, "spin"), sample(apart, hz=1000) as other:
            eventually(lambda: found(other, "Work.spin"))
        assert profile.seconds == seconds


def test_a_worker_that_dies_leaves_what_it_has_said(threads: ThreadPoolExecutor, own: cloche.Runtime) -> None:
    node = own.load(cloche.Source(SOURCE, "node.py"), "Work", limits=LIMITS)
    with sample(node, hz=1000) as profile:
        done = threads.submit(node.process, "spin")
        eventually(lambda: found(profile, "Work.spin"))
        for worker in own.workers:
            os.kill(worker.pid, signal.SIGKILL)
        assert isinstance(done.exception(60), cloche.BrokenInstanceError)
        assert found(profile, "Work.spin")
    assert found(profile, "Work.spin")


LANE = [3, 0, 0, 0, 0, 0]
FUNCTION, PLACE, ROOT, NODE = ["node.py", "f", 1], [0, 2], [0, 0, 1, 5], [0, 0, 2, 9]
HONEST = [[FUNCTION], [PLACE], [ROOT, NODE], LANE]
LIES: list[Any] = [
    [],
    [[], [], []],
    [[FUNCTION], [PLACE], [ROOT, [256, 0, 1, 1]], LANE],  # a node above itself
    [[FUNCTION], [PLACE], [ROOT, [1 << 40, 0, 1, 1]], LANE],
    [[FUNCTION], [PLACE], [ROOT, [0, 1, 1, 1]], LANE],
    [[FUNCTION], [PLACE], [ROOT, [0, 0, -1, 1]], LANE],
    [[FUNCTION], [PLACE], [ROOT, [0, 0, 1, 1 << 63]], LANE],
    [[FUNCTION], [[1, 2]], [ROOT, NODE], LANE],
    [[FUNCTION], [[0, -2]], [ROOT, NODE], LANE],
    [[[1, "f", 1]], [PLACE], [ROOT, NODE], LANE],
    [[FUNCTION], [PLACE], [ROOT, NODE], LANE[:-1]],
    [[FUNCTION], [PLACE], [ROOT, NODE], ["x"] * 6],
    [[FUNCTION] * 2049, [PLACE], [ROOT, NODE], LANE],
    [[FUNCTION], [PLACE], [ROOT, *[NODE] * 16384], LANE],
    [None, 7, "x", {}],
]


def framed(value: Any) -> bytes:
    frame = cbor2.dumps(value)
    return len(frame).to_bytes(4, "little") + frame


@pytest.mark.parametrize(
    "lie", [*map(framed, LIES), b"\xff" * 4, b"\x00" * 3, framed(HONEST)[:-1]], ids=range(len(LIES) + 3)
)
def test_a_worker_that_lies(lie: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said before stays, and it is asked no more."""
    monkeypatch.setattr(samples, "_FRESH_S", -1.0)
    ours, theirs = connected(keeps_messages=False)
    theirs.sendall(framed([""]) + framed(HONEST) + lie)
    sampler = RemoteSampler(ours, "node")
    first = sampler.read()
    assert first.lanes[0].samples == 3 and len(first.nodes) == 257
    theirs.shutdown(socket.SHUT_WR)
    assert sampler.read() == first
    assert sampler.read() == first
    sampler.end()
    theirs.close()


def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_ANSWER_S", 0.1)
    ours, theirs = connected(keeps_messages=False)
    with pytest.raises(cloche.ClocheError, match="does not answer"):
        RemoteSampler(ours, "node")
    theirs.close()
