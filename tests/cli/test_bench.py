"""``cloche bench`` as a user runs it: small selections, hardly timed, with the real image."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloche.metering import DEFAULT_METERING
from cloche_bench import results
from tests.forked import Forking

Run = Callable[..., "subprocess.CompletedProcess[str]"]
BRIEF = ("--seconds", "0.005")

NODES = '''
import os, time

class Gain:
    def __init__(self, factor=2.0):
        self.factor = factor
    def process(self, samples):
        return samples * self.factor

def words(item):
    return {"count": len(item["text"].split())}

def where(item):
    """Says something else outside the sandbox."""
    return len(os.environ) > 0

def bad(item):
    raise ValueError("no")

class Sums:
    is_streaming = True
    async def process(self, items):
        total = 0
        async for item in items:
            total += item
            yield total

class Ticks:
    is_source = True
    def process(self):
        yield from range(3)
'''


@pytest.fixture
def run(tmp_path: Path, forked: Forking) -> Run:
    """Run ``cloche bench`` with some arguments in a folder that has nodes.py."""
    (tmp_path / "nodes.py").write_text(NODES)
    return partial(forked.run, "bench", cwd=tmp_path)


def cases(path: Path) -> dict[str, dict[str, Any]]:
    return {case["id"]: case["contenders"] for case in results.load(path)["cases"]}


def test_a_selection_is_measured_and_written(run: Run, tmp_path: Path) -> None:
    """Tables on stdout, everything in the files, and where those are on stderr."""
    done = run(*BRIEF, "--only", "transform", "--only", "yields", "--contenders", "native,pipe,epoch", "--quiet",
               "--json", "r.json", "--csv", "r.csv")  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.endswith("written: r.json\nwritten: r.csv\n")  # before that, perhaps, that an image is compiled
    assert "5 Dict transform" in done.stdout
    assert "Geometric mean against native" in done.stdout
    data = results.load(tmp_path / "r.json")
    assert set(cases(tmp_path / "r.json")) == {"transform/dict", "yields/5"}
    for figures in cases(tmp_path / "r.json").values():
        assert set(figures) == {"native", "pipe", "epoch"}
        for each in figures.values():
            assert {"median", "mean", "p95", "p99", "min", "max", "stdev", "throughput", "ratio"} <= each.keys()
            assert each["min"] <= each["median"] <= each["p95"] <= each["p99"] <= each["max"]
            assert each["ratio_low"] <= each["ratio"] <= each["ratio_high"]
    assert data["machine"]["cpu"] and data["machine"]["cores"] >= 1
    assert data["versions"]["guest_python"].startswith("3.13")
    assert [phase["name"] for phase in data["timeline"]["phases"]][:3] == ["encode", "guest", "lift"]
    with (tmp_path / "r.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6


def test_two_runs_are_compared(run: Run) -> None:
    """Of the same code: the table has the case, and its interval."""
    run(*BRIEF, "--only", "transform", "--contenders", "native,epoch", "--json", "old.json")
    done = run(*BRIEF, "--only", "transform", "--contenders", "native,epoch", "--compare", "old.json")
    assert done.returncode == 0, done.stderr
    assert "New against old" in done.stdout


def test_an_interrupted_run_leaves_what_it_has(tmp_path: Path) -> None:
    """Ctrl-C after some cases: they are written, and the exit code says so."""
    command = [sys.executable, "-u", "-m", "cloche.cli", "bench", "--seconds", "0.3", "--only", "passthrough",
               "--only", "python", "--contenders", "native,epoch", "--json", "r.json"]  # fmt: skip
    listening = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits "ignore"
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, listening)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("passthrough/str"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted: 1 cases were measured" in errors
    data = results.load(tmp_path / "r.json")
    assert data["interrupted"] is True
    assert [case["id"] for case in data["cases"]] == ["passthrough/int"]


def test_a_users_node_with_arrays(run: Run, tmp_path: Path) -> None:
    """Three sizes: a cost for each byte, phases that make up the call, and advice that was measured."""
    np.save(tmp_path / "in.npy", np.ones(40_000, np.float32))
    done = run("nodes.py:Gain", *BRIEF, "--input", "in.npy", "--contenders", "epoch", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    node = results.load(tmp_path / "r.json")["node"]
    assert (node["name"], node["source"]) == ("Gain", "nodes.py")
    assert [each["bytes_in"] for each in node["inputs"]] == [4096, 16384, 65536]
    for each in node["inputs"]:
        assert list(each["phases"]) == ["encode", "lower", "guest", "lift", "decode", "logs"]
        assert each["bytes_out"] == each["bytes_in"]
        assert 0 < sum(each["phases"].values()) <= each["recorded_total"]
        assert each["native"] is None
    assert node["per_call"] >= 0 and node["per_byte"] >= 0
    assert 0 < node["memory"]["private_bytes"] < node["memory"]["fresh_bytes"] <= node["memory"]["after_bytes"]
    assert [advice["what"] for advice in node["advice"]] == ["batch 16", "lease", "buffer"]
    assert all("not measured" not in advice["text"] for advice in node["advice"])
    assert "where the time goes" in done.stdout


def test_a_users_node_stays_in_the_sandbox(run: Run, tmp_path: Path) -> None:
    """No native contender unless it is asked for; then the results are compared, and this one gives itself away."""
    (tmp_path / "in.jsonl").write_text("1\n2\n")
    done = run("nodes.py:where", *BRIEF, "--input", "in.jsonl", "--contenders", "epoch", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    refused = run("nodes.py:where", *BRIEF, "--input", "in.jsonl", "--contenders", "native,epoch")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "there is no contender 'native' here" in refused.stderr
    asked = run(
        "nodes.py:where", *BRIEF, "--input", "in.jsonl", "--native", "--contenders", "native,epoch", "--json", "r.json"
    )
    assert asked.returncode == 0, asked.stderr
    figures = cases(tmp_path / "r.json")["node/in.jsonl"]
    assert figures["native"]["median"] > 0
    assert figures["epoch"]["error"].startswith("ValueError: refused, for its result differs: [False, False]")


def test_a_users_node_against_native(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a b c"}\n{"text": "d"}\n')
    done = run(
        "nodes.py:words",
        *BRIEF,
        "--input",
        "in.jsonl",
        "--native",
        "--contenders",
        "native,pipe,epoch",
        "--json",
        "r.json",
    )
    assert done.returncode == 0, done.stderr
    figures = cases(tmp_path / "r.json")["node/in.jsonl"]
    assert figures["epoch"]["ratio"] > 0 and figures["pipe"]["ratio"] > 0
    (row,) = results.load(tmp_path / "r.json")["node"]["inputs"]
    assert row["native"] == figures["native"]["median"]


@pytest.mark.parametrize(
    ("entry", "inputs"), [("Sums", ["--input", "in.jsonl"]), ("Ticks", [])], ids=["stream", "source"]
)
def test_streams_and_sources_are_measured_as_a_whole(run: Run, tmp_path: Path, entry: str, inputs: list[str]) -> None:
    """One operation is the stream over all items; nothing of it could be batched."""
    (tmp_path / "in.jsonl").write_text("1\n2\n3\n")
    done = run(f"nodes.py:{entry}", *BRIEF, *inputs, "--native", "--contenders", "native,epoch", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    node = results.load(tmp_path / "r.json")["node"]
    assert [each["bytes_out"] for each in node["inputs"]] == [24]
    assert node["inputs"][0]["native"] > 0
    assert node["advice"] == []


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--only", "nothing"], 1, "no case matches nothing: try one of create, counter"),
        (["--contenders", "native,jvm"], 1, "there is no contender 'jvm' here: give some of native,pipe,epoch"),
        (["--compare", "missing.json"], 1, "missing.json"),
        (["--compare", "nodes.py"], 1, "nodes.py is not JSON"),
        (["--json", "no/folder/r.json"], 1, "--json: there is no folder"),
        (["--input", "nodes.py"], 2, "--input is for a node of yours"),
        (["nodes.py:bad", "--input", "one.jsonl", "--contenders", "epoch"], 1, "ValueError: no"),
        (
            ["nodes.py:words", "--input", "one.jsonl", "--contenders", "process"],
            1,
            f"add {DEFAULT_METERING} to --contenders",
        ),
        (["nodes.py:words", "--input", "missing.jsonl"], 1, "missing.jsonl"),
        (["nodes.py:words", "--input", "empty.jsonl"], 1, "empty.jsonl has no items"),
    ],
    ids=[
        "only",
        "contender",
        "no file",
        "no json",
        "no folder",
        "no node",
        "node fails",
        "no sandbox here",
        "no input",
        "empty",
    ],
)
def test_mistakes_are_said_before_anything_is_measured(
    run: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "one.jsonl").write_text("1\n")
    (tmp_path / "empty.jsonl").write_text("")
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "runtime/cloche" not in done.stderr
    assert done.stdout == ""
