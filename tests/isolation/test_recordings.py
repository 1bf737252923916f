"""Nodes in worker processes are recorded there, and the host gets what was recorded: it replays as any recording does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloche
from cloche import Grants, Mount
from cloche.replay import Record, Recording, replay
from cloche.replay.debugging import debugging
from tests.limits import patient
from tests.replay.test_failures import SOURCE
from tests.replay.test_replay import WISHES, WORLD, ask


@pytest.fixture
def here(runtimes: Callable[..., cloche.Runtime]) -> cloche.Runtime:
    """Where recordings are replayed."""
    return runtimes("none")


@pytest.fixture
def apart(runtimes: Callable[..., cloche.Runtime]) -> Iterator[Callable[..., cloche.Node]]:
    """Load a node in a worker process."""
    nodes: list[cloche.Node] = []

    def load(source: cloche.Source | str = SOURCE, entry: str | None = "Node", **options: Any) -> cloche.Node:
        code = cloche.Source(source) if isinstance(source, str) else source
        nodes.append(runtimes("process").load(code, entry, **options))
        return nodes[-1]

    yield load
    for node in nodes:
        node.close()


def test_whatever_a_node_asks_of_the_world(
    apart: Callable[..., cloche.Node], here: cloche.Runtime, tmp_path: Path
) -> None:
    """Results, logs and memory are equal to the byte, here, where the node never was."""
    (tmp_path / "in.txt").write_text("of a file")
    node = apart(
        WORLD,
        "World",
        grants=Grants(services={"ask": ask}, mounts={"/data": Mount(tmp_path, writable=True)}),
        record=True,
    )
    for wish in WISHES:
        try:
            node.process(wish)
        except cloche.NodeRaisedError:
            pass
    recording = Recording.from_bytes(node.recording.to_bytes())
    report = replay(recording, runtime=here)
    assert report.differences == () and report.memory is True and report.calls == len(WISHES)
    assert recording.first and recording.name == "World" and recording.state is not None
    assert recording.state.info == node.info


def test_streams_buffers_batches_and_logs(apart: Callable[..., cloche.Node], here: cloche.Runtime) -> None:
    """And a ring of the last calls, whose generations are kept in the worker."""
    code = """
class X:
    def total(self, a): return float(a.sum())
    def process(self, item):
        print(item)
        yield item * 2
"""
    node = apart(code, "X", record=Record(calls=4))
    buffer = node.buffer(20_000)
    for number in range(3):
        buffer[:] = number
        assert node.call("total", buffer[:15_000]) == 15_000 * number
    assert list(node.stream([1, 2, np.arange(20_000.0)]))[:2] == [2, 4]
    lines: list[str] = []
    node.with_options(on_log=lambda record: lines.append(record.message)).process(5)
    recording = node.recording
    assert 4 <= len(recording.calls) <= 8 and not recording.first
    report = replay(recording, runtime=here)
    assert report.differences == () and report.memory is True


@pytest.mark.parametrize(
    ("wish", "kind", "limits"),
    [
        ("raise", cloche.NodeRaisedError, patient()),
        ("exit", cloche.GuestExitError, patient()),
        ("loop", cloche.DeadlineError, patient(deadline_s=0.3)),
        ("stubborn", cloche.HardDeadlineError, patient(deadline_s=0.3, grace_s=0.1)),
    ],
)
def test_failures_name_their_recordings(
    apart: Callable[..., cloche.Node],
    here: cloche.Runtime,
    tmp_path: Path,
    wish: str,
    kind: type[cloche.ClocheError],
    limits: cloche.Limits,
) -> None:
    """Also of a guest that is stopped or ends itself: its worker lives, and is asked before the guest is given up."""
    node = apart(record=tmp_path, limits=limits, on_break="restore")
    node.process("a call before")
    with pytest.raises(kind) as caught:
        node.process(wish)
    recording = Recording.open(caught.value.recording)
    assert recording.calls[-1].operands == [wish] and recording.error == kind.__name__
    assert replay(recording, runtime=here)
    assert node.process("a call after") == "a call after"
    assert replay(node.recording, runtime=here).memory is True


def test_a_load_that_fails_names_its_recording(
    apart: Callable[..., cloche.Node], here: cloche.Runtime, tmp_path: Path
) -> None:
    with pytest.raises(cloche.NodeLoadError) as caught:
        apart(params={"fails": "raise"}, record=tmp_path)
    assert replay(caught.value.recording, runtime=here)


def test_what_a_worker_has_recorded_ends_with_it(own: cloche.Runtime, tmp_path: Path) -> None:
    """The call's own error comes through; it names no recording."""
    node = own.load(SOURCE, "Node", record=tmp_path)
    for worker in own.workers:
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.process("a")
    assert not caught.value.recording and not list(tmp_path.iterdir())


def test_reloading_by_replaying_says_what_to_do(apart: Callable[..., cloche.Node]) -> None:
    """A replay runs without isolation, where a node that was given it is not to be."""
    node = apart("def f(x): return x", "f", record=True)
    node.process(1)
    with pytest.raises(cloche.ReloadError, match="state='new'"):
        node.reload(cloche.Source("def f(x): return 2 * x"))
    assert node.process(1) == 1
    assert node.reload(cloche.Source("def f(x): return 2 * x"), state="new")
    assert node.process(1) == 2
    assert len(node.recording.calls) == 1


def test_what_cannot_be_done_in_a_worker_process_says_what_to_do(
    apart: Callable[..., cloche.Node], here: cloche.Runtime, tmp_path: Path
) -> None:
    """Its recording can be debugged here: that is the way, and it works."""
    node = apart(record=tmp_path)
    with pytest.raises(cloche.ClocheError, match=r"isolation='none'.*cloche debug"), node.debug(port=0, wait=False):
        pass
    with pytest.raises(cloche.ClocheError, match="isolation='none'"), cloche.profile(node):
        pass
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("raise")
    typed, printed = iter("p wish;c;p wish;c".split(";")), []
    recording = Recording.open(caught.value.recording)
    with debugging(
        recording, runtime=here, breakpoints=["process"], read=lambda _: next(typed), write=printed.append
    ) as debugged:
        step = debugged.step()
    assert step is not None and isinstance(step.error, cloche.NodeRaisedError)
    assert sum("'raise'" in line for line in printed) >= 2
