"""Recordings under the debugger: a failed call, step by step and backwards, without the services and the time that it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloche
from cloche.replay import Recording
from cloche.replay.debugging import debugging
from tests.forked import Forking

PROGRAM = """\
import random, time
from cloche_guest import services
def process(n):
    began = time.time()
    total = 0
    for i in range(n):
        total += services.price(i) + random.random()
    return total / (n - 3)
"""


@pytest.fixture
def recording(load: Callable[..., cloche.Node]) -> Recording:
    """A call that went well, and one that failed, with a real clock."""
    asked: list[int] = []

    def price(item: int) -> int:
        asked.append(item)
        return 100 * len(asked) + item

    node = load(PROGRAM, grants=cloche.Grants(services={"price": price}), record=True)
    node.process(2)
    with pytest.raises(cloche.NodeRaisedError):
        node.process(3)
    assert node.recording is not None
    return node.recording


def test_a_failed_call_backwards(recording: Recording, runtime: cloche.Runtime) -> None:
    """Services, clock and randomness are those of the recording, however often the user goes back."""
    typed: Iterator[str] = iter("n;p began;c;p total;bn;bn;bn;p total;bc;n;p began;c;c".split(";"))
    printed: list[str] = []
    with debugging(
        recording, runtime=runtime, skip=1, stop_on_entry=True, read=lambda _: next(typed), write=printed.append
    ) as debugged:
        step = debugged.step()
        assert debugged.step() is None
    assert step is not None
    assert isinstance(step.error, cloche.NodeRaisedError)
    assert next(typed, None) is None
    numbers = [line for line in printed if line.replace(".", "").isdigit()]
    began, total, before, again = map(float, numbers)
    assert began == again > 1e9
    assert 1203 < total < 1206
    assert 701 < before < 703
    assert printed.count("ZeroDivisionError: float division by zero (leaves the node)") == 2


def test_the_command(recording: Recording, tmp_path: Path, forked: Forking) -> None:
    """On another day, on another machine."""
    recording.save(tmp_path / "failed.cloche")
    done = forked.run("debug", "failed.cloche", cwd=tmp_path, stdin="n\nc\nbn\nc\nc\n")
    assert done.returncode == 0, done.stderr
    assert "-> began = time.time()" in done.stdout
    assert "ZeroDivisionError" in done.stderr
    assert forked.run("debug", "failed.cloche", "--seed", "1", cwd=tmp_path).returncode == 2
