"""Many calls of many kinds of nodes, replayed in another process, under other meterings."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cloche
from cloche.replay import Record
from cloche.testing import replay as must_replay

pytest_plugins = ["pytester"]

MIXED = """
import collections, dataclasses, datetime, decimal, itertools, json, logging, random, re, statistics, time
import numpy as np

@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime

class Mixed:
    def __init__(self):
        self.kept = collections.deque(maxlen=50)
        self.rng = np.random.default_rng()

    def process(self, x):
        work = [
            lambda: {"sum": sum(self.kept), "mean": statistics.fmean([1, 2, x])},
            lambda: [Point(x, datetime.datetime.now())],
            lambda: decimal.Decimal(x) / 7,
            lambda: self.rng.normal(size=x * 10),
            lambda: {word: len(word) for word in re.findall(r"[a-z]+", "ab " * x)},
            lambda: json.loads(json.dumps({"a": [x, None, 1.5]})),
            lambda: random.sample(range(1000), 5),
            lambda: logging.getLogger("m").info("%s at %s", x, time.time()),
            lambda: list(itertools.permutations(range(4))),
            lambda: set(range(x)),
            lambda: (_ for _ in ()).throw(KeyError(x)) if x % 3 == 0 else "fine",
        ]
        self.kept.append(random.random())
        return work[x % len(work)]()
"""
REPLAYS = """
import sys, cloche
from cloche.replay import replay
for path in sys.argv[2:]:
    with cloche.Runtime(metering=sys.argv[1]) as runtime:
        report = replay(path, runtime=runtime)
        print(path, report.calls, bool(report), report.memory)
        if not report: print(report)
"""


def test_a_thousand_calls_give_equal_digests(load: Callable[..., cloche.Node], tmp_path: Path, thorough: bool) -> None:
    """In another process, under another metering."""
    node = load(MIXED, "Mixed", record=Record(calls=2000))
    count = 1000 if thorough else 44
    for number in range(count):
        try:
            node.process(number % 97)
        except cloche.NodeRaisedError as error:
            assert error.exc_type == "KeyError"
    path = node.recording.save(tmp_path / "mixed.cloche")
    for metering in ("fuel", "epoch") if thorough else ("epoch",):
        done = subprocess.run(
            [sys.executable, "-c", REPLAYS, metering, path], capture_output=True, text=True, timeout=300, check=True
        )
        assert done.stdout == f"{path} {count} True True\n"


def test_a_recording_among_the_tests_is_a_test(
    load: Callable[..., cloche.Node],
    runtime: cloche.Runtime,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the plugin: the file of a failure, put beside the tests, is checked from then on."""
    node = load("def f(x): return x", record=True)
    node.process(1)
    node.recording.save(pytester.path / "good.cloche")
    (pytester.path / "damaged.cloche").write_bytes(b"nothing")
    pytester.makeconftest('pytest_plugins = ["cloche.testing.plugin"]')
    monkeypatch.setenv("CLOCHE_CACHE", str(runtime.image.folder.parents[1]))  # pytester has changed HOME
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1, failed=1)


def test_an_assertion_says_where_a_replay_parts(load: Callable[..., cloche.Node], runtime: cloche.Runtime) -> None:
    nodes = [load(f"def f(x): return x + {number}", record=True) for number in range(2)]
    for node in nodes:
        node.process(1)
    one, other = (node.recording for node in nodes)
    with pytest.raises(AssertionError, match="result: recorded 1, replayed 2"):
        must_replay(dataclasses.replace(one, state=other.state), runtime=runtime)
