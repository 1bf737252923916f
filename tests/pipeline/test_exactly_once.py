"""Whatever breaks, and whenever: with ``on_break="restore"`` the outputs are those of an undisturbed run, each once, with its number."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

import cloche
from cloche.pipeline import Checkpoint, NodeSpec, Output, Pipeline, PipelineError, Retry

pytestmark = pytest.mark.timeout(1200)

TEXT = """
import os

def meet_fate(may_raise=False):
    if not DISTURBED: return
    from cloche_guest import services
    fate = services.fate()
    if fate == 1: os._exit(3)
    if fate == 2 and may_raise: raise OSError("for once")  # before any change: a retry meets the state that this call has left

class Sum:
    def __init__(self): self.sum = 0
    def process(self, x):
        meet_fate(may_raise=True)
        self.sum += x
        meet_fate()
        return self.sum
    def flush(self): return 1000 * self.sum

class Several:
    def __init__(self): self.count = 0
    def process(self, x):
        self.count += 1
        for number in range(x % 3):
            yield x + number
        meet_fate()
        yield 7 * self.count

class Pairs:
    is_streaming = True
    async def process(self, items):
        before = None
        async for x in items:
            if before is None: before = x
            else:
                meet_fate()
                yield before - x
                before = None
        yield -1

class PerKey:
    def __init__(self): self.counts = {}
    def process(self, x):
        key = x % 4
        self.counts[key] = self.counts.get(key, 0) + x
        meet_fate()
        return self.counts[key]

class Twice:
    async def process(self, x):
        meet_fate(may_raise=True)
        return 2 * x

class Mix:
    def __init__(self): self.last = 0
    def process(self, left, right):
        meet_fate(may_raise=True)
        self.last = 31 * self.last + 7 * left + right
        self.last %= 10_007
        meet_fate()
        return self.last
"""
QUIET, DISTURBED = cloche.Source(f"DISTURBED = False\n{TEXT}"), cloche.Source(f"DISTURBED = True\n{TEXT}")


def key(x: int) -> int:
    return x % 4


def graphs(make: Callable[..., NodeSpec]) -> dict[str, tuple[list[NodeSpec], list[tuple[str, str]] | None]]:
    return {
        "chain": ([make("Sum"), make("Several"), make("Pairs")], None),
        "branches": (
            [make("Sum"), make("Several"), make("PerKey"), make("Pairs")],
            [("Sum", "Several"), ("Sum", "PerKey"), ("PerKey", "Pairs"), ("Several", "Pairs")],
        ),
        "copies": ([make("Several"), make("PerKey", workers=3, key=key), make("Sum")], None),
        "ports": (
            [make("Twice"), make("PerKey"), make("Mix", inputs=("left", "right")), make("Several")],
            [("Twice", "Mix.right"), ("PerKey", "Mix.left"), ("Mix", "Several")],
        ),
        "ends": ([make("Sum"), make("Several"), make("PerKey")], [("Sum", "Several"), ("Sum", "PerKey")]),
    }


def undisturbed(name: str, items: list[int]) -> list[Output]:
    def make(entry: str, **options: Any) -> NodeSpec:
        return NodeSpec(QUIET, entry, id=entry, **options)

    with Pipeline(*graphs(make)[name]) as pipeline:
        return list(pipeline.run(items, numbered=True))


@pytest.mark.few(2)  # in each isolation
@pytest.mark.parametrize("name", ["chain", "branches", "copies", "ports", "ends"])
@pytest.mark.parametrize("isolation", ["none", "process"])
def test_sandboxes_break_at_random_calls(name: str, isolation: Any, runtimes: Any, thorough: bool) -> None:
    """And raise, and the run is broken off, and goes on in another pipeline from the bytes of its last checkpoint."""
    items = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]
    whole = undisturbed(name, items)
    for seed in range(100 if thorough else 2):
        random_ = random.Random(f"{name} {isolation} {seed}")
        assert disturbed(name, items, random_, runtimes(isolation)) == whole, (name, isolation, seed)


def disturbed(name: str, items: list[int], random_: random.Random, runtime: cloche.Runtime) -> list[Output]:
    """What the runs of one graph have given, without what came twice, in the order of its numbers."""
    fates: list[int] = []
    found: dict[int, Output] = {}
    kept: list[bytes] = []

    def fate() -> int:
        fates.append(random_.choice([0, 0, 0, 0, 1, 2]))
        return fates[-1]

    def make(entry: str, **options: Any) -> NodeSpec:
        grants, batch = cloche.Grants(services={"fate": fate}), random_.choice([1, 2, 5, 64])
        rules: dict[str, Any] = {"on_break": "restore", "on_error": Retry(50, 0)}
        return NodeSpec(DISTURBED, entry, id=entry, grants=grants, batch=batch, **rules, **options)

    for most in (random_.randrange(1, 12), random_.randrange(1, 12), random_.randrange(1, 12), 10**6):
        with Pipeline(*graphs(make)[name], runtime=runtime) as pipeline:
            options: dict[str, Any] = {"checkpoint_every": random_.choice([1, 2, 5])}
            options |= {"numbered": True, "on_checkpoint": lambda point: kept.append(point.to_bytes())}
            if kept:
                point = Checkpoint.from_bytes(kept[-1])
                outputs = pipeline.resume(point, items[point.items :], **options)
            else:
                outputs = pipeline.run(items, **options)
            for output in islice(outputs, most):
                assert found.setdefault(output.number, output) == output
            outputs.close()  # type: ignore[attr-defined]  # a generator
    assert {1, 2} & set(fates)
    return [found[number] for number in sorted(found)]


def test_processes_are_killed_at_random_moments(thorough: bool) -> None:
    source = cloche.Source(
        "class Sum:\n    sum = 0\n    def process(self, x):\n        self.sum += x\n        return self.sum\n"
    )
    for seed in range(10 if thorough else 1):
        random_ = random.Random(seed)
        spec = NodeSpec(source, id="sum", placement="process", on_break="restore", on_error=Retry(50, 0), batch=5)
        expected, sum_ = [], 0
        with Pipeline([spec, NodeSpec(source, id="next")]) as pipeline:

            def items(pipeline: Pipeline = pipeline, random_: random.Random = random_) -> Iterator[int]:
                for number in range(60):
                    if random_.random() < 0.1:
                        place = pipeline._runs[0]._stages["sum"][0].placement
                        process = place._process  # type: ignore[attr-defined]  # of the placement "process"
                        if process is not None:
                            os.kill(process.pid, signal.SIGKILL)
                    yield number

            found = list(pipeline.run(items()))
        total = 0
        for number in range(60):
            sum_ += number
            total += sum_
            expected.append(total)
        assert found == expected


STEPS = cloche.Source(
    """
import os

class Step:
    def __init__(self): self.sum = 0
    def process(self, x):
        if x == "raise": raise ValueError("for this item")
        if x == "exit": os._exit(3)
        self.sum += x if isinstance(x, int) else 0
        return x
    def flush(self): return self.sum
"""
)


@pytest.mark.thorough
@pytest.mark.parametrize("isolation", ["none", "process"])
def test_runs_that_end_in_any_way_leave_nothing_to_the_next_one(isolation: Any, runtimes: Any) -> None:
    """2,000 of them: whole, left early, with an input, a node or a sandbox that fails. Each gives what it would alone."""

    class InputError(Exception):
        pass

    def items(way: str, at: int) -> Iterator[Any]:
        for number in range(8):
            if number == at:
                if way == "input":
                    raise InputError
                if way in ("raise", "exit"):
                    yield way
            yield number

    def left_behind() -> tuple[int, set[str]]:
        return len(os.listdir("/proc/self/fd")), {thread.name for thread in threading.enumerate()}

    random_ = random.Random(isolation)
    runtime = runtimes(isolation)
    nodes = [NodeSpec(STEPS, id="a"), NodeSpec(STEPS, id="b", workers=2, key=str), NodeSpec(STEPS, id="c")]
    told = {"input": InputError, "raise": PipelineError, "exit": PipelineError}
    before = None
    with Pipeline(nodes, runtime=runtime) as pipeline:
        for count in range(2000):
            way, at = random_.choice(["whole", "early", "input", "raise", "exit"]), random_.randrange(8)
            outputs = pipeline.run(items(way, at))
            if way == "whole":
                assert list(outputs) == [*range(8), 28, 50, 6, 112]
            elif way == "early":
                assert list(islice(outputs, at)) == list(range(at))
                outputs.close()  # type: ignore[attr-defined]  # a generator
            else:
                got = []
                with pytest.raises(told[way]):
                    for output in outputs:
                        got.append(output)  # what came before the error counts
                assert got == list(range(len(got))), way
                assert len(got) <= at
            if count == 50:
                before = left_behind()
    assert before is not None
    descriptors, threads = left_behind()
    assert descriptors <= before[0]
    assert threads <= before[1]
