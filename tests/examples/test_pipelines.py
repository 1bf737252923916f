"""The examples of pipelines: each node alone does what it says, and the pipelines do what their nodes do one after the other."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.forked import Forking
from tests.loading import module_at

TREE = Path(__file__).parents[2]
FOLDER = TREE / "examples" / "pipelines"
RATE = 16_000


def module(name: str) -> ModuleType:
    """One of the files of nodes, natively."""
    return module_at(FOLDER / f"{name}.py", f"example_{name}")


Run = Callable[..., tuple[list[Any], str]]


@pytest.fixture
def run(tmp_path: Path, forked: Forking) -> Run:
    """Outputs of a pipeline, and what was said."""

    def call(*arguments: str | Path) -> tuple[list[Any], str]:
        done = forked.run("run", *map(str, arguments), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return call


def test_the_table_gives_a_total_for_each_customer(run: Run, tmp_path: Path) -> None:
    """As computed here from the same file; the rows that make no sense are told."""
    letters = tmp_path / "refused.jsonl"
    found, said = run(FOLDER / "orders.toml", "--input", FOLDER / "orders.csv", "--dead-letters", letters)
    rates = {"EUR": 1.0, "USD": 0.86, "GBP": 1.15}
    wanted: dict[str, list[float]] = {}
    refused = []
    with (FOLDER / "orders.csv").open() as file:
        for number, row in enumerate(csv.DictReader(file)):
            if not row["quantity"].isdigit() or row["currency"] not in rates:
                refused.append(number)
                continue
            cost = round(int(row["quantity"]) * float(row["price"]) * rates[row["currency"]], 2)
            wanted.setdefault(row["customer"], []).append(cost)
    assert {one["customer"]: (one["orders"], one["euros"]) for one in found} == {
        customer: (len(costs), round(sum(costs), 2)) for customer, costs in wanted.items()
    }
    assert [one["euros"] for one in found] == sorted((one["euros"] for one in found), reverse=True)
    assert sorted(json.loads(line)["item"] for line in letters.read_text().splitlines()) == refused == [3, 7, 9]
    assert "dead letters:  3" in said


def talk(bursts: list[tuple[float, float, float]], seconds: float) -> np.ndarray:
    """Quiet noise, with a buzz of some pitch at the given times."""
    samples = 0.0005 * np.random.default_rng(5).standard_normal(int(seconds * RATE))
    for start, end, pitch in bursts:
        at = np.arange(int(start * RATE), int(end * RATE))
        samples[at] += sum(0.1 / n * np.sin(2 * np.pi * pitch * n * at / RATE) for n in range(1, 6))
    return samples.astype(np.float32)


BURSTS = [(1.0, 2.2, 120.0), (3.0, 3.8, 220.0)]


@pytest.mark.parametrize("chunk", [1000, 4096])
def test_speech_is_found_and_described(run: Run, tmp_path: Path, chunk: int) -> None:
    """Where it is, and its pitch, whatever the size of the chunks."""
    soundfile.write(tmp_path / "in.wav", talk(BURSTS, 5.0), RATE)
    found, said = run(FOLDER / "speech.json", "--input", "in.wav", "--allow-native", "resample", "--chunk", str(chunk))
    assert [(one["start"], one["end"]) for one in found] == [
        (pytest.approx(start, abs=0.05), pytest.approx(end, abs=0.05)) for start, end, _ in BURSTS
    ]
    assert [one["pitch_hz"] for one in found] == [pytest.approx(pitch, rel=0.03) for _, _, pitch in BURSTS]
    assert "resample  native" in said and "features  wasm" in said


def test_the_pipeline_gives_what_the_nodes_give(run: Run, tmp_path: Path) -> None:
    """One after the other in native Python: threads, sandboxes and batches change nothing."""
    soundfile.write(tmp_path / "in.wav", talk(BURSTS, 5.0), RATE, subtype="FLOAT")
    found, _ = run(FOLDER / "speech.json", "--input", "in.wav", "--allow-native", "all", "--quiet")
    speech, resample = module("speech"), module("resample")
    nodes = [resample.Resample(RATE, 8000), speech.Gate(8000), speech.Voice(8000), speech.Features(8000)]
    values: list[Any] = list(soundfile.blocks(tmp_path / "in.wav", 4096, dtype="float32"))
    for node in nodes:
        made: list[Any] = []
        for value in values:
            made += several(node.process(value))
        values = made + several(node.flush() if hasattr(node, "flush") else None)
    assert len(found) == len(values) == 2
    for one, other in zip(found, values, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def several(result: Any) -> list[Any]:
    """The outputs that a result stands for."""
    if result is None:
        return []
    return list(result) if hasattr(result, "__next__") else [result]


def test_the_resampler_keeps_time_and_tone() -> None:
    """A tone stays the same tone, and in its place; what the new rate cannot hold is removed."""
    times = np.arange(16_000) / 16_000
    node = module("resample").Resample(16_000, 8_000)
    made = np.concatenate(
        [*(node.process(np.sin(2 * np.pi * 440 * times[at : at + 999])) for at in range(0, 16_000, 999)), node.flush()]
    )
    wanted = np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    assert len(made) == 8_000
    assert np.abs(made[200:-200] - wanted[200:-200]).max() < 0.01
    high = module("resample").Resample(16_000, 8_000).process(np.sin(2 * np.pi * 6000 * times))
    assert np.abs(high[200:-200]).max() < 0.01


def test_the_demo_runs_these_pipelines() -> None:
    """With the files as they are in a clone, and with no right but the one that the resampler needs."""
    lines = (TREE / "scripts" / "demo").read_text().replace("\\\n", " ").splitlines()
    runs = [shlex.split(line) for line in lines if "examples/pipelines/" in line and line.startswith(".venv")]
    assert [words[2] for words in runs] == ["examples/pipelines/speech.json", "examples/pipelines/orders.toml"]
    assert runs[0][-2:] == ["--allow-native", "resample"]
    assert "--allow-native" not in runs[1]
    for words in runs:
        for word in words:
            assert not word.startswith("examples/") or (TREE / word).exists()
