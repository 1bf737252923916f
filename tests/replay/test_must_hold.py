"""A thousand and more recorded calls of each kind of nodes replay with equal digests: elsewhere, under each metering, on another Python."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import cloche
from cloche import Grants, Mount, Source
from cloche.pipeline import Pipeline
from cloche.pipeline.manifest import load as load_manifest
from cloche.replay import Record, Recording
from tests.limits import patient
from tests.loading import module_at
from tests.reference import CASES, NODES
from tests.replay import real_packages

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1800)]

TREE = Path(__file__).parents[2]
EXAMPLES = TREE / "examples"
RATE = 16_000
RECORD = Record(calls=2000)
REPLAYS = """
import json, pathlib, sys, cloche
from cloche.replay import replay
found = {}
with cloche.Runtime(metering=sys.argv[1]) as runtime:
    for path in sorted(pathlib.Path(sys.argv[2]).glob("*.cloche")):
        report = replay(path, runtime=runtime)
        found[path.name] = [report.calls, report.memory, report.digest, "" if report else str(report)]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Kept:
    """The files of one kind of nodes, and what a replay of them must come to."""

    folder: Path
    expected: dict[str, list[Any]]


class Keeper:
    """Saves recordings of one kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._expected: dict[str, list[Any]] = {}

    def add(self, name: str, recording: Recording) -> None:
        recording.save(self._folder / f"{name}.cloche")
        self._expected[f"{name}.cloche"] = [len(recording.calls), True, recording.digest, ""]

    def kept(self) -> Kept:
        assert sum(calls for calls, *_ in self._expected.values()) >= 1000
        return Kept(self._folder, self._expected)


def reference(runtime: cloche.Runtime, keeper: Keeper, _: Path) -> None:
    """The eleven reference nodes: process, streams, their whole life."""
    for number, case in enumerate(CASES):
        with runtime.load(NODES, case.entry, case.params, record=RECORD) as node:
            node.initialize()
            for data, _result in itertools.islice(itertools.cycle(case.calls), 90):
                node.process(data)
            list(node.stream(case.stream[0]))
            node.cleanup()
            keeper.add(f"{number}-{case.entry}", node.recording)


def price(name: str, currency: str) -> float:
    """A service."""
    if name == "plum":
        raise LookupError(name)
    return len(name) * (1.0 if currency == "EUR" else 1.25)


def sound(seconds: float, chunk: int) -> list[np.ndarray]:
    """A voice that comes and goes, in noise."""
    at = np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * 150 * at) * (np.sin(2 * np.pi * at) > 0)
    samples = (0.3 * tone + 0.001 * np.random.default_rng(1).standard_normal(len(at))).astype(np.float32)
    return [samples[start : start + chunk] for start in range(0, len(samples), chunk)]


def examples(runtime: cloche.Runtime, keeper: Keeper, folder: Path) -> None:
    """All examples: sound, files, services, and the pipelines as a whole, whose batches are small enough to be many."""
    rng = np.random.default_rng(2)
    with runtime.load(EXAMPLES / "audio" / "denoise.py", "Denoise", record=RECORD) as node:
        for chunk in sound(8, 800):
            node.process(chunk)
        node.call("flush")
        keeper.add("denoise", node.recording)
    with runtime.load(EXAMPLES / "audio" / "voice.py", "VoiceActivity", record=RECORD) as node:
        assert list(node.stream(sound(20, 1600)))
        keeper.add("voice", node.recording)
    (folder / "models").mkdir()
    np.savez(folder / "models" / "centres.npz", centres=rng.normal(size=(4, 2)), names=["a", "b", "c", "d"])
    grants = Grants(mounts={"/models": folder / "models", "/out": Mount(folder, writable=True)}, scratch_bytes=1 << 20)
    with runtime.load(EXAMPLES / "files" / "nearest.py", "Nearest", grants=grants, record=RECORD) as node:
        assert len(list(node.stream(rng.normal(size=(200, 5, 2))))) == 200
        keeper.add("nearest", node.recording)
    services = Grants(services={"price": price, "discount": lambda total: total / 10})
    with runtime.load(EXAMPLES / "nodes" / "basket.py", "Basket", grants=services, record=RECORD) as node:
        for number in range(200):
            node.process({"apple": number, "plum": 1, "pear": number % 3})
        keeper.add("basket", node.recording)
    row = {"customer": "Ada", "quantity": "3", "price": "12.50", "currency": "USD"}
    rows = [{**row, "customer": f"c{number % 7}", "quantity": str(number % 5)} for number in range(600)]
    for name, items in (("orders.toml", rows), ("speech.json", sound(6, 160))):
        manifest = load_manifest(EXAMPLES / "pipelines" / name)
        specs = [replace(spec, batch=3) for spec in manifest.specs(folder=EXAMPLES / "pipelines")]
        with Pipeline(specs, manifest.edges, runtime=runtime, record=RECORD) as pipeline:
            assert list(pipeline.run(items, dead_letters=lambda _: None))
            for node_id, recording in pipeline.recordings.items():
                keeper.add(f"{name}-{node_id}", recording)


def packages(runtime: cloche.Runtime, keeper: Keeper, _: Path) -> None:
    """Twenty and more packages of others."""
    try:
        wheels = real_packages.wheels()
    except LookupError as error:
        pytest.skip(f"packages cannot be had here: {error}")
    assert len(real_packages.NODES) >= 20
    for names, source in real_packages.NODES.items():
        grants = Grants(packages=[wheels[name] for name in names.split()])
        limits = patient(memory_bytes=1 << 30)
        with runtime.load(Source(source), "use", grants=grants, limits=limits, record=RECORD) as node:
            for number in range(50):
                node.process(number % 11)
            keeper.add(names.split()[0], node.recording)


KINDS: dict[str, Callable[[cloche.Runtime, Keeper, Path], None]] = {
    "reference": reference,
    "examples": examples,
    "packages": packages,
}


@pytest.fixture(scope="module", params=list(KINDS))
def kept(request: pytest.FixtureRequest, runtime: cloche.Runtime, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The recordings of one kind."""
    folder, work = tmp_path_factory.mktemp("kept"), tmp_path_factory.mktemp("work")
    keeper = Keeper(folder)
    KINDS[request.param](runtime, keeper, work)
    return keeper.kept()


def replayed(python: Path | str, metering: str, folder: Path) -> Any:
    """What the replays of all files of a folder have come to, in a process of its own."""
    command = [python, "-c", REPLAYS, metering, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("metering", ["guard", "epoch", "fuel"])
def test_all_replay_in_another_process(kept: Kept, metering: str) -> None:
    assert replayed(sys.executable, metering, kept.folder) == kept.expected


def tool() -> ModuleType:
    """tools/test_pythons.py, which knows where other interpreters are."""
    return module_at(TREE / "tools" / "test_pythons.py", "tool_for_replays")


def test_all_replay_on_another_python(kept: Kept) -> None:
    """The newest one."""
    pythons = tool()
    own = "{}.{}".format(*sys.version_info)
    version = next(version for version in reversed(pythons.VERSIONS) if version != own)
    try:
        python, _, _ = pythons.interpreter(version)
    except pythons.UnavailableError as error:
        pytest.skip(f"Python {version} cannot be had here: {error}")
    assert replayed(pythons.made_environment(version, python), "guard", kept.folder) == kept.expected
