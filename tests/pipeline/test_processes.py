"""A native node in a process of its own: whatever it does to that process, or cannot send, is told, and the host goes on."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

import cloche
from cloche.pipeline import NodeSpec, Pipeline, PipelineError, Rejected

NODE = cloche.Source(
    """
import os, signal, sys, threading, time

class Own:
    def __init__(self, x):
        self.x = x

class Bad(Exception):
    def __init__(self, one, other):
        super().__init__(one)

class Node:
    def __init__(self, cleaned=None):
        self.sum = 0
        self.cleaned = cleaned

    def process(self, x):
        if not isinstance(x, int):
            return x
        if x == 100: raise ValueError("raised")
        if x == 101: os._exit(3)
        if x == 102: os.kill(os.getpid(), signal.SIGKILL)
        if x == 103: sys.exit("left")
        if x == 104: return lambda: x
        if x == 105: return Own(x)
        if x == 106: raise Bad("two", "arguments")
        if x == 107: time.sleep(1000)
        if x == 108:
            nested = []
            for _ in range(100_000): nested = [nested]
            return nested
        if x == 109: raise KeyboardInterrupt("in it")
        self.sum += x
        return self.sum

    def cleanup(self):
        if self.cleaned:
            open(self.cleaned, "a").write("c")
            if self.cleaned.endswith("hangs"): time.sleep(1000)
"""
)


def node(**options: Any) -> NodeSpec:
    return NodeSpec(NODE, "Node", placement="process", **options)


def rejected_and_outputs(spec: NodeSpec, items: list[Any]) -> tuple[list[Rejected], list[Any]]:
    rejected: list[Rejected] = []
    with Pipeline([spec]) as pipeline:
        return rejected, list(pipeline.run(items, dead_letters=rejected.append))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (100, "raised"),
        (101, "exit code 3"),
        (102, "SIGKILL"),
        (103, "SystemExit: left"),
        (104, "cannot be sent"),
        (105, None),
        (106, "two"),
        (108, "cannot be sent"),
        (109, "KeyboardInterrupt: in it"),
        (threading.Lock(), "cannot be sent"),
    ],
    ids=["raises", "exits", "killed", "sys.exit", "lambda", "own class", "own error", "nested", "interrupt", "lock"],
)
def test_what_an_item_does_to_its_process_is_told_and_the_others_are_worked_on(bad: Any, text: str | None) -> None:
    """In the middle of a batch as well."""
    items = [1, 2, 3, bad, 4, 5]
    rejected, outputs = rejected_and_outputs(node(on_error="dead_letter", on_break="restore"), items * 3)
    if text is None:
        assert len(outputs) in (15, 18)
        assert all("cannot be read" in str(one.error) for one in rejected)
        return
    assert outputs == [1, 3, 6, 10, 15, 16, 18, 21, 25, 30, 31, 33, 36, 40, 45]
    assert [one.item for one in rejected] == [3, 9, 15]
    assert all(text in str(one.error) for one in rejected), rejected


def test_an_error_brings_its_traceback() -> None:
    with Pipeline([node()]) as pipeline, pytest.raises(PipelineError) as caught:
        list(pipeline.run([100]))
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert 'if x == 100: raise ValueError("raised")' in cause.__notes__[0]


def test_a_hang_ends_soon_whatever_the_size_of_its_batch() -> None:
    """The deadline is that of an item, and not of the batch."""
    limits = cloche.Limits(deadline_s=0.3)
    spec = node(on_error="dead_letter", on_break="restore", limits=limits)
    items = [*range(40), 107, 1]
    rejected, outputs = rejected_and_outputs(spec, items)
    assert [one.item for one in rejected] == [40]
    assert "deadline_s=0.3" in str(rejected[0].error)
    assert outputs[-1] == sum(range(40)) + 1


@pytest.mark.parametrize("ends", ["with its input", "early", "in a call"])
def test_the_cleanup_of_a_process_is_called(ends: str, tmp_path: Any) -> None:
    file = tmp_path / "cleaned"
    with Pipeline([NodeSpec(NODE, "Node", {"cleaned": str(file)}, placement="process")]) as pipeline:
        outputs = pipeline.run([1, 2, 107] if ends == "in a call" else [1, 2])
        assert next(outputs) == 1
        if ends == "with its input":
            assert list(outputs) == [3]
        else:
            outputs.close()  # type: ignore[attr-defined]  # a generator
    assert file.read_text() == "c"


def test_a_cleanup_of_a_process_that_hangs_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloche.pipeline._placements.process._STOP_S", 0.2)
    spec = NodeSpec(NODE, "Node", {"cleaned": str(tmp_path / "hangs")}, placement="process")
    with Pipeline([spec]) as pipeline, pytest.raises(ExceptionGroup) as caught:
        list(pipeline.run([1]))
    assert "it was killed" in str(caught.value.exceptions[0])


def test_processes_leave_no_descriptor() -> None:
    rejected_and_outputs(node(), [1])
    before = len(os.listdir("/proc/self/fd"))
    for item in (1, 101, 102):
        rejected_and_outputs(node(on_error="dead_letter", on_break="restore"), [item])
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_state_can_be_loaded_in_another_process_and_beside_another_run() -> None:
    """Its classes are found by a name that stands for the code."""
    kept: list[bytes] = []
    spec = NodeSpec(NODE, "Node", placement="native")
    with Pipeline([spec]) as pipeline:
        for _ in range(2):
            list(pipeline.run([1, 2], checkpoint_every=2, on_checkpoint=lambda point: kept.append(point.to_bytes())))
    point = cloche.pipeline.Checkpoint.from_bytes(kept[0])
    state = pickle.loads(point.states["Node"])  # type: ignore[arg-type]  # bytes: of a native node
    assert state.sum == 3


def test_code_that_cannot_be_loaded_is_all_that_is_told() -> None:
    node = NodeSpec(cloche.Source("def f(x): return x +"), placement="process")
    with Pipeline([node]) as pipeline, pytest.raises(SyntaxError) as caught:
        list(pipeline.run([1]))
    assert not [note for note in caught.value.__notes__ if "stopped cleanly" in note]
