"""The guest's record of the lines that have run, natively."""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest

from cloche_wire import Op, Reply
from tests.guest.conftest import Bench

SOURCE = """\
import json
def process(data):
    if data == "generator":
        return values()
    for n in range(1000):
        if n > data:
            return later(n)
    raise ValueError(data)
def values():
    yield 1
    yield 2
async def later(n):
    return json.dumps(
        n)
def unused():
    pass
"""
pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")


def lines(bench: Bench) -> set[int]:
    """The lines since the last time, all of the first file."""
    kind, data = bench.send(Op.PROFILE, "covered")
    assert kind is Reply.RESULT
    found = list(struct.iter_unpack("<2I", data))
    assert {file for file, _ in found} <= {0}
    return {line for _, line in found}


@pytest.fixture
def covered(bench: Bench) -> Any:
    assert bench.send(Op.PROFILE, "cover", ["node.py", "other.py"]) == (Reply.RESULT, None)
    bench.load(SOURCE, "process")
    yield bench
    bench.send(Op.PROFILE, "uncover")


def test_lines_that_run_are_told_once(covered: Bench) -> None:
    """From the import of the module on; and of a loop each line once."""
    assert lines(covered) == {1, 2, 9, 12, 15}
    covered.process(2)
    assert lines(covered) == {3, 5, 6, 7, 13, 14}
    covered.process(2)
    covered.process("generator")
    assert lines(covered) == {4, 10, 11}
    assert lines(covered) == set()


def test_a_profile_and_lines_at_the_same_time(covered: Bench) -> None:
    """Each ends alone."""
    lines(covered)
    assert covered.send(Op.PROFILE, "start", False)[0] is Reply.RESULT
    assert covered.send(Op.PROFILE, "stop")[0] is Reply.RESULT
    covered.process(2)
    assert 7 in lines(covered)


def test_code_that_ran_before_is_told_when_it_runs_again(bench: Bench) -> None:
    """As that of a node that has been loaded."""
    bench.load(SOURCE, "process")
    bench.process(2)
    bench.send(Op.PROFILE, "cover", ["node.py"])
    bench.process(2)
    assert lines(bench) == {3, 5, 6, 7, 13, 14}
    bench.send(Op.PROFILE, "uncover")


def test_what_a_clone_inherits_ends(covered: Bench) -> None:
    """RESEED begins the life of a clone."""
    covered.send(Op.RESEED, b"")
    assert covered.send(Op.PROFILE, "covered")[0] is Reply.FAILURE


def test_a_node_that_has_all_tools(bench: Bench) -> None:
    """It is told from one that runs no lines."""
    before = [tool for tool in range(6) if sys.monitoring.get_tool(tool) is None]
    for tool in before:
        sys.monitoring.use_tool_id(tool, "taken")
    try:
        kind, failure = bench.send(Op.PROFILE, "cover", ["node.py"])
    finally:
        for tool in before:
            sys.monitoring.free_tool_id(tool)
    assert kind is Reply.FAILURE
    assert "none is left" in str(failure)
