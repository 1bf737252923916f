"""What is called when Python's stack is nearly full raises RecursionError, or does its work: no error of the boundary's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy  # noqa: F401  # imported near the end of the stack, it is broken for the rest of the process
import pytest

import cloche

pytestmark = [
    pytest.mark.isolation("none", reason="the stack is this process's"),
    # a file, or a sandbox, whose closing is interrupted by the end of the stack is closed when it is freed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MARGINS = range(1, 60)
"""Frames that are left. With the last of them everything works."""
SOURCE = cloche.Source("def f(x): return x\n", "node.py")
OPERATIONS: dict[str, Callable[[cloche.Runtime, cloche.Node], Any]] = {
    "load": lambda runtime, _: runtime.load(SOURCE).close(),
    "process": lambda _, node: node.process(1),
    "where": lambda _, node: node.where(),
    "snapshot": lambda _, node: node.snapshot(),
    "clone": lambda _, node: node.clone().close(),
    "buffer": lambda _, node: node.buffer(3),
    "close": lambda _, node: node.close(),
}


def _depth() -> int:
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _at_depth(frames: int, function: Callable[[], Any]) -> Any:
    return _at_depth(frames - 1, function) if frames > 0 else function()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_end_of_the_stack_is_a_recursion_error(runtime: cloche.Runtime, name: str) -> None:
    """ctypes makes an ArgumentError of it if it is met while it converts arguments."""
    operation = OPERATIONS[name]
    ended = []
    with runtime.load(SOURCE) as pattern:
        snapshot = pattern.snapshot()
        free = sys.getrecursionlimit() - _depth()
        for margin in MARGINS:
            node = runtime.restore(snapshot)
            try:
                _at_depth(free - margin, lambda node=node: operation(runtime, node))  # type: ignore[misc]
                ended.append("done")
            except RecursionError:
                ended.append("full")
            finally:
                node._sandbox.close()
    assert ended[0] == "full" and ended[-1] == "done", "the margins do not hold the end of the stack"
