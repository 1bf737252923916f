"""Profiles on the real image: the node's functions inside the host's phases, and what a hostile node can do to them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloche
from cloche._profiling import call_tree

SOURCE = """
import asyncio, sys
import numpy as np

class Work:
    def initialize(self):
        self.step(1)
    def process(self, data):
        match data:
            case "generator": return self.several()
            case "coroutine": return self.later()
            case "raise": return self.fail()
            case "loop":
                while True: pass
            case "numpy": return float(np.add(1.0, self.step(2)))
            case "hidden": return self.hide()
            case "flood": return self.flood()
            case "names": return self.names()
        return self.step(data)
    def step(self, n):
        return n if n < 1 else self.step(n - 1)
    def several(self):
        for n in range(3):
            yield self.step(n)
    async def later(self):
        await asyncio.sleep(0.001)
        return self.step(3)
    def fail(self):
        raise ValueError(self.step(1))
    def hide(self):
        sys.setprofile(None); sys.settrace(None)
        for tool in range(6):
            if sys.monitoring.get_tool(tool):
                sys.monitoring.set_events(tool, 0)
                sys.monitoring.free_tool_id(tool)
        return self.step(3)
    def flood(self):
        for n in range(5000):
            space = {}
            exec(f"def f{n}(): pass", space)
            space[f"f{n}"]()
    def names(self):
        space = {}
        exec(compile("def f(): pass", "\\x1b[31m</script>\\u202e" + "x" * 10**6, "exec"), space)
        function = space["f"]
        function.__code__ = function.__code__.replace(co_qualname="a\\nb\\x1b[2J<script>" + "y" * 10**6)
        function()
"""


@pytest.fixture
def work(load: Callable[..., cloche.Node]) -> cloche.Node:
    return load(SOURCE, "Work", limits=cloche.Limits(deadline_s=60))


def row(profile: cloche.Profile, name: str) -> Any:
    (found,) = [entry for entry in profile.functions() if entry.name == name]
    return found


def events(profile: cloche.Profile, path: Path) -> list[dict[str, Any]]:
    """The bars of a saved profile. Each lies strictly inside of another one of its track, or strictly beside it."""
    profile.save(path)
    found = json.loads(path.read_text())["traceEvents"]
    assert all({"ph", "ts", "pid", "tid", "name"} <= event.keys() for event in found), "what viewers look at first"
    bars = [event for event in found if event["ph"] == "X"]
    for track in (1, 2):
        stack: list[float] = []
        for start, width in sorted((bar["ts"], bar["dur"]) for bar in bars if bar["pid"] == bar["tid"] == track):
            while stack and stack[-1] < start:
                stack.pop()
            assert width > 0
            assert not stack or start + width < stack[-1], "two bars overlap, or end at the same time"
            stack.append(start + width)
        begins = [bar["ts"] for bar in bars if bar["pid"] == track]
        assert len(set(begins)) == len(begins), "two bars begin at the same time"
    return bars


def test_functions_are_counted(work: cloche.Node, tmp_path: Path) -> None:
    """A function that is known to run four times in each of five calls did."""
    with cloche.profile(work) as profile:
        assert [work.process(3) for _ in range(5)] == [0] * 5
    step, process = row(profile, "Work.step"), row(profile, "Work.process")
    assert (step.calls, process.calls, step.file, process.line) == (20, 5, "node.py", 8)
    assert 0 <= step.self_s <= step.total_s <= process.total_s <= profile.seconds["guest"] <= profile.seconds["total"]
    assert (profile.count, profile.problem, profile.dropped) == (5, "", 0)
    bars = events(profile, tmp_path / "p.json")
    names = [bar["name"] for bar in bars]
    assert names[:2] == ["PROCESS", "encode"]
    assert names.count("Work.process (node.py:8)") == 6, "once a call, and in the sums"
    assert {"encode", "guest", "lift", "decode", "5 calls"} <= set(names)
    assert "5 calls" in [bar["cat"] for bar in bars if bar["name"].startswith("Work.step (node.py:")]


def test_calls_into_numpy_are_counted(work: cloche.Node) -> None:
    """They have no line, but a name and a module."""
    with cloche.profile(work) as profile:
        work.process("numpy")
    assert (row(profile, "add").calls, row(profile, "add").file) == (1, "numpy")
    with cloche.profile(work, builtins=False) as profile:
        work.process("numpy")
    assert {entry.name for entry in profile.functions()} == {"Work.process", "Work.step"}


def test_streams_generators_and_coroutines_are_profiled(work: cloche.Node, tmp_path: Path) -> None:
    """Each step of a stream is a call of its own, with a tree of its own."""
    with cloche.profile(work) as profile:
        work.initialize()
        assert work.process("generator") == [0, 0, 0]
        assert work.process("coroutine") == 0
        assert list(work.stream([1, "generator"])) == [0, 0, 0, 0]
    assert row(profile, "Work.several").calls == 8, "each resumption counts"
    assert row(profile, "Work.later").calls == 2
    assert [call.phases.op for call in profile.calls][:3] == ["INVOKE", "PROCESS", "PROCESS"]
    assert profile.calls[3].phases.op == "STREAM_OPEN"
    assert events(profile, tmp_path / "p.json")


def test_a_call_that_raises_is_profiled(work: cloche.Node) -> None:
    """And the next one is not counted under what raised."""
    with cloche.profile(work) as profile:
        with pytest.raises(cloche.NodeRaisedError):
            work.process("raise")
        work.process(0)
    assert row(profile, "Work.fail").calls == 1
    tree = profile.calls[1].tree
    assert tree is not None and tree.parents == [-1, 0]


def test_a_node_that_broke_still_has_the_hosts_phases(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """And what its earlier calls did."""
    work = load(SOURCE, "Work", limits=cloche.Limits(deadline_s=3.0, grace_s=0))
    with cloche.profile(work) as profile:
        work.process(2)
        with pytest.raises(cloche.DeadlineError):
            work.process("loop")
    assert [call.phases.failed for call in profile.calls] == ["", "HardDeadlineError"]
    assert profile.calls[1].tree is None
    assert profile.seconds["guest"] > 2.0
    assert row(profile, "Work.step").calls == 3
    assert ("PROCESS (HardDeadlineError)", "call 3") in {
        (bar["name"], bar["cat"]) for bar in events(profile, tmp_path / "p.json")
    }


def test_an_interrupted_call_is_a_deadline_under_a_profile_too(load: Callable[..., cloche.Node]) -> None:
    """The profile is taken by a call of its own, in between; what the interrupted one did is in it."""
    work = load(SOURCE, "Work", limits=cloche.Limits(deadline_s=1.0, grace_s=60))
    with cloche.profile(work) as profile:
        with pytest.raises(cloche.DeadlineError) as caught:
            work.process("loop")
        assert caught.value.reached is not None and caught.value.reached >= 1.0
        assert work.process(2) == 0
    assert not work.broken
    assert [call.phases.failed for call in profile.calls] == ["DeadlineError", ""]
    assert profile.calls[0].tree is not None


def test_calls_and_logs_are_numbered_as_without_a_profile(work: cloche.Node) -> None:
    """Asking for the tree is no call of the node's."""
    with cloche.profile(work):
        work.process(1)
        work.process(1)
    assert work.stats.calls == 3, "the loading and two calls"


def test_a_node_that_stops_the_profiler_loses_its_own_part_only(work: cloche.Node, tmp_path: Path) -> None:
    """The node can lie about itself; the host's phases are the host's."""
    with cloche.profile(work) as profile:
        work.process("hidden")
        assert work.process(1) == 0
    assert profile.count == 2
    assert profile.calls[1].phases.totals["guest"] > 0
    assert events(profile, tmp_path / "p.json")
    with cloche.profile(work) as profile:
        work.process(1)
    assert row(profile, "Work.step").calls == 2


def test_a_flood_of_functions_is_bounded(work: cloche.Node, tmp_path: Path) -> None:
    """On both sides, and the host says that something is missing."""
    with cloche.profile(work) as profile:
        work.process("flood")
    rows = profile.functions()
    assert len(rows) <= 1024
    assert row(profile, "(other functions)").calls > 3000
    profile.save(tmp_path / "p.json")
    assert (tmp_path / "p.json").stat().st_size < 3_000_000


def test_names_are_made_harmless(work: cloche.Node, tmp_path: Path) -> None:
    """They are shown on terminals and in browsers."""
    with cloche.profile(work) as profile:
        work.process("names")
    (found,) = [entry for entry in profile.functions() if entry.name.startswith("a")]
    assert found.name.startswith("a\\nb\\x1b[2J<script>")
    assert len(found.name) < 300 > len(found.file)
    assert "\x1b" not in found.file and "\u202e" not in found.file


def test_a_clone_of_a_profiled_node_is_free_of_it(work: cloche.Node) -> None:
    """It has the state, not the observer."""
    with cloche.profile(work), work.clone() as twin:
        assert twin.process(3) == 0
        with cloche.profile(twin) as profile:
            twin.process(3)
    assert row(profile, "Work.step").calls == 4


def test_a_node_that_is_brought_back_is_profiled_by_the_host_alone(load: Callable[..., cloche.Node]) -> None:
    """Its new interpreter counts nothing, and the profile says from where on."""
    limits = cloche.Limits(deadline_s=2.0, grace_s=0)
    work = load(SOURCE, "Work", limits=limits, on_break="restart")
    with cloche.profile(work) as profile:
        work.process(2)
        with pytest.raises(cloche.DeadlineError):
            work.process("loop")
        assert work.process(2) == 0
        assert work.process(2) == 0
    assert [call.tree is not None for call in profile.calls] == [True, False, False, False]
    assert profile.problem.startswith(f"after call {profile.calls[2].phases.call}: ")
    assert "nothing is being profiled" in profile.problem
    assert work.process(2) == 0


def test_leases_survive_being_profiled(load: Callable[..., cloche.Node]) -> None:
    """The tree is asked for after the call, and must not take the memory that the caller still looks at."""
    node = load("import numpy as np\ndef ones(n): return np.full(n, 1.0)")
    with cloche.profile(node), node.lease():
        first = node.process(100_000)
        node.process(3)
        assert first.sum() == 100_000


def number(*nodes: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<4q", *node) for node in nodes)


@pytest.mark.parametrize(
    "numbers",
    [
        b"x",
        number(*[(-1, 0, 1, 1)] * 2),
        number((0, 0, 1, 1)),
        number((-2, 0, 1, 1)),
        number((-1, 2, 1, 1)),
        number((-1, -1, 1, 1)),
        number((-1, 0, -1, 1)),
        number((-1, 0, 1, -1)),
        number((-1, 0, 1 << 50, 1)),
        number(*[(n - 1, 0, 1, 1) for n in range(5000)]),
    ],
    ids=["size", "twice", "own parent", "parent", "function", "negative function", "calls", "time", "huge", "many"],
)
def test_a_forged_tree_is_refused(numbers: bytes) -> None:
    """A guest can send any bytes."""
    with pytest.raises(ValueError, match="node|twice"):
        call_tree.parse(numbers, 2, 100)


def test_a_forged_time_is_cut_to_what_the_host_saw() -> None:
    """Else bars would lie outside of their call."""
    tree = call_tree.parse(number((-1, 0, 1, 1 << 62), (0, 1, 1, 70), (0, 0, 1, 70), (-1, 1, 1, 5)), 2, 100)
    assert tree.spent == [100, 70, 30, 0]


@pytest.mark.parametrize("answer", [None, 3, ["a\nb\n1", b""], ["a\nb", b"", 0], ["", b"", -1], ["", b"12", 0]])
def test_a_forged_answer_ends_the_guests_part(work: cloche.Node, answer: Any) -> None:
    """What the host measures itself goes on."""
    with cloche.profile(work) as profile:
        work.process(1)
        phases = profile.calls[0].phases
        if answer is None:
            profile._collected.add(phases, None)
        else:
            with pytest.raises(ValueError, match="profile|tree"):
                profile._collected.add(phases, answer)
        work.process(1)
    assert profile.seconds["guest"] >= 2 * phases.totals["guest"]
    assert np.isfinite(profile.seconds["total"])
