"""Phases of a call, on the real image: what is counted where, and that nothing of it stays behind."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest

import cloche
from cloche._profiling import phases
from cloche.testing import LocalGuest
from tests.injection import every

SOURCE = """
import logging
class Echo:
    def process(self, data):
        if type(data) is not str:
            return data
        if data == "log":
            logging.warning("said")
        if data == "raise":
            raise ValueError("no")
        while data == "loop":
            pass
        return data
"""


@pytest.fixture
def echo(load: Callable[..., cloche.Node]) -> cloche.Node:
    return load(SOURCE, "Echo", limits=cloche.Limits(deadline_s=2.0, grace_s=0))


def test_phases_are_in_order_do_not_overlap_and_fill_the_call(echo: cloche.Node) -> None:
    """A timeline is drawn from them, so every moment belongs to one phase at most."""
    with phases.record(echo) as recorder:
        assert echo.process({"a": 1}) == {"a": 1}
    (call,) = recorder.calls
    assert [phase.name for phase in call.phases] == ["encode", "guest", "lift", "decode"]
    edges = [edge for phase in call.phases for edge in (phase.start, phase.end)]
    assert [call.start, *edges, call.end] == sorted([call.start, *edges, call.end])
    assert (call.op, call.call, call.failed) == ("PROCESS", echo.stats.calls, "")
    assert sum(call.totals.values()) == pytest.approx(sum(phase.end - phase.start for phase in call.phases))


def test_bodies_of_arrays_are_lowered_and_lifted(echo: cloche.Node) -> None:
    """Copies take place inside encode and decode, and must not be counted as those."""
    with phases.record(echo) as recorder:
        echo.process(np.zeros(100_000))
    names = [phase.name for phase in recorder.calls[0].phases]
    assert names[:4] == ["encode", "lower", "encode", "guest"]
    assert names[-3:] == ["decode", "lift", "decode"]


def test_logs_are_a_phase(echo: cloche.Node) -> None:
    """Delivering them to a slow logger can take most of a call."""
    with phases.record(echo) as recorder:
        echo.process("log")
    assert recorder.calls[0].totals["logs"] > 0


def test_a_failed_and_a_broken_call_are_recorded(echo: cloche.Node) -> None:
    """The call that broke a node is the one to look at."""
    with phases.record(echo) as recorder:
        with pytest.raises(cloche.NodeRaisedError):
            echo.process("raise")
        with pytest.raises(cloche.EncodeError):
            echo.process(object())
        with pytest.raises(cloche.DeadlineError):
            echo.process("loop")
    assert [call.failed for call in recorder.calls] == ["", "EncodeError", "HardDeadlineError"]
    assert recorder.calls[1].totals["guest"] == 0 < recorder.calls[2].totals["guest"]
    assert echo.broken


def test_what_a_broken_node_refuses_is_not_recorded(echo: cloche.Node) -> None:
    """It was no call: the guest was gone, and the number is still that of the call before."""
    with phases.record(echo) as recorder:
        with pytest.raises(cloche.HardDeadlineError):
            echo.process("loop")
        with pytest.raises(cloche.ClosedError):
            echo.process(1)
    assert [call.failed for call in recorder.calls] == ["HardDeadlineError"]


def test_nothing_stays_behind(echo: cloche.Node) -> None:
    """Outside of the block nobody follows the calls, and what copies to and from guest memory is called directly."""

    def parts() -> tuple[Any, Any]:
        sandbox: Any = echo.__cloche__.sandbox
        return sandbox.observer, sandbox._codec._place

    before = parts()
    assert before[0] is None
    with phases.record(echo) as recorder:
        echo.process(1)
        assert parts()[0] is recorder
    assert parts() == before
    echo.process(1)
    assert len(recorder.calls) == 1


def test_an_interrupt_anywhere_leaves_no_observer(echo: cloche.Node) -> None:
    """One that stayed would be timed for ever, and no other could come."""

    def work() -> None:
        with phases.record(echo):
            pass

    def host_side(code: CodeType) -> bool:
        return "/runtime/cloche/" in code.co_filename

    for injected in every(work, KeyboardInterrupt, host_side):
        place = injected.place
        del injected  # its traceback has the frames of the recording
        gc.collect(1)
        with phases.record(echo) as recorder:
            echo.process(1)
        assert len(recorder.calls) == 1, place


def test_only_so_many_calls_are_kept(echo: cloche.Node) -> None:
    """A recorder on a long stream may not eat the host's memory."""
    with phases.record(echo, max_calls=3) as recorder:
        assert list(echo.stream(range(10))) == list(range(10))
    assert [call.op for call in recorder.calls] == ["STREAM_OPEN", "STREAM_FEED", "STREAM_FEED"]
    assert recorder.dropped == 9


def test_a_node_is_recorded_once_at_a_time(echo: cloche.Node) -> None:
    """A second recorder would time the first one."""
    with (
        phases.record(echo),
        pytest.raises(cloche.ClocheError, match="recorded already"),
        phases.record(echo),
    ):
        pass
    echo.close()
    with pytest.raises(cloche.ClosedError), phases.record(echo):
        pass


def test_what_the_guest_waits_for_is_the_guests_time(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """The host copies the answers to its questions too, and that is neither lower nor lift of the call."""
    (tmp_path / "text").write_text("x" * 100_000)
    node = load("def size(path): return len(open(path).read())", grants=cloche.Grants(mounts={"/data": tmp_path}))
    with phases.record(node) as recorder:
        assert node.process("/data/text") == 100_000
    names = [phase.name for phase in recorder.calls[0].phases]
    assert [name for name, _ in itertools.groupby(names)] == ["encode", "guest", "lift", "decode"]


def test_a_recording_goes_on_in_the_sandbox_that_replaces_a_broken_one(load: Callable[..., cloche.Node]) -> None:
    """The observer follows the node, whichever guest it has; what brings the node back is no call of it."""
    node = load(SOURCE, "Echo", limits=cloche.Limits(deadline_s=1.0, grace_s=0), on_break="restart")
    with phases.record(node) as recorder:
        with pytest.raises(cloche.HardDeadlineError):
            node.process("loop")
        assert node.process(1) == 1
    assert node.process(2) == 2
    assert [(call.op, call.failed) for call in recorder.calls] == [("PROCESS", "HardDeadlineError"), ("PROCESS", "")]
    assert recorder.calls[1].totals["guest"] > 0


@pytest.mark.parametrize("kind", ["worker", "local"])
def test_what_has_no_phases_refuses_to_be_recorded(kind: str) -> None:
    """A timeline of the socket to a worker would look like one of the node."""
    source = cloche.Source("def f(x): return x\n")
    with (
        cloche.Runtime(isolation="process", workers=1) as runtime,
        runtime.load(source) if kind == "worker" else LocalGuest(source) as node,
    ):
        with pytest.raises(cloche.ClocheError, match="no sandbox in this process"), phases.record(node):
            pass
        assert node.process(1) == 1
