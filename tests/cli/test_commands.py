"""The command line as a user sees it: exit codes, what is on stdout, what is on stderr, what is on disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from cloche_wire import abi
from tests.forked import Forking

Run = Callable[..., "subprocess.CompletedProcess[str]"]

NODES = '''
import logging

class Gain:
    """Multiplies, and counts what went through."""
    def __init__(self, factor=2.0):
        self.factor, self.count = factor, 0
    def process(self, samples):
        self.count += 1
        return samples * self.factor
    def flush(self):
        logging.info("flushed after %d", self.count)

class Level:
    def process(self, item):
        samples, metadata = item
        yield {"rate": metadata["sample_rate"], "count": len(samples)}

class Total:
    def __init__(self):
        self.total = 0
    def process(self, item):
        if "bad" in item:
            raise ValueError("no bad items")
        self.total += item["value"]
    def flush(self):
        return {"total": self.total}

class Ticks:
    is_source = True
    def process(self):
        yield from range(3)

class Endless:
    def process(self, item):
        while True:
            pass

class Made:
    def process(self, data=None):
        return "made" if data is None else data
    def double(self, item=1):
        return 2 * item

def shout(item):
    print("shouting")
    return item.upper()
'''


@pytest.fixture
def run(tmp_path: Path, forked: Forking) -> Run:
    """Run ``cloche`` with some arguments in an empty folder that has nodes.py."""
    (tmp_path / "nodes.py").write_text(NODES)
    return partial(forked.run, cwd=tmp_path)


def test_sound_goes_in_and_comes_out(run: Run, tmp_path: Path) -> None:
    """The main job: every sample passes the node, in chunks, and the summary says what it took."""
    samples = np.linspace(-0.4, 0.4, 10_000)
    soundfile.write(tmp_path / "in.wav", samples, 8000)
    done = run("run", "nodes.py:Gain", "--input", "in.wav", "--output", "out.wav", "--chunk", "3000")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    result, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 8000
    assert np.allclose(result, samples * 2, atol=1e-4)
    assert "items in, out: 4, 4" in done.stderr
    assert "flushed after 4" in done.stderr
    assert "times faster than real time" in done.stderr


def test_arrays_go_in_and_come_out(run: Run, tmp_path: Path) -> None:
    array = np.arange(30, dtype=np.int32).reshape(10, 3)
    np.save(tmp_path / "in.npy", array)
    done = run(
        "run", "nodes.py:Gain", "--input", "in.npy", "--output", "out.npy", "--chunk", "4", "--param", "factor=3"
    )
    assert done.returncode == 0, done.stderr
    result = np.load(tmp_path / "out.npy")
    assert result.dtype == np.int32
    assert np.array_equal(result, array * 3)


def test_the_item_can_carry_the_sample_rate(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(100), 8000)
    done = run("run", "nodes.py:Level", "--input", "in.wav", "--chunk", "60", "--as", "tuple", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"rate": 8000, "count": 60},
        {"rate": 8000, "count": 40},
    ]


def test_json_lines_through_pipes(run: Run) -> None:
    """None is no output, and flush gives the total."""
    done = run("run", "nodes.py:Total", "--input", "-", stdin='{"value": 1}\n{"value": 2.5}\n')
    assert (done.returncode, done.stdout) == (0, '{"total": 3.5}\n'), done.stderr


def test_a_source_needs_no_input(run: Run) -> None:
    done = run("run", "nodes.py:Ticks")
    assert (done.returncode, done.stdout) == (0, "0\n1\n2\n"), done.stderr


def test_a_function_is_a_node_and_its_prints_are_logs(run: Run) -> None:
    """What a node prints does not mix with its results."""
    done = run("run", "nodes.py:shout", "--input", "-", stdin='"hi"\n')
    assert (done.returncode, done.stdout) == (0, '"HI"\n'), done.stderr
    assert "shouting" in done.stderr


def test_a_failing_node_shows_its_traceback_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    """Its own file and line, and how far it got."""
    stdin = '{"value": 1}\n{"bad": 1}\n'
    done = run("run", "nodes.py:Total", "--input", "-", "--output", "out.jsonl", stdin=stdin)
    assert done.returncode == 1
    line = NODES.splitlines().index('            raise ValueError("no bad items")') + 1
    assert f'File "nodes.py", line {line}, in process\n    raise ValueError("no bad items")' in done.stderr
    assert "ValueError: no bad items" in done.stderr
    assert "stopped after 1 items: out.jsonl was not written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["nodes.py"]


def test_a_node_runs_in_a_process_of_its_own(run: Run) -> None:
    """And its deadline is the same."""
    done = run("run", "nodes.py:Total", "--input", "-", "--isolation", "process", stdin='{"value": 1}\n{"value": 2}\n')
    assert done.returncode == 0, done.stderr
    assert done.stdout
    late = run("run", "nodes.py:Endless", "--input", "-", "--deadline", "0.2", "--isolation", "process", stdin="1\n")
    assert late.returncode == 1
    assert "deadline_s" in late.stderr


@pytest.mark.few(1)
@pytest.mark.parametrize("metering", ["epoch", "guard"])
def test_a_deadline_stops_an_endless_node(run: Run, metering: str) -> None:
    done = run("run", "nodes.py:Endless", "--input", "-", "--deadline", "0.2", "--metering", metering, stdin="1\n")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "deadline_s" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nodes.py:Nothing"], 1, "Nothing"),
        (["missing.py"], 1, "no such file"),
        (["nodes.py:Gain", "--input", "missing.wav"], 1, "no such file: missing.wav"),
        (["nodes.py:Gain", "--param", "factor"], 2, "is not KEY=JSON"),
        (["nodes.py:Gain", "--memory", "lots"], 2, "is no size"),
        (["nodes.py:Gain", "--param", "other=1"], 1, "other"),
    ],
    ids=["entry", "file", "input", "param", "memory", "init"],
)
def test_a_mistake_is_said_without_a_traceback_of_ours(run: Run, arguments: list[str], code: int, message: str) -> None:
    """The message names what was wrong; nobody has to read our frames."""
    done = run("run", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "runtime/cloche" not in done.stderr
    assert done.stdout == ""


def test_a_node_reads_a_mount_and_writes_another(run: Run, tmp_path: Path) -> None:
    """What the node writes is on the host afterwards; its /tmp is not."""
    for name in ("models", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "weights.txt").write_text("3")
    (tmp_path / "files.py").write_text(
        "def f(x):\n"
        "    with open('/tmp/x', 'w') as scratch, open('/out/y', 'w') as kept:\n"
        "        print(x, file=scratch), print(2 * x, file=kept)\n"
        "    return int(open('/models/weights.txt').read()) * int(open('/tmp/x').read())\n"
    )
    mounts = "--mount", "models:/models", "--mount", "out:/out:rw", "--scratch", "1M"
    done = run("run", "files.py:f", "--input", "-", *mounts, "--input-format", "jsonl", stdin="5\n")
    assert (done.returncode, done.stdout) == (0, "15\n"), done.stderr
    assert (tmp_path / "out" / "y").read_text() == "10\n"


def test_check_describes_a_node(run: Run) -> None:
    done = run("check", "nodes.py:Gain", "--examples", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "imports:        logging",
        "entry:          Gain (class)",
        "methods:        flush, process",
    ]


def test_check_names_what_is_missing_and_what_to_do(run: Run, tmp_path: Path) -> None:
    """Missing modules are found before the node is run, those that it can do without apart."""
    (tmp_path / "needy.py").write_text(
        "try:\n    import numba\nexcept ImportError:\n    numba = None\n\n"
        "def f(x):\n    import requests\n    return x\n"
    )
    done = run("check", "needy.py:f")
    assert done.returncode == 1
    assert "missing, optional: numba (needy.py:2): ModuleNotFoundError" in done.stdout
    assert "requests (needy.py:7): ModuleNotFoundError" in done.stdout
    assert "The sandbox has no network, though. Let the host fetch" in done.stdout
    assert "entry:          f (function)" in done.stdout


def test_check_of_what_does_not_load(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    done = run("check", "broken.py:f")
    assert done.returncode == 1
    assert "does not load:  SyntaxError" in done.stdout


def test_a_node_cannot_forge_the_check(run: Run, tmp_path: Path) -> None:
    """An import that lies about itself is imported in the sandbox only, and its lies are refused or shown escaped."""
    package = tmp_path / "evil"
    package.mkdir()
    (package / "__init__.py").write_text("from evil.core import f\n")
    (package / "core.py").write_text("raise ImportError('\\x1b[2Jgone')\n")
    done = run("check", "evil:f")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_image_info_is_the_manifest(run: Run) -> None:
    done = run("image", "info")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert manifest["abi"] == abi.VERSION
    assert len(manifest["image"]["sha256"]) == 64


def test_image_verify_reads_every_byte(run: Run) -> None:
    done = run("image", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "as in its manifest" in done.stdout


def test_image_verify_finds_an_altered_byte(run: Run, tmp_path: Path) -> None:
    """The digest in the manifest is compared with the file, wherever it lies."""
    from cloche._wasm import image

    found = image.find()
    (tmp_path / "manifest.json").write_text(json.dumps(found.manifest))
    content = bytearray(found.wasm.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "cloche.wasm").write_bytes(content)
    done = run("image", "verify", "--image", ".")
    assert done.returncode == 1
    assert "was altered" in done.stderr


def test_image_build_and_prepare_have_nothing_left_to_do(run: Run) -> None:
    """The second run starts at once, and says nothing if asked to be quiet."""
    for verb in ("build", "prepare"):
        done = run("image", verb, "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_targets_of_prepare_are_those_of_the_library() -> None:
    """They are spelt out in the command's module, which is fast to import."""
    from cloche import image
    from cloche.cli._app import Target

    assert get_args(Target) == image.TARGETS


def test_prune_says_what_it_frees(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache of the test's own."""
    package = tmp_path / "cache" / "packages" / f"{'0' * 64}.tree"
    package.parent.mkdir(parents=True)
    package.write_bytes(bytes(2_000_000))
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    assert run("image", "prune").stdout == "freed 0.0 MB in 0 places\n"
    dry = run("image", "prune", "--unused-days", "0", "--dry-run")
    assert dry.stdout.splitlines()[0].split() == ["2.0", "MB", "package", "0", "days", str(package)]
    assert dry.stdout.splitlines()[1] == "would free 2.0 MB in 1 places"
    assert run("image", "prune", "--unused-days", "0", "--quiet").stdout == "freed 2.0 MB in 1 places\n"
    assert not package.exists()


def test_a_run_can_be_profiled(run: Run, tmp_path: Path) -> None:
    """A table for the eye on stderr, a trace for speedscope and Perfetto on disk; the results are what they were."""
    done = run("run", "nodes.py:Ticks", "--profile", "profile.json")
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2"]), done.stderr
    assert "Ticks.process  nodes.py:31" in done.stderr
    assert "guest " in done.stderr and "profile.json" in done.stderr
    names = {event["name"] for event in json.loads((tmp_path / "profile.json").read_text())["traceEvents"]}
    assert {"Ticks.process (nodes.py:31)", "encode", "guest", "decode"} <= names


def test_a_run_can_be_sampled(run: Run, tmp_path: Path) -> None:
    """As a page that shows itself; the node breaks off in the middle of what it does all the time."""
    items = '{"value": 1}\n'
    done = run(
        *("run", "nodes.py:Endless", "--input", "-", "--input-format", "jsonl", "--deadline", "0.5"),
        *("--profile", "p.html", "--sample"),
        stdin=items,
    )
    assert done.returncode == 1
    assert "Endless.process  nodes.py:" in done.stderr and "samples by line: nodes.py:" in done.stderr
    assert "open it in a browser" in done.stderr
    assert "Endless.process" in (tmp_path / "p.html").read_text()


def test_a_run_that_breaks_leaves_its_profile(run: Run, tmp_path: Path) -> None:
    """The call that never ended is the one to look at."""
    items = '{"value": 1}\n'
    done = run(
        "run",
        "nodes.py:Endless",
        "--input",
        "-",
        "--input-format",
        "jsonl",
        "--deadline",
        "0.5",
        "--profile",
        "p.json",
        stdin=items,
    )
    assert done.returncode == 1
    events = json.loads((tmp_path / "p.json").read_text())["traceEvents"]
    assert "STREAM_FEED (DeadlineError)" in [event["name"] for event in events]


def test_run_without_an_input(run: Run) -> None:
    """A node that can be called without an argument makes an output by itself."""
    done = run("run", "nodes.py:Made", "--quiet")
    assert (done.returncode, done.stdout) == (0, '"made"\n')


def test_run_calls_a_method(run: Run) -> None:
    """For each item, or once without an input. What is no method is an error that lists the methods."""
    done = run(
        "run",
        "nodes.py:Made",
        "--method",
        "double",
        "--input",
        "-",
        "--input-format",
        "jsonl",
        "--quiet",
        stdin="3\n4\n",
    )
    assert (done.returncode, done.stdout) == (0, "6\n8\n")
    assert run("run", "nodes.py:Made", "--method", "double", "--quiet").stdout == "2\n"
    done = run("run", "nodes.py:Made", "--method", "triple", "--quiet")
    assert done.returncode == 1
    assert "Made has no method 'triple': it has double, process" in done.stderr
    done = run("run", "nodes.py:Made", "--method", "_x", "--quiet")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
