"""Recorded calls, made again: results, logs and memory are equal to the byte, whatever the node has asked the world for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloche
from cloche import Grants, Mount, Source
from cloche.replay import Record, Recording, Session, replay

WORLD = """
import logging, os, pathlib, random, time, uuid
import numpy as np
from cloche_guest import services

class World:
    def __init__(self):
        self.seen = {}

    def process(self, wish):
        match wish:
            case np.ndarray():
                answer = wish * random.random()
            case "clock":
                answer = [time.time(), time.monotonic(), time.process_time()]
            case "random":
                answer = [uuid.uuid4().hex, os.urandom(3), random.random(), float(np.random.default_rng().random())]
            case "sleep":
                time.sleep(0.001)
                answer = "slept"
            case "busy":
                end = time.monotonic() + 0.15
                while time.monotonic() < end:
                    pass
                answer = "busy"
            case "log":
                logging.getLogger("node").warning("at %s", time.time())
                print("printed")
                answer = None
            case "read":
                answer = pathlib.Path("/data/in.txt").read_text()
            case "write":
                pathlib.Path("/data/out.txt").write_text("x" * 70000)
                answer = sorted(path.name for path in pathlib.Path("/data").iterdir())
            case "raise":
                raise ValueError(uuid.uuid4().hex)
            case _:
                answer = services.ask(wish)
        self.seen[len(self.seen)] = (id(answer), answer)
        return answer
"""

WISHES: list[Any] = [
    "clock", "random", "sleep", "busy", "log", "read", "write", "raise", "a question", "big", "fails", "x" * 70000,
    np.arange(20000.0), 7,
]  # fmt: skip


def ask(question: Any) -> Any:
    """A service of the host's, which answers something else each time."""
    if question == "fails":
        raise LookupError("nothing there")
    if question == "big":
        return np.full(20000, time.time())
    return {"question": question, "at": time.time()}


@pytest.fixture
def world(load: Callable[..., cloche.Node], tmp_path: Path) -> cloche.Node:
    """A recorded node that has asked the world for everything."""
    (tmp_path / "in.txt").write_text("of a file")
    grants = Grants(services={"ask": ask}, mounts={"/data": Mount(tmp_path, writable=True)})
    node = load(WORLD, grants=grants, record=True)
    for wish in WISHES:
        try:
            node.process(wish)
        except cloche.NodeRaisedError:
            assert isinstance(wish, str) and wish in {"raise", "fails"}
    return node


@pytest.mark.parametrize("metering", ["guard", "epoch", "fuel"])
def test_all_that_a_node_gets_from_the_world_comes_from_the_recording(
    world: cloche.Node, tmp_path: Path, metering: Any
) -> None:
    """Clocks, random numbers, sleeps, services and files: with the same answers, guest memory is equal to the byte."""
    path = world.recording.save(tmp_path / "world.cloche")
    (tmp_path / "in.txt").unlink()
    with cloche.Runtime(metering=metering) as runtime:
        report = replay(path, runtime=runtime)
    assert report.differences == ()
    assert report.memory is True
    assert report.calls == len(WISHES)


def test_a_recording_tells_what_the_calls_were(world: cloche.Node) -> None:
    recording = Recording.from_bytes(world.recording.to_bytes())
    calls = {str(call.operands[0])[:6]: call for call in recording.calls}
    assert calls["random"].outcome[0] and calls["raise"].outcome.exc_type == "ValueError"
    assert [record.message for record in calls["log"].logs][1] == "printed"
    assert calls["read"].outcome == "of a file"
    assert np.array_equal(recording.calls[-2].operands[0], np.arange(20000.0))
    assert recording.first and recording.name == "World"


def test_a_session_makes_one_call_at_a_time_and_leaves_the_rest(world: cloche.Node, runtime: cloche.Runtime) -> None:
    """A debugger begins in the middle, and steps back by replaying the rest once more."""
    recording = world.recording
    with Session(recording, runtime=runtime) as session:
        session.run_to(5)
        rest = session.rest()
        step = session.step()
        assert step is not None and step.value == recording.calls[5].outcome and not step.differences
    assert replay(rest, runtime=runtime).memory is True
    assert len(rest.calls) == len(recording.calls) - 5


def test_a_failed_call_leaves_a_file(load: Callable[..., cloche.Node], runtime: cloche.Runtime, tmp_path: Path) -> None:
    """A failing call in production becomes a small file that runs anywhere."""
    node = load("def f(x): return 1 / x", record=tmp_path / "failed")
    node.process(1)
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(0)
    recording = Recording.open(caught.value.recording)
    assert (recording.error, recording.message) == ("NodeRaisedError", "ZeroDivisionError: division by zero")
    report = replay(recording, runtime=runtime)
    assert report and report.memory and isinstance(report.error, cloche.NodeRaisedError)


def test_a_failed_load_leaves_a_file(runtime: cloche.Runtime, tmp_path: Path) -> None:
    with pytest.raises(cloche.NodeLoadError) as caught:
        runtime.load(
            Source("import random\nclass X:\n    process = None\n    raise OSError(random.random())"), record=tmp_path
        )
    report = replay(caught.value.recording, runtime=runtime)
    assert report and report.calls == 1
    assert str(report.error).splitlines()[0] == str(caught.value).splitlines()[0]


def test_a_broken_node_leaves_a_file_and_goes_on_recorded(
    load: Callable[..., cloche.Node], runtime: cloche.Runtime, tmp_path: Path
) -> None:
    code = "import os\nclass X:\n    n = 0\n    def process(self, x):\n        self.n += 1\n        if x: os._exit(3)\n        return self.n"
    node = load(code, record=tmp_path, on_break="restore")
    assert node.process(0) == 1
    with pytest.raises(cloche.GuestExitError) as caught:
        node.process(1)
    report = replay(caught.value.recording, runtime=runtime)
    assert report and isinstance(report.error, cloche.GuestExitError) and report.memory is None
    assert node.process(0) == 2
    assert replay(node.recording, runtime=runtime).memory is True


def test_an_interrupted_sleep_is_replayed_exactly(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """The guest is told to stop where it slept: a place that a replay finds again. No time passes there."""
    code = "import time\nclass X:\n    def process(self, x):\n        try: time.sleep(x)\n        finally: self.x = x\n        return x"
    node = load(code, record=True)
    with pytest.raises(cloche.DeadlineError):
        node.with_options(deadline_s=0.05).process(10_000)
    node.process(0)
    recording = node.recording
    assert [call.is_exact for call in recording.calls] == [True, True]
    report = replay(recording, runtime=runtime)
    assert report.differences == () and report.memory is True


def test_a_call_interrupted_while_it_computed_begins_anew(
    load: Callable[..., cloche.Node], runtime: cloche.Runtime, tmp_path: Path
) -> None:
    """Nobody knows at which instruction it was told: only how it ended can be compared. Later calls can be replayed again."""
    node = load("def f(x):\n    while x: pass\n    return x", record=tmp_path)
    with pytest.raises(cloche.DeadlineError) as caught:
        node.with_options(deadline_s=0.05).process(1)
    report = replay(caught.value.recording, runtime=runtime)
    assert report and report.inexact == (0,) and report.memory is None
    assert isinstance(report.error, cloche.DeadlineError)
    node.process(0)
    recording = node.recording
    assert len(recording.calls) == 1
    assert replay(recording, runtime=runtime).memory is True


def test_the_ring_keeps_the_last_calls(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    node = load(
        "class X:\n    n = 0\n    def process(self, x):\n        self.n += x\n        return self.n",
        record=Record(calls=5),
    )
    for _ in range(23):
        node.process(1)
    recording = node.recording
    assert 5 <= len(recording.calls) <= 10 and not recording.first
    assert recording.calls[-1].outcome == 23
    report = replay(recording, runtime=runtime)
    assert report.memory is True and not report.differences


def test_buffers_leases_and_streams(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """What the host writes into shared memory, and replies that the guest holds for a lease, are part of the recording."""
    code = """
class X:
    def total(self, a): return float(a.sum())
    def big(self, n):
        import numpy as np
        return np.arange(float(n))
    def process(self, item):
        print(item)
        yield item * 2
"""
    node = load(code, record=True)
    buffer = node.buffer(1000)
    for number in range(3):
        buffer[:] = number
        assert node.call("total", buffer[:500]) == 500 * number
    with node.lease():
        first, second = node.call("big", 20000), node.call("big", 30000)
        assert first[-1] + second[-1] == 19999 + 29999
    node.call("big", 3)
    assert list(node.stream([1, 2])) == [2, 4]
    lines: list[str] = []
    node.with_options(on_log=lambda record: lines.append(record.message)).process(5)
    report = replay(node.recording, runtime=runtime)
    assert report.differences == () and report.memory is True


def test_where_a_replay_parts(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    """The first differing call, and the path in its value."""
    node = load("def f(x): return {'rows': [1, x]}", record=True)
    for number in range(3):
        node.process(number)
    recording = node.recording
    other = load("def f(x): return {'rows': [1, x + x // 2]}", record=True)
    for number in range(3):
        other.process(number)

    mixed = dataclasses.replace(recording, state=other.recording.state)
    report = replay(mixed, runtime=runtime)
    assert not report and report.memory is False
    first = report.differences[0]
    assert (first.call, first.what, first.where, first.recorded, first.replayed) == (
        2,
        "result",
        "result['rows'][1]",
        "2",
        "3",
    )
    assert "result['rows'][1]: recorded 2, replayed 3" in str(report)


def test_a_redacted_recording_holds_what_redact_returns(
    load: Callable[..., cloche.Node], runtime: cloche.Runtime
) -> None:
    """Memory, random numbers and answers may hold what is to be left out: none of them is in the file."""

    def redact(kind: str, value: Any) -> Any:
        return "***" if kind in {"reply", "error"} else [{"key": "***"}] if kind == "request" else None

    code = "import logging\ndef f(x):\n    logging.warning(x['key'])\n    return x['key']"
    node = load(code, record=Record(redact=redact))
    node.process({"key": "hunter2"})
    data = node.recording.to_bytes()
    recording = Recording.from_bytes(data)
    assert recording.state is None and recording.redacted
    assert (recording.calls[0].operands, recording.calls[0].outcome) == ([{"key": "***"}], "***")
    with pytest.raises(cloche.ClocheError, match="is redacted"):
        replay(recording, runtime=runtime)


def test_settings_teach(load: Callable[..., cloche.Node]) -> None:
    with pytest.raises(TypeError, match="record is 5: give True, the path of a folder"):
        load("def f(x): return x", record=5)
    with pytest.raises(ValueError, match="calls"):
        Record(calls=0)
    with pytest.raises(cloche.ClocheError, match="is not recorded: load it with record="):
        load("def f(x): return x").recording  # noqa: B018  # it raises
