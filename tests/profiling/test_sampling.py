"""Sampled profiles on the real image: what a node does is found from outside, and whatever it does, nothing else is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.profiling import SampledProfile, sample
from tests.limits import patient

SOURCE = """
import os, time
from cloche_guest import services

class Work:
    def process(self, data):
        return getattr(self, data)()
    def spin(self):
        while True:
            pass
    def sleep(self):
        time.sleep(3600)
    def ask(self):
        return services.wait()
    def deep(self, n=0):
        return self.deep(n + 1) if n < 800 else self.spin()
    def several(self):
        yield self.spin()
    async def later(self):
        self.spin()
    def end(self):
        os._exit(3)
    def nothing(self):
        return 1
    def names(self):
        space = {}
        exec(compile("def f():\\n while True: pass", "\\x1b[31m</script>\\u202e\\udc80" + "x" * 10**6, "exec"), space)
        function = space["f"]
        function.__code__ = function.__code__.replace(co_qualname="a\\nb\\x1b[2J<script>\\U0001f600" + "y" * 10**6)
        function()
    def empty(self):
        code = self.spin.__func__.__code__.replace(co_qualname="", co_filename="", co_firstlineno=0)
        return type(self.spin.__func__)(code, {})(self)
    def flood(self):
        for n in range(100000):
            space = {}
            exec(compile(f"def f{n}():\\n for i in range(300): pass", f"{n}.py", "exec"), space)
            space[f"f{n}"]()
"""


def eventually(true: Callable[[], object]) -> None:
    """Wait until it is true."""
    wait = threading.Event()
    until = time.monotonic() + 90
    while not true():
        assert time.monotonic() < until
        wait.wait(0.002)


LIMITS = patient(grace_s=60.0)


@pytest.fixture
def work(load: Callable[..., cloche.Node]) -> cloche.Node:
    return load(SOURCE, "Work", limits=LIMITS)


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@contextmanager
def calling(threads: ThreadPoolExecutor, node: cloche.Node, data: str) -> Iterator[Future[Any]]:
    """A call under way, which is interrupted at the end."""
    done = threads.submit(node.process, data)
    try:
        yield done
    finally:
        eventually(lambda: done.done() or node.interrupt())
        assert isinstance(done.exception(60), cloche.CallInterruptedError | None)


def found(profile: SampledProfile, name: str) -> bool:
    """Whether there are samples of that function."""
    return any(row.name == name and row.total_s > 0 for row in profile.functions())


def sampled(threads: ThreadPoolExecutor, node: cloche.Node, data: str, name: str) -> SampledProfile:
    """A profile of a call that is under way until that function was found."""
    with sample(node, hz=1000) as profile, calling(threads, node, data) as call:
        eventually(lambda: found(profile, name) or call.done())
    return profile


def chain(profile: SampledProfile, path: Path) -> list[list[str]]:
    """The stacks of a saved profile, callers first."""
    profile.save(path)
    saved = json.loads(path.read_text())
    (graph,) = saved["profiles"]
    assert sum(graph["weights"]) == graph["endValue"] == round(profile.seconds * 1e9)
    assert len(graph["samples"]) == len(graph["weights"])
    return [[saved["shared"]["frames"][number]["name"] for number in stack] for stack in graph["samples"]]


def stacked_files(path: Path) -> list[list[str]]:
    """The files of the frames of each stack of a saved profile."""
    saved = json.loads(path.read_text())
    (graph,) = saved["profiles"]
    return [[saved["shared"]["frames"][number].get("file", "") for number in stack] for stack in graph["samples"]]


@pytest.mark.parametrize(
    ("data", "stack"),
    [
        ("spin", ["Work.process", "Work.spin"]),
        ("sleep", ["Work.process", "Work.sleep"]),
        ("several", ["Work.several", "Work.spin"]),
        ("later", ["Work.later", "Work.spin"]),
    ],
)
def test_where_a_node_is(
    threads: ThreadPoolExecutor, work: cloche.Node, data: str, stack: list[str], tmp_path: Path
) -> None:
    """Whether it computes or sleeps; under its callers, without the guest's runtime."""
    profile = sampled(threads, work, data, stack[-1])
    stacks = chain(profile, tmp_path / "x.json")
    assert stack in [one[-2:] for one in stacks]
    for files in stacked_files(tmp_path / "x.json"):  # a sample may come before the node's code is reached
        assert "node.py" not in files or not any(file.startswith("<cloche>") for file in files)
    row = next(row for row in profile.functions() if row.name == stack[-1])
    assert row.samples and 0 < row.self_s <= row.total_s <= profile.seconds
    assert row.file == "node.py" and SOURCE.splitlines()[row.line - 1].strip().startswith(f"def {stack[-1][5:]}(")
    line = next(line for line in profile.lines() if line.function == stack[-1])
    assert row.line <= line.line <= row.line + 2


def test_waiting_for_the_host_counts(threads: ThreadPoolExecutor, load: Callable[..., cloche.Node]) -> None:
    """Where the time of a call goes, is often there."""
    go_on = threading.Event()
    grants = cloche.Grants(services={"wait": lambda: go_on.wait(60)})
    node = load(SOURCE, "Work", limits=LIMITS, grants=grants)
    with sample(node, hz=1000) as profile:
        done = threads.submit(node.process, "ask")
        eventually(lambda: found(profile, "Work.ask"))
        go_on.set()
        assert done.result(60) is True


def test_deep_recursion_is_one_function(threads: ThreadPoolExecutor, work: cloche.Node) -> None:
    """Its time counts once. Only the innermost frames are looked at."""
    with sample(work, hz=1000) as profile, calling(threads, work, "deep"):
        eventually(lambda: found(profile, "Work.spin") and found(profile, "Work.deep"))
    deep = next(row for row in profile.functions() if row.name == "Work.deep")
    assert deep.total_s <= profile.seconds
    assert profile.cut > 0


def test_between_calls_nothing_is_found(work: cloche.Node) -> None:
    """A node at rest spends no time, whatever frames its memory shows."""
    work.process("nothing")
    with sample(work, hz=1000) as profile:
        eventually(lambda: profile._read().lanes[0].rested > 3)
    assert (profile.samples, profile.seconds, profile.functions(), profile.lines()) == (0, 0.0, [], [])


def test_a_node_that_is_brought_back_is_sampled_further(
    threads: ThreadPoolExecutor, load: Callable[..., cloche.Node]
) -> None:
    """Its sandbox is another one then."""
    node = load(SOURCE, "Work", limits=LIMITS, on_break="restart")
    with sample(node, hz=1000) as profile:
        with pytest.raises(cloche.BrokenInstanceError):
            node.process("end")
        with calling(threads, node, "spin"):
            eventually(lambda: found(profile, "Work.spin"))


def test_several_nodes_at_once(threads: ThreadPoolExecutor, load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """Each has a profile of its own in the file; the table adds them up."""
    nodes = [load(SOURCE, "Work", limits=LIMITS, name=name) for name in ("one", "two")]
    with sample(*nodes, hz=1000) as profile, calling(threads, nodes[0], "spin"), calling(threads, nodes[1], "sleep"):
        eventually(lambda: found(profile, "Work.spin") and found(profile, "Work.sleep"))
    profile.save(tmp_path / "x.json")
    graphs = json.loads((tmp_path / "x.json").read_text())["profiles"]
    assert [graph["name"] for graph in graphs] == ["one", "two"]
    assert {"Work.spin", "Work.sleep"} <= {row.name for row in profile.functions()}
    assert sum(row.self_s for row in profile.functions()) == pytest.approx(profile.seconds)
    assert sum(line.self_s for line in profile.lines()) == pytest.approx(profile.seconds)


def test_the_next_node_in_the_same_memory_is_not_sampled(
    threads: ThreadPoolExecutor, own_runtime: cloche.Runtime
) -> None:
    """Stores are used again."""
    first = own_runtime.load(cloche.Source(SOURCE), "Work")
    with sample(first, hz=1000) as profile:
        slot = first.__cloche__.sandbox._slot
        first.close()
        second = own_runtime.load(cloche.Source(SOURCE), "Work", limits=LIMITS)
        assert second.__cloche__.sandbox._slot is slot
        with sample(second, hz=1000) as other, calling(threads, second, "spin"):
            eventually(lambda: other.samples > 3)
        assert profile.samples == 0


@pytest.fixture
def own_runtime() -> Iterator[cloche.Runtime]:
    with cloche.Runtime() as made:
        yield made


@pytest.mark.parametrize("data", ["names", "empty"])
def test_names_are_the_nodes_word(threads: ThreadPoolExecutor, work: cloche.Node, data: str, tmp_path: Path) -> None:
    """They are cut, and shown as what they are."""
    profile = sampled(threads, work, data, f"Work.{data}")
    assert all(len(row.name) <= 200 and len(row.file) <= 200 and row.line >= 0 for row in profile.functions())
    profile.save(tmp_path / "x.html")
    profile.save(tmp_path / "x.json")
    page, saved = (tmp_path / "x.html").read_text(), (tmp_path / "x.json").read_text()
    for text in (page, saved, repr(profile), profile._repr_html_()):
        assert not any(character in text for character in "\x1b\u202e\udc80")
    assert "<script" not in page and "Work.process" in page
    json.loads(saved)


def test_a_flood_of_functions_is_bounded(threads: ThreadPoolExecutor, work: cloche.Node) -> None:
    """So is the profile, and each sample."""
    with sample(work, hz=1000) as profile, calling(threads, work, "flood"):
        eventually(lambda: profile.samples > 100)
    assert len(profile.functions()) <= 2049


def test_refusals(work: cloche.Node, own_runtime: cloche.Runtime, runtimes: Callable[[str], cloche.Runtime]) -> None:
    """Each says what to do."""
    with sample(work), pytest.raises(cloche.ClocheError, match="is being sampled already"), sample(work):
        pass
    with sample(work):  # the refusal has left nothing behind
        pass
    for hz in (0, -1, float("nan"), 10**6):
        with pytest.raises(ValueError, match="samples a second"), sample(work, hz=hz):
            pass
    with pytest.raises(TypeError, match="hz is str"), sample(work, hz="1"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="0 nodes"), sample():
        pass
    closed = own_runtime.load(cloche.Source("def f(): pass"))
    closed.close()
    with pytest.raises(cloche.ClosedError), sample(closed):
        pass
    remote = runtimes("process").load(cloche.Source("def f(): pass"))
    with sample(remote), pytest.raises(cloche.ClocheError, match="is being sampled already"), sample(work, remote):
        pass
    with sample(work, remote):
        pass
    remote.close()
    with pytest.raises(cloche.ClosedError), sample(remote):
        pass
