"""The matrix of ``cloche check``, with real nodes in real sandboxes and in real processes: which of them can move?"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.cli._app import app
from cloche.cli._comparing import matrix, page, targets
from cloche.cli._comparing.rows import Row
from cloche.cli._manifest import is_manifest
from cloche.cli._options import NodeOptions
from cloche.cli._report import Report

EXAMPLES = Path(__file__).parents[2] / "examples"
Matrix = Callable[..., dict[str, Row]]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """The rows of a source, by entry."""
    monkeypatch.chdir(tmp_path)

    def rows(text: str, entry: str | None = None, **options: Any) -> dict[str, Row]:
        Path("nodes.py").write_text(text)
        return matrix_of("nodes.py", entry, **options)

    return rows


def matrix_of(
    path: str, entry: str | None = None, *, native: bool = True, items: list[Any] | None = None, params: Any = None,
    grants: cloche.Grants | None = None, examples: int = 12,
) -> dict[str, Row]:  # fmt: skip
    limits = cloche.Limits(deadline_s=10)
    node = NodeOptions(path=path, entry=entry, params=params or {}, grants=grants or cloche.Grants())
    with cloche.Runtime(logger=matrix.Silent(), limits=limits) as runtime:
        if is_manifest(path):
            found = targets.in_manifest(path, node, runtime, limits, Path(path).parent)
        else:
            found = targets.in_source(node, runtime, limits)
        settings = matrix.Settings(native=native, items=items, examples=examples, limits=limits)
        return {target.label.rpartition(":")[2]: matrix.row(target, runtime, settings) for target in found}


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(words, prog_name="cloche")
    assert isinstance(ended.value.code, int)
    return ended.value.code


WORKS = """
import logging, random, time, uuid
import numpy as np
class Same:
    def __init__(self): self.total = 0
    def process(self, data: list[int]) -> int:
        self.total += len(data)
        logging.info("seen %d", self.total, extra={"n": len(data)})
        return self.total
class Changes:
    def process(self, x): return {"at": time.time(), "id": uuid.uuid4().hex, "x": x}
class Seeded:
    def process(self, x: int): return [random.random(), float(np.random.rand()), x]
class Order:
    def process(self, x: int): return list({"alpha", "beta", "gamma", "delta", str(x)})
class Identity:
    def process(self, x: int): return {"id": id(self), "x": x}
class Stream:
    is_streaming = True
    async def process(self, items):
        async for item in items:
            yield item
            yield item
    def flush(self): return "end"
class Source:
    def process(self):
        yield from range(5)
class Two:
    def process(self, a: int, b: str): return b, a
class Needs:
    def __init__(self, mode: str, size: int): self.size = size
    def process(self, x: float): return x * self.size
def helper(x): return x
"""


UNSTABLE = {
    "Same": [], "Changes": ["output['at']", "output['id']"], "Seeded": [], "Order": ["output[...]"], "Identity": ["output['id']"],
    "Stream": [], "Source": [], "Two": [], "Needs": [],
}  # fmt: skip


@pytest.mark.few(4)
@pytest.mark.parametrize("name", UNSTABLE)
def test_a_node_that_can_move(made: Matrix, name: str) -> None:
    """Also one whose results are new ones each time: that they are natively as well is found by running it twice."""
    (row,) = made(WORKS, name).values()
    assert (row.verdict, row.why, row.unstable) == ("works", "", UNSTABLE[name])
    assert row.compared and row.accepted == row.tried
    assert row.tried > 3 or name == "Source"
    assert row.notes == (["made with mode='a', size=4: give others with --param"] if name == "Needs" else [])
    cost = row.cost
    assert cost is not None
    assert cost.ratio is not None
    assert cost.native_memory_bytes is not None
    assert cost.memory_bytes > 1 << 20


DIFFERS = """
import logging, struct, sys
import numpy as np
class Output:
    def process(self, x: int): return {"big": sys.platform if x > 17 else "same"}
class Rounded:
    def process(self, x: float): return float(np.exp(np.tanh(x)) + np.sin(x) ** 3)
class Logs:
    def process(self, x: int): logging.warning("on %s", sys.platform)
class State:
    def process(self, x: int): self.where = sys.platform
class Raises:
    def process(self, x: int):
        if sys.platform != "wasi": raise ValueError(f"not {x}")
class More:
    def process(self, x: int):
        yield x
        if sys.platform == "wasi": yield x
class Bits:
    def process(self, x: int): return struct.calcsize("P")
"""


WHAT = {
    "Output": "output", "Rounded": "output", "Logs": "log", "State": "state", "Raises": "error", "More": "output", "Bits": "output",
}  # fmt: skip


@pytest.mark.few(4)
@pytest.mark.parametrize("name", WHAT)
def test_a_node_that_does_something_else(made: Matrix, name: str) -> None:
    """How is said, with the first input, which is the smallest one where that can be found."""
    (row,) = made(DIFFERS, name, examples=40).values()
    assert row.verdict == "differs"
    first = row.differences[0]
    assert first.what == WHAT[name]
    if name == "Output":
        assert (first.where, first.native, first.sandbox) == ("['big']", "'linux'", "'wasi'")
        assert int(first.input) > 17
    elif name == "Rounded":
        assert re.fullmatch(r"floats are rounded otherwise, by \S+ of a value at most", row.why)
        assert "tolerance" in row.workaround
    elif name == "State":
        assert (first.where, first.native) == ("where", "'linux'")
    elif name == "Raises":
        assert first.native.startswith("ValueError: not ")
    elif name == "Bits":
        assert (first.native, first.sandbox) == ("8", "4")


def test_all_nodes_of_a_source_are_in_the_matrix(made: Matrix) -> None:
    """In their order, and functions are none if there are classes."""
    assert list(made(WORKS, native=False, examples=0)) == [*UNSTABLE]


CLOCKS = """
import asyncio, datetime, logging, sys, time
from datetime import date
from datetime import datetime as moment
class Reads:
    def process(self, x: int):
        return [time.time(), time.time_ns(), time.monotonic(), time.perf_counter_ns(), time.process_time(), time.thread_time()]
class Dates:
    def process(self, x: int):
        logging.info("it is %s", time.strftime("%Y-%m-%d %H:%M", time.gmtime()))
        utc = datetime.timezone.utc
        time.gmtime(None), time.gmtime(0), time.strftime("%Y", time.gmtime(0))
        return [moment.now(utc).isoformat(), datetime.datetime.now(utc), str(date.today()), moment.now(utc).date(), time.gmtime()[:5]]
class Waits:
    async def process(self, x: int):
        await asyncio.sleep(7200)
        time.sleep(3600)
        return moment.now(datetime.timezone.utc).hour
class Other:
    def process(self, x: int): return date.today().year if sys.platform == "wasi" else 1999
"""


@pytest.mark.parametrize("clock", ["frozen", pytest.param("virtual", marks=pytest.mark.thorough)])
def test_both_sides_have_the_clock_that_is_granted(made: Matrix, clock: Any) -> None:
    """Natively as well, so what depends on it is compared. What depends on how often a clock is read is not: Python reads it, too."""
    start = datetime.datetime(2001, 2, 3, 12, tzinfo=datetime.UTC)
    rows = made(CLOCKS, grants=cloche.Grants(clock=cloche.Clock(clock, start=start)), examples=4)
    assert {name: row.verdict for name, row in rows.items()} == {**dict.fromkeys(rows, "works"), "Other": "differs"}
    assert [rows[name].differences for name in ("Reads", "Dates", "Waits")] == [[]] * 3
    one = rows["Other"].differences[0]
    assert (one.native, one.sandbox) == ("1999", "2001")
    if clock == "frozen":
        assert not any(row.unstable for row in rows.values())
    else:
        assert rows["Waits"].unstable == []


def test_without_a_start_both_sides_have_the_same(made: Matrix) -> None:
    rows = made(
        "import time\nclass Now:\n    def process(self, x: int): return time.time()\n",
        grants=cloche.Grants(clock="frozen"),
        examples=2,
    )
    assert (rows["Now"].verdict, rows["Now"].unstable) == ("works", [])


BROKEN = """
import sys
class Threads:
    def process(self, x: int):
        import threading
        out = []
        thread = threading.Thread(target=out.append, args=(x,))
        thread.start()
        thread.join()
        return out
class Program:
    def process(self, x: int):
        import subprocess
        return subprocess.run(["echo", "hi"], capture_output=True).stdout
class Compiled:
    def process(self, x: int):
        import hypothesis
        return x
class Handle:
    def process(self, x: int): return object()
class Exits:
    def process(self, x: int):
        import os
        if sys.platform == "wasi": os._exit(3)
        return x
"""


def test_nodes_that_do_not_work(made: Matrix) -> None:
    rows = made(BROKEN, examples=5)
    assert {row.verdict for row in rows.values()} == {"broken"}
    assert rows["Threads"].why.startswith("fails on each input, such as 0: RuntimeError: ")
    assert "nodes.py:8" in rows["Threads"].at
    assert "processes" in rows["Program"].why
    assert "No module named 'hypothesis'" in rows["Compiled"].why
    assert "--package" in rows["Compiled"].workaround or "packages" in rows["Compiled"].workaround
    assert "cannot encode object" in rows["Handle"].why
    assert "GuestExitError" in rows["Exits"].why


def test_natively_a_node_that_hangs_or_crashes_costs_one_input(made: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is ended, and the others are compared."""
    monkeypatch.setattr(matrix, "_MADE_UP_S", 4.0)  # all of them are waited for
    rows = made(
        "import os, time\n"
        "class Hangs:\n    def process(self, x):\n        if x == -7: time.sleep(1000)\n        return x\n"
        "class Crashes:\n    def process(self, x):\n        if x == 2.5: os.kill(os.getpid(), 9)\n        return x\n",
        examples=6,
    )
    assert {name: (row.verdict, row.tried) for name, row in rows.items()} == {
        "Hangs": ("works", 5),
        "Crashes": ("works", 5),
    }
    assert [row.notes for row in rows.values()] == [
        ["left out: -7, on which it natively takes too long, or crashes"],
        ["left out: 2.5, on which it natively takes too long, or crashes"],
    ]


def test_nothing_runs_outside_of_the_sandbox_unasked(made: Matrix, tmp_path: Path) -> None:
    """Not when nodes are found, not when they are described, not when they are called."""
    mark = str(tmp_path / "mark")
    text = f"try:\n    open({mark!r}, 'w').close()\nexcept OSError:\n    pass\ndef f(x):\n    return x\n"
    assert made(text, native=False)["f"].verdict == "works"
    assert not Path(mark).exists()
    assert made(text, native=True)["f"].verdict == "works"
    assert Path(mark).exists()


def test_made_up_inputs_find_an_empty_folder(made: Matrix, tmp_path: Path) -> None:
    """What a node writes, natively and with inputs that nobody has chosen, does not land among the user's files."""
    rows = made("def f(x: str):\n    open('made', 'w').close()\n    return x\n", examples=3)
    assert rows["f"].verdict == "broken"
    assert not (tmp_path / "made").exists()
    made("def f(x: str):\n    open('made', 'w').close()\n    return x\n", items=["a"])
    assert (tmp_path / "made").exists()


def test_no_inputs_are_made_up_for_a_node_that_can_write_to_a_folder(made: Matrix, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = "def f(x):\n    open('/data/' + str(x), 'w').close()\n"
    grants = cloche.Grants(mounts={"/data": cloche.Mount(tmp_path / "data", writable=True)})
    row = made(text, native=False, grants=grants)["f"]
    assert (row.verdict, row.tried, list((tmp_path / "data").iterdir())) == ("unknown", 0, [])
    assert made(text, native=False, grants=grants, items=["a"])["f"].verdict == "works"


def test_the_sandbox_alone(made: Matrix) -> None:
    """Of an input that was made up nobody knows whether a node should take it; of one that was given everybody does."""
    text = "def f(x): return x['key']['inner']\n"
    assert made(text, native=False)["f"].verdict == "unknown"
    assert made(text, native=False, items=[{"key": {"inner": 1}}])["f"].verdict == "works"
    broken = made(text, native=False, items=[{"key": {"inner": 1}}, {"other": 2}])["f"]
    assert (broken.verdict, broken.failed) == ("broken", 1)
    assert not broken.compared


@pytest.mark.few(1)
@pytest.mark.parametrize("entry", ["Counter", "Accumulator", "Streaming", "Transform", "Chain"])
def test_the_reference_nodes_can_move(entry: str) -> None:
    row = matrix_of(
        str(EXAMPLES / "nodes" / "reference"), entry, params={"operation": "double"} if entry == "Transform" else None
    )[entry]
    assert (row.verdict, row.differences) == ("works", [])
    assert row.accepted > 0


def test_all_modules_of_a_package_are_searched(tmp_path: Path) -> None:
    """Bases of nodes are none."""
    package = tmp_path / "pack"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .first import First\n")
    (package / "base.py").write_text("class Base:\n    def process(self, x): raise NotImplementedError\n")
    (package / "first.py").write_text(
        "from .base import Base\nclass First(Base):\n    def process(self, x): return x\n"
    )
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "second.py").write_text(
        "from ..first import First\nclass Second:\n    def process(self, x: int): return x + 1\n"
    )
    rows = matrix_of(str(package))
    assert {name: (row.verdict, row.path) for name, row in rows.items()} == {
        "First": ("works", str(package)), "Second": ("works", "pack.deep.second"),
    }  # fmt: skip


def test_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Types of installed packages are known, and each node has the limits that its manifest gives it."""
    (tmp_path / "lib14.py").write_text("STEP = 3\nclass Steps:\n    def process(self, x: int): return x * STEP\n")
    (tmp_path / "lib14-1.dist-info").mkdir()
    (tmp_path / "lib14-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lib14\nVersion: 1\n")
    (tmp_path / "lib14-1.dist-info" / "entry_points.txt").write_text("[cloche.nodes]\nsteps = lib14:Steps\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "n.py").write_text(
        "class A:\n    def __init__(self, by): self.by = by\n    def process(self, x: int): return x + self.by\n"
    )
    nodes = [
        {"id": "one", "node_type": "A", "source": "n.py", "params": {"by": 2}, "execution": {"placement": "native"}},
        {"id": "two", "node_type": "NotKnown"},
        {"id": "three", "node_type": "steps"},
        {"id": "four", "node_type": "A", "source": "n.py", "params": {"by": 10**4000}, "limits": {"reply_bytes": 1500}},
    ]
    document = {
        "version": "v1",
        "metadata": {"name": "p"},
        "nodes": nodes,
        "connections": [],
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    rows = matrix_of(str(path))
    assert (rows["one"].verdict, rows["one"].params) == ("works", {"by": "2"})
    assert rows["two"].verdict == "unknown"
    assert "there is no node_type 'NotKnown'" in rows["two"].why
    assert (rows["three"].verdict, rows["three"].path) == ("works", "lib14.Steps")
    assert rows["four"].verdict == "broken"
    assert "reply_bytes" in rows["four"].why


HOSTILE = {
    "grows": "T = int | None\nfor _ in range(5):\n    T = dict[tuple[T, T, T, T], tuple[T, T, T, T]]\ndef f(x: T): return x\n",
    "tampers": "import sys\nsys.modules['inspect'].signature = None\ndef f(x): return x\n",
    "lies": "import builtins\nbuiltins.isinstance = lambda *_: True\ndef f(x): return x\n",
    "exits": "import os\nos._exit(0)\n",
    "hangs": "while True: pass\n",
    "raises": "raise SystemExit\n",
    "many": "".join(f"class C{n}:\n    def process(self, x): pass\n" for n in range(3)) + "__all__ = 5\n",
    "annotated": "class Meta(type):\n    def __getattr__(c, n): raise KeyboardInterrupt\nclass T(metaclass=Meta): pass\ndef f(x: T): return x\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_code_is_described_in_the_sandbox(tmp_path: Path, text: str) -> None:
    """It can be listed wrongly, and nothing worse."""
    path = tmp_path / "nodes.py"
    path.write_text(text)
    limits = cloche.Limits(deadline_s=0.5, load_s=2)
    with cloche.Runtime(logger=matrix.Silent(), limits=limits) as runtime:
        node = NodeOptions(path=str(path), entry=None, params={}, grants=cloche.Grants())
        for target in targets.in_source(node, runtime, limits):
            settings = matrix.Settings(native=False, items=None, examples=3, limits=limits)
            assert matrix.row(target, runtime, settings).verdict in ("works", "broken", "unknown")


def test_the_page_escapes_every_text() -> None:
    """Names, values and messages are a stranger's."""
    evil = "<script>alert(1)</script>\"'&\x1b[31m"
    row = Row(
        node=evil,
        path=evil,
        entry=evil,
        verdict="broken",
        why=evil,
        workaround=evil,
        params={evil: evil},
        unstable=[evil],
        notes=[evil],
    )
    report = Report(
        node=evil,
        imports=[],
        modules=[],
        findings=[],
        unread=[],
        skipped=0,
        load=None,
        entry=None,
        call=None,
        nodes=[row],
    )
    text = page.page(report)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "src=" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Table, JSON, page and exit code."""
    monkeypatch.chdir(tmp_path)
    Path("nodes.py").write_text(
        "import sys\nclass A:\n    def process(self, x: int): return x\nclass B:\n    def process(self, x: int): return sys.platform\n"
    )
    assert run("check", "nodes.py", "--native", "--examples", "4", "--html", "out.html") == 0
    shown = capsys.readouterr()
    assert "nodes.py:A" in shown.out
    assert "differs" in shown.out
    assert "written: out.html" in shown.err
    assert "nodes.py:B" in Path("out.html").read_text()
    assert run("check", "nodes.py", "--native", "--examples", "4", "--json", "--strict") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["load"], [row["verdict"] for row in report["nodes"]]) == (
        False,
        None,
        ["works", "differs"],
    )
    assert set(report["nodes"][1]["differences"][0]) == {
        "what",
        "input",
        "where",
        "how",
        "native",
        "sandbox",
        "smallest",
    }
    Path("in.jsonl").write_text("1\n2\n")
    assert run("check", "nodes.py", "--input", "in.jsonl", "--examples", "4") == 2
    assert run("check", "nodes.py:A", "--input", "in.jsonl", "--native") == 0
    assert "2 given, 2 accepted, both sides" in " ".join(capsys.readouterr().out.split())
