"""What is recorded takes a bounded place in this process's memory, and costs no call its own outcome."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche import _container
from cloche._sandbox import tape as on
from cloche._sandbox.tape_bytes import packed, unpacked
from cloche.replay import Record, Recording, Session, replay

LARGE = 60_000
CODE = """
import logging
from cloche_guest import services

class Node:
    def process(self, wish):
        match wish:
            case bytes():
                return len(wish)
            case ["answer", size]:
                return b"x" * size
            case ["log", size]:
                logging.warning("x" * size)
            case ["ask", count, size]:
                return sum(len(services.ask(b"x" * size)) for _ in range(count))
            case ["fail", _]:
                raise ValueError
"""


def held(node: cloche.Node) -> int:
    """Bytes of the recorded events of a node."""
    return len(packed(node.recording.events))


@pytest.mark.parametrize("wish", [b"x" * LARGE, ["answer", LARGE], ["log", LARGE]], ids=["request", "reply", "logs"])
def test_the_ring_is_bounded_whatever_its_bytes_are(
    wish: Any, load: Callable[..., cloche.Node], runtime: cloche.Runtime
) -> None:
    """Values out of line and log records are Python's, not the core's: a checkpoint is due for them as well."""
    node = load(CODE, record=Record(max_bytes=20 * LARGE))
    for _ in range(100):
        node.process(wish)
    assert held(node) < 50 * LARGE
    recording = node.recording
    assert 20 <= len(recording.calls) <= 45
    assert replay(recording, runtime=runtime).memory is True


def test_the_ring_is_bounded_by_its_number_of_calls(load: Callable[..., cloche.Node]) -> None:
    """Also when each call makes Python empty the core's buffers."""
    node = load(CODE, record=Record(calls=10))
    for _ in range(50):
        node.process(b"x" * LARGE)
    assert 10 <= len(node.recording.calls) <= 22


def test_calls_that_are_never_made_do_not_fill_the_ring(load: Callable[..., cloche.Node]) -> None:
    node = load(CODE, record=Record(max_bytes=20 * LARGE))
    for _ in range(100):
        with pytest.raises(cloche.EncodeError):
            node.process([b"x" * LARGE, object()])
    assert held(node) < 50 * LARGE


def test_one_call_cannot_fill_the_host(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """A guest's requests are recorded up to a bound. The call cannot be replayed then, the next ones can."""
    node = load(CODE, grants=cloche.Grants(services={"ask": lambda body: body}), record=Record(max_bytes=10 * LARGE))
    assert node.process(["ask", 300, LARGE]) == 300 * LARGE
    recording = node.recording
    assert len(packed(recording.events)) < 50 * LARGE
    assert not recording.calls[-1].is_exact
    assert node.process(["ask", 2, LARGE]) == 2 * LARGE
    recording = node.recording
    assert len(recording.calls) == 1
    assert replay(recording, runtime=runtime).memory is True


def test_events_are_counted_as_what_they_take_in_memory(load: Callable[..., cloche.Node]) -> None:
    """A small file of a stranger's may stand for millions of events."""
    data = load(CODE, record=True).recording.to_bytes()
    about = _container.read(data, "recording", 1).section("about")
    empty = struct.pack("<BI", on.SENT, 0)
    bomb = _container.write("recording", 1, {"about": about, "events": empty * 300_000})
    assert len(bomb) < 20_000
    with pytest.raises(cloche.ClocheError, match="memory"):
        Recording.from_bytes(bomb, max_bytes=8 << 20)
    many = [(on.CAME, b"", ((1, b"", 0),) * 1000), (on.ENDED, b"", 0, (b"",) * 1000, 0, "", True)]
    assert unpacked(packed(many), 1 << 20) == many
    for event in many:
        with pytest.raises(cloche.ClocheError, match="memory"):
            unpacked(packed([event]), 100_000)


def test_states_are_counted_together(load: Callable[..., cloche.Node]) -> None:
    node = load(CODE, record=True)
    node.process(os.urandom(1_000_000))
    recording = node.recording
    assert recording.state is not None and recording.after is not None
    data = recording.to_bytes()
    most = max(len(data), recording.state.size_bytes + recording.after.size_bytes - 1000)
    with pytest.raises(cloche.ClocheError, match="memory|max_bytes"):
        Recording.from_bytes(data, max_bytes=min(most, recording.after.size_bytes + 1000))


def test_nodes_of_one_name_leave_files_of_their_own(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    paths = set()
    for _ in range(3):
        node = load(CODE, record=tmp_path, name="same")
        with pytest.raises(cloche.NodeRaisedError) as caught:
            node.process(["fail", 0])
        paths.add(caught.value.recording)
    assert len(paths) == len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_costs_no_call_its_error(
    load: Callable[..., cloche.Node], tmp_path: Path
) -> None:
    """Also where warnings are errors."""
    (tmp_path / "file").touch()
    node = load(CODE, record=tmp_path / "file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(cloche.NodeRaisedError) as caught:
                node.process(["fail", 0])
            assert not caught.value.recording


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_does_not_write_into_its_parents_recording(
    load: Callable[..., cloche.Node], runtime: cloche.Runtime
) -> None:
    node = load("def f(x): return x", record=True)
    node.process("of the parent")
    pid = os.fork()
    if not pid:
        try:
            node.recording  # noqa: B018  # empties the buffers: the next call is noted at their beginning
            node.process("secret, of the child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    recording = node.recording
    assert [call.operands for call in recording.calls] == [["of the parent"]]
    assert replay(recording, runtime=runtime).memory is True


def test_a_replay_keeps_one_call_at_a_time(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """Otherwise its time would grow with the square of the number of calls."""
    node = load(CODE, record=True)
    for _ in range(5):
        node.process(["log", 10])
    with Session(node.recording, runtime=runtime) as session:
        while session.step() is not None:
            assert session.sandbox.recorder.tape.now.calls == 1
        assert session.at == 5
