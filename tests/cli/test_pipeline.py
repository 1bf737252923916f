"""``cloche plan`` and ``cloche run`` with a pipeline, as a user sees them: what runs where, what is written, what is left after an end."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche.pipeline
from cloche.cli import _manifest
from cloche.cli._app import app
from cloche.cli._journal import Journal
from tests.forked import Forking

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NODES = """
import logging
import os


def parse(text):
    return int(text)


def double(x):
    return 2 * x


def three():
    yield from range(3)


def where(x):
    return os.getpid()


class Total:
    def __init__(self):
        self.total = 0

    def process(self, x):
        self.total += x
        logging.info("total %d", self.total)
        return self.total

    def flush(self):
        return {"total": self.total}


class Marked:
    def __init__(self, path, session_id=None):
        self.path, self.session_id = path, session_id

    def process(self, x):
        return [x, self.session_id]

    def cleanup(self):
        with open(self.path, "a") as file:
            file.write("cleaned up\\n")


def loud(x):
    print("a word")
    return x


def wait(x):
    while True:
        pass
"""


def manifest(*nodes: dict[str, Any], **more: Any) -> str:
    """A chain of nodes as a document. A node without an id has that of its type."""
    made = [{"id": node["node_type"], "source": "nodes.py", **node} for node in nodes]
    pairs = [{"from": one["id"], "to": other["id"]} for one, other in itertools.pairwise(made)]
    return json.dumps({"version": "v1", "metadata": {"name": "p"}, "nodes": made, "connections": pairs, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands run: with nodes.py, ten numbers, and a pipeline of them."""
    (tmp_path / "nodes.py").write_text(NODES)
    (tmp_path / "ten.jsonl").write_text("".join(f'"{number}"\n' for number in range(10)))
    (tmp_path / "p.json").write_text(manifest({"node_type": "parse"}, {"node_type": "Total"}))
    return tmp_path


@pytest.fixture
def run(folder: Path, forked: Forking) -> Run:
    return lambda line, stdin="": forked.run(*line.split(), cwd=folder, stdin=stdin)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


TOTALS = [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, {"total": 45}]


def test_a_plan_says_where_each_node_runs(run: Run, folder: Path) -> None:
    """Before anything runs, with the reason."""
    needs = {"gpu": {"type": "any", "required": False}, "memory_gb": 0.5}
    (folder / "p.json").write_text(
        manifest(
            {"node_type": "parse", "capabilities": needs},
            {"node_type": "double", "execution": {"placement": "inline", "reason": "a small step"}},
        )
    )
    done = run("plan p.json --allow-native double")
    assert done.returncode == 0, done.stderr
    for word in ("parse", "wasm", "the default", "0.5 GiB", "GPU any (can do without)", "inline", "a small step"):
        assert word in done.stdout
    plan = json.loads(run("plan p.json --allow-native all --json").stdout)
    assert plan["ok"] is True
    assert plan["nodes"][1] == {
        "id": "double", "node_type": "double", "capabilities": {}, "asked": "inline", "placed": "inline",
        "why": "a small step", "warnings": [], "problem": None,
    }  # fmt: skip
    assert plan["connections"] == [{"from": "parse", "to": "double"}]


def test_a_plan_that_is_refused_says_why_of_each_node(run: Run, folder: Path) -> None:
    """All of them at once, with what would do."""
    big = {"memory_gb": 9}
    (folder / "p.json").write_text(
        manifest({"node_type": "parse", "capabilities": big}, {"node_type": "double", "runtime_hint": "cpython"})
    )
    done = run("plan p.json --json")
    plan = json.loads(done.stdout)
    assert (done.returncode, plan["ok"]) == (1, False)
    assert [node["placed"] for node in plan["nodes"]] == [None, None]
    assert [node["asked"] for node in plan["nodes"]] == ["wasm", "native"]
    assert "needs 9 GiB" in plan["nodes"][0]["problem"]
    assert "--allow-native double" in plan["nodes"][1]["problem"]
    shown = run("plan p.json")
    assert shown.returncode == 1
    assert shown.stdout.count("refused") == 2
    ran = run("run p.json --input ten.jsonl --output out.jsonl")
    assert ran.returncode == 1
    assert "needs 9 GiB" in ran.stderr
    assert not (folder / "out.jsonl").exists()


def test_a_fallback_needs_both_the_manifest_and_the_caller(run: Run, folder: Path) -> None:
    """And is told as a warning."""
    execution = {"placement": "native", "fallback": ["wasm"]}
    (folder / "p.json").write_text(manifest({"node_type": "double", "execution": execution}))
    assert run("plan p.json").returncode == 1
    done = run("plan p.json --fallback wasm --json")
    (node,) = json.loads(done.stdout)["nodes"]
    assert (done.returncode, node["asked"], node["placed"]) == (0, "native", "wasm")
    assert "runs as 'wasm', not as 'native'" in node["warnings"][0]
    assert run("plan p.json --fallback moon").returncode == 2


@pytest.mark.image
def test_a_pipeline_runs_natively_only_if_it_may(run: Run, folder: Path) -> None:
    """The flag decides, not the document: the node's process number tells where it was."""
    native = {"node_type": "where", "execution": {"placement": "native"}}
    (folder / "p.json").write_text(manifest(native))
    refused = run("run p.json --input - --quiet", "1\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--allow-native where" in refused.stderr
    done = run("run p.json --input - --quiet --allow-native where", "1\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1


@pytest.mark.image
@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["p.yaml", "p.toml", "p.json"])
def test_items_go_in_and_outputs_come_out(run: Run, folder: Path, name: str) -> None:
    """Through pipes and files, in each notation, with a table of the nodes at the end."""
    if name == "p.yaml":
        (folder / name).write_text(
            "version: v1\nmetadata: {name: p}\nnodes:\n- {id: parse, node_type: parse, source: nodes.py}\n"
            "- {id: Total, node_type: Total, source: nodes.py}\nconnections:\n- {from: parse, to: Total}\n"
        )
    elif name == "p.toml":
        (folder / name).write_text(
            'version = "v1"\nconnections = [{from = "parse", to = "Total"}]\nmetadata.name = "p"\n'
            '[[nodes]]\nid = "parse"\nnode_type = "parse"\nsource = "nodes.py"\n'
            '[[nodes]]\nid = "Total"\nnode_type = "Total"\nsource = "nodes.py"\n'
        )
    done = run(f"run {name} --input ten.jsonl")
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == TOTALS
    assert "items in, out: 10, 11" in done.stderr
    assert "total 45" in done.stderr and "pipeline=p" in done.stderr and "item=9" in done.stderr
    assert "node   place" in done.stderr
    piped = run(f"run {name} --input - --quiet --output out.jsonl", (folder / "ten.jsonl").read_text())
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "", "")
    assert lines((folder / "out.jsonl").read_text()) == TOTALS


@pytest.mark.image
def test_a_node_that_fails_is_named(run: Run, folder: Path) -> None:
    """With the item, its digest and the node's own traceback; a whole file is written or none."""
    (folder / "ten.jsonl").write_text('"0"\n"1"\n"two"\n"3"\n')
    (folder / "out.jsonl").write_text("old\n")
    done = run("run p.json --input ten.jsonl --output out.jsonl")
    assert done.returncode == 1
    assert 'File "nodes.py", line 7, in parse' in done.stderr
    assert "ValueError: invalid literal for int() with base 10: 'two'" in done.stderr
    assert "error: node 'parse' failed on item 2 (SHA-256 " in done.stderr
    assert (folder / "out.jsonl").read_text() == "old\n"
    native = json.loads((folder / "p.json").read_text())
    native["nodes"][0]["execution"] = {"placement": "native"}
    (folder / "p.json").write_text(json.dumps(native))
    done = run("run p.json --input ten.jsonl --quiet --allow-native all")
    assert done.returncode == 1
    assert ", in parse" in done.stderr
    assert lines(done.stdout) == [0, 1]


@pytest.mark.image
def test_a_recorded_run_leaves_files_that_replay(run: Run, folder: Path) -> None:
    """Of each dead letter, of each sandboxed node at the end, and of the failure that ends a run."""
    nodes = {"node_type": "parse", "on_error": "dead_letter"}, {"node_type": "Total"}
    (folder / "p.json").write_text(manifest(*nodes))
    done = run("run p.json --input - --quiet --dead-letters bad.jsonl --record kept", '"1"\n"two"\n"3"\n')
    assert done.returncode == 0, done.stderr
    letter = json.loads((folder / "bad.jsonl").read_text())
    assert letter["recording"].startswith("kept/parse-") and (folder / letter["recording"]).exists()
    last = {"parse-last.cloche", "Total-last.cloche"}
    assert {path.name for path in (folder / "kept").iterdir()} == {Path(letter["recording"]).name, *last}
    done = run(f"replay {letter['recording']}")
    assert done.returncode == 0 and "NodeRaisedError" in done.stdout, done.stdout
    (folder / "p.json").write_text(manifest({"node_type": "parse"}, {"node_type": "Total"}))
    done = run("run p.json --input - --quiet --record failed", '"1"\n"two"\n')
    (file,) = (folder / "failed").iterdir()
    assert done.returncode == 1 and f"recorded: failed/{file.name}" in done.stderr
    done = run("run p.json --input - --quiet --record apart --isolation process", '"1"\n"two"\n')
    (file,) = (folder / "apart").iterdir()
    assert done.returncode == 1 and f"recorded: apart/{file.name}" in done.stderr
    assert run(f"replay apart/{file.name}").returncode == 0


def test_dead_letters_have_the_item_and_the_reason(run: Run, folder: Path) -> None:
    (folder / "p.json").write_text(manifest({"node_type": "parse", "on_error": "dead_letter"}, {"node_type": "Total"}))
    done = run("run p.json --input - --quiet --dead-letters bad.jsonl", '"1"\n"\\u001b[31mtwo"\n"3"\n')
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == [1, 4, {"total": 4}]
    (letter,) = lines((folder / "bad.jsonl").read_text())
    assert (letter["node"], letter["item"], letter["value"]) == ("parse", 1, "\x1b[31mtwo")
    assert len(letter["digest"]) == 16
    assert letter["digest"] in done.stderr, "the log says which item it was"
    assert "ValueError" in letter["error"]
    assert "in parse" in letter["traceback"]


@pytest.mark.image
@pytest.mark.few(1)
@pytest.mark.parametrize("most", [3, 4, 9])
def test_an_interrupted_run_goes_on(run: Run, folder: Path, most: int) -> None:
    """The output file is that of an undisturbed run, wherever the interruption came; dead letters as well."""
    (folder / "p.json").write_text(manifest({"node_type": "parse", "on_error": "dead_letter"}, {"node_type": "Total"}))
    items = ["1", "x", "3", "4", "y", "6", "7", "8", "9", "z"]
    whole = "".join(f'"{item}"\n' for item in items)
    (folder / "whole.jsonl").write_text(whole)
    options = "--quiet --output out.jsonl --checkpoint at --checkpoint-every 2 --dead-letters bad.jsonl"
    # the input breaks off after some items, in the middle of a line
    (folder / "part.jsonl").write_text("".join(whole.splitlines(keepends=True)[:most]) + '"br')
    stopped = run(f"run p.json --input part.jsonl {options}")
    assert stopped.returncode == 1
    assert "go on with --resume at" in stopped.stderr
    with (folder / "out.jsonl").open("a") as file:  # what a killed process may have left
        file.write("12")
    with (folder / "bad.jsonl").open("a") as file:
        file.write('{"item": 9}\n{"it')
    again = run(f"run p.json --input whole.jsonl {options} --resume at")
    assert again.returncode == 0, again.stderr
    resumed = (
        (folder / "out.jsonl").read_text(),
        [(letter["item"], letter["value"]) for letter in lines((folder / "bad.jsonl").read_text())],
    )
    assert resumed == (
        "".join(f"{json.dumps(total)}\n" for total in [1, 4, 8, 14, 21, 29, 38, {"total": 38}]),
        [(1, "x"), (4, "y"), (9, "z")],
    )


@pytest.mark.image
def test_a_run_goes_on_only_where_it_stood(run: Run, folder: Path) -> None:
    """Another output, another cut of the input, another pipeline or a damaged file would give outputs that nobody asked for."""
    options = "--quiet --input ten.jsonl --checkpoint at --checkpoint-every 4"
    assert run(f"run p.json {options} --output out.jsonl").returncode == 0
    assert "is there already" in run(f"run p.json {options} --output out.jsonl").stderr
    again = run(f"run p.json {options} --output out.jsonl --resume at")
    assert again.returncode == 0, again.stderr
    assert lines((folder / "out.jsonl").read_text()) == TOTALS

    (folder / "other.jsonl").write_text("0\n7\n3\n6\n10\n15\n21\n28\n36\n")
    before = (folder / "other.jsonl").read_text()
    assert "does not begin with" in run(f"run p.json {options} --output other.jsonl --resume at").stderr
    assert (folder / "other.jsonl").read_text() == before
    assert "is missing" in run(f"run p.json {options} --output none.jsonl --resume at").stderr
    (folder / "few.jsonl").write_text('"1"\n')
    few = run("run p.json --quiet --input few.jsonl --output out.jsonl --resume at")
    assert "the input has 1 items, and 8 have been worked on" in few.stderr
    (folder / "p.json").write_text(manifest({"node_type": "parse"}, {"node_type": "double"}))
    assert "pipeline with other nodes" in run(f"run p.json {options} --output out.jsonl --resume at").stderr
    (folder / "at").write_bytes((folder / "at").read_bytes()[:-7])
    assert "is damaged" in run(f"run p.json {options} --output out.jsonl --resume at").stderr


@pytest.mark.image
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_ends_a_run_with_every_cleanup(folder: Path, number: signal.Signals) -> None:
    """While it waits for its input, which never comes; a sandboxed node in an endless loop is interrupted too."""
    native = {"node_type": "Marked", "params": {"path": "marks"}, "execution": {"placement": "native"}}
    (folder / "p.json").write_text(manifest(native, {"node_type": "wait", "limits": {"deadline_s": 300}}))
    with subprocess.Popen(
        [sys.executable, "-m", "cloche.cli", *"run p.json --input - --allow-native all --serve 0".split()],
        cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stderr is not None
        url = process.stderr.readline().split()[-1]
        process.stdin.write("1\n2\n")
        process.stdin.flush()
        until_the_node(url, "Marked", 2)
        process.send_signal(number)
        rest = process.stderr.read()
        process.stdin.close()
        assert process.wait(60) == (130 if number == signal.SIGINT else -number), rest
    assert (folder / "marks").read_text() == "cleaned up\n"


@pytest.mark.image
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_the_nodes_while_they_work(folder: Path, width: int) -> None:
    """Drawn anew, in as many columns as there is room for; the records of the nodes and the summary stay. A name is no markup."""
    (folder / "p.json").write_text(
        manifest({"node_type": "parse"}, {"node_type": "Total"}, metadata={"name": "[red]p\x1b[31m"})
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(
            sys.executable,
            [sys.executable, "-m", "cloche.cli", *"run p.json --input ten.jsonl --output out.jsonl".split()],
            {**os.environ, "COLUMNS": str(width), "TERM": "xterm"},
        )
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 1 << 16)
        except OSError:  # what a closed terminal gives on Linux
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, seen.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r", "")
    drawn = text.split("items in, out")[0]
    assert "[red]p\\x1b[31m" in drawn
    assert "\x1b[31m" not in seen.decode().replace("[info", "")
    head = next(line for line in drawn.splitlines() if "rejected" in line)
    assert ("retries" in head) == (width >= 100)
    assert "…" not in drawn
    assert "parse" in drawn and "total 45" in text
    assert "items in, out: 10, 11" in text


def until_the_node(url: str, node: str, items: int) -> None:
    """Wait until it has worked on so many items, by the run's own page."""
    import urllib.request

    end = time.monotonic() + 100
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{url}status.json", timeout=20) as answer:
            status = json.load(answer)
        if any(one["id"] == node and one["items"] >= items for one in status["nodes"]):
            return
    raise AssertionError(f"{node} has not come to {items} items")


@pytest.mark.image
@pytest.mark.parametrize("place", ["native", "process", "inline"])
def test_what_a_native_node_prints_is_no_result(run: Run, folder: Path, place: str) -> None:
    """Programs read stdout."""
    (folder / "p.json").write_text(
        manifest({"node_type": "double"}, {"node_type": "loud", "execution": {"placement": place}})
    )
    done = run("run p.json --input - --quiet --allow-native all", "1\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "a word\n")


@pytest.mark.image
def test_a_reader_that_has_enough_ends_the_run_silently(folder: Path) -> None:
    """As in ``cloche run ... | head``: the exit code is that of a program that SIGPIPE has ended."""
    (folder / "p.json").write_text(manifest({"node_type": "double"}))
    (folder / "many.jsonl").write_text("1\n" * 100_000)
    with subprocess.Popen(
        [sys.executable, "-m", "cloche.cli", *"run p.json --input many.jsonl".split()],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "2\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@pytest.mark.image
def test_a_killed_run_goes_on(folder: Path, run: Run) -> None:
    """SIGKILL leaves no time for anything; the input is a pipe, which is given again from its beginning."""
    line = "run p.json --input - --output out.jsonl --checkpoint at --checkpoint-every 4"
    items = (folder / "ten.jsonl").read_text() * 10
    with subprocess.Popen(
        [sys.executable, "-m", "cloche.cli", *f"{line} --serve 0".split()],
        cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stderr is not None
        url = process.stderr.readline().split()[-1]
        process.stdin.write(items[: 4 * 47])
        process.stdin.flush()
        until_the_node(url, "Total", 47)
        while not (folder / "at").exists():
            until_the_node(url, "Total", 47)
        process.kill()
    done = run(f"{line} --resume at --quiet", items)
    assert done.returncode == 0, done.stderr
    totals = [*itertools.accumulate([*range(10)] * 10), {"total": 450}]
    assert lines((folder / "out.jsonl").read_text()) == totals


@pytest.mark.image
def test_a_pipeline_that_begins_with_a_source_needs_no_input(run: Run, folder: Path) -> None:
    (folder / "p.json").write_text(manifest({"node_type": "three"}, {"node_type": "double"}))
    done = run("run p.json --quiet")
    assert (done.returncode, lines(done.stdout)) == (0, [0, 2, 4]), done.stderr
    (folder / "p.json").write_text(manifest({"node_type": "double"}))
    done = run("run p.json --quiet")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'double' takes items: give them to run (on the command line: --input FILE" in done.stderr


@pytest.mark.image
def test_a_session_is_told(run: Run, folder: Path) -> None:
    native = {"node_type": "Marked", "params": {"path": "marks"}, "execution": {"placement": "process"}}
    (folder / "p.json").write_text(manifest(native))
    done = run("run p.json --input - --quiet --allow-native all --session s1", "7\n")
    assert (done.returncode, done.stdout) == (0, '[7, "s1"]\n'), done.stderr


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("run p.json --input ten.jsonl --param a=1", "--param is for one node"),
        ("run p.json --input ten.jsonl --deadline 3", "--deadline is for one node"),
        ("run p.json --input ten.jsonl --profile x.json", "--profile is for one node"),
        ("run p.json --input ten.jsonl --sample", "--sample is for one node"),
        ("run nodes.py:double --input ten.jsonl --sample", "--sample is for a profile: give --profile"),
        ("run nodes.py:double --input ten.jsonl --allow-native all", "--allow-native is for a pipeline"),
        ("run nodes.py:double --input ten.jsonl --checkpoint at", "--checkpoint is for a pipeline"),
        ("run p.json --input ten.jsonl --checkpoint-every 3", "--checkpoint-every is for --checkpoint"),
        ("run p.json --input ten.jsonl --checkpoint at", "not stdout"),
        ("run p.json --input ten.jsonl --checkpoint at --output o.npy", "not a file of the format npy"),
        ("run p.json --input ten.jsonl --checkpoint at --output ten.jsonl", "is also the input"),
        ("run p.json --input ten.jsonl --dead-letters ten.jsonl", "is also the input"),
        ("run p.json --input ten.jsonl --output p.json", "is also the pipeline's manifest"),
        ("run p.json --input ten.jsonl --dead-letters nodes.py", "is also the source of node parse"),
        ("run p.json --input ten.jsonl --output none/o.jsonl", "there is no folder"),
        ("run p.json --input ten.jsonl --resume none --output o.jsonl", "none"),
        ("run p.json --input ten.jsonl --allow-native pares", "there is no node 'pares' in p.json"),
        ("run p.json --input ten.jsonl --serve here", "is not PORT or HOST:PORT"),
        ("run p.json --input none.jsonl", "none.jsonl"),
        ("run none.json --input ten.jsonl", "none.json"),
        ("plan broken.json", "broken.json:1: nodes[0].id"),
        ("plan gone.json", "node 'gone'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_once(
    folder: Path, line: str, why: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a node starts, and nothing is overwritten."""
    (folder / "broken.json").write_text(manifest({"node_type": "double", "id": "a b"}))
    (folder / "gone.json").write_text(manifest({"node_type": "gone", "source": "gone.py"}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        app(line.split(), prog_name="cloche")
    assert ended.value.code in (1, 2)
    assert why in " ".join(capfd.readouterr().err.replace("│", " ").split())
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("missing", "document"), [("pydantic", "p.json"), ("yaml", "p.yaml")])
def test_without_a_package_one_line_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str, document: str
) -> None:
    """The library alone brings neither."""
    (folder / "p.yaml").write_text("version: v1")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "cloche.pipeline.manifest", raising=False)
    monkeypatch.delattr(cloche.pipeline, "manifest", raising=False)
    with pytest.raises(cloche.ClocheError, match=r"needs .*: pip install 'cloche\[pipeline\]'$"):
        _manifest.decided(str(folder / document), (), ())


def test_a_journal_knows_its_beginning(tmp_path: Path) -> None:
    """The digest is of all bytes, also of those that were there before."""
    path = str(tmp_path / "out")
    journal = Journal(path)
    journal.write(b"one\n")
    kept = journal.sync()
    journal.write(b"two\n")
    journal.close()
    again = Journal(path, kept)
    again.write(b"three\n")
    found = again.sync()
    again.close()
    assert (tmp_path / "out").read_bytes() == b"one\nthree\n"
    third = Journal(path, found)
    assert third.sync() == found
    third.close()
