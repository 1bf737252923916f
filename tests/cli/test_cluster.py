"""``cloche run --on``: a pipeline on a cluster, and what is shown of its machines."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from cloche import Source
from cloche.cli._cluster import Chosen, chosen, opened
from cloche.cli._console import InputError
from cloche.cli._options import Address
from cloche.cli._serve import Server
from cloche.cli._watch import Watch, cells, host_cells
from cloche.cluster import LocalCluster
from cloche.pipeline import NodeSpec, Pipeline

from .test_serve import ask

TOTAL = "class Total:\n    def __init__(self): self.n = 0\n    def process(self, x):\n        self.n += x\n        return self.n\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("local-cluster", Chosen("local-cluster")),
        ("local-cluster:12", Chosen("local-cluster", hosts=12)),
        ("dask", Chosen("dask")),
        ("dask://10.0.0.1:8786", Chosen("dask", "10.0.0.1:8786")),
        ("dask://[::1]:8786", Chosen("dask", "[::1]:8786")),
        ("ray", Chosen("ray")),
        ("ray://head.example:6379", Chosen("ray", "head.example:6379")),
    ],
)
def test_a_text_names_a_cluster(text: str, found: Chosen) -> None:
    """None stands for no cluster."""
    assert chosen(text) == found
    assert chosen(None) is None


@pytest.mark.parametrize(
    "text",
    ["", "local-cluster:", "local-cluster:0", "local-cluster:-1", "local-cluster:99999", "dask://", "dask://h", "ray://h:x", "ray://h:1/p",
     "dask://a b:1", "spark://h:1", "local-cluster:2\n", "dask://h:１"],
)  # fmt: skip
def test_what_names_none_is_refused(text: str) -> None:
    """With the forms that there are."""
    with pytest.raises(typer.BadParameter, match=r"is no cluster: give one of local-cluster\[:N\], dask"):
        chosen(text)


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_is_a_port(port: str) -> None:
    """It has sixteen bits."""
    with pytest.raises(typer.BadParameter, match=f"{port} is no port: give one from 1 to 65535"):
        chosen(f"dask://h:{port}")


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "cloche.dask", raising=False)
    with (
        pytest.raises(InputError, match=r"--on dask: cloche.dask needs .*: pip install 'cloche\[dask\]'"),
        opened(Chosen("dask", "h:1")),
    ):
        pass


def cloche_run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloche.cli", "run", "p.json", "--input", "in.jsonl", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline of two nodes that are apart, one of which asks for a host, and its input."""
    (tmp_path / "nodes.py").write_text(TOTAL + "def same(x):\n    return x\n")
    nodes: list[dict[str, Any]] = [
        {"id": "total", "node_type": "Total", "source": "nodes.py", "host": "local-2"},
        {"id": "same", "node_type": "same", "source": "nodes.py", "workers": 2},
    ]
    edges = [{"from": "total", "to": "same"}]
    (tmp_path / "p.json").write_text(
        json.dumps({"version": "v1", "metadata": {"name": "p"}, "nodes": nodes, "connections": edges})
    )
    (tmp_path / "in.jsonl").write_text("1\n" * 100)
    return tmp_path


@pytest.mark.image
def test_a_pipeline_runs_on_a_cluster(folder: Path) -> None:
    """With the outputs of a run here; a node is where its manifest wants it, and the summary says so."""
    done = cloche_run(folder, "--on", "local-cluster:2")
    assert (done.returncode, done.stdout.split()) == (0, [str(number) for number in range(1, 101)]), done.stderr
    assert "local-cluster, 2 hosts on 2 machines" in done.stderr
    total = next(line.split() for line in done.stderr.splitlines() if line.startswith("total"))
    assert total[:4] == ["total", "wasm", "local-2", "100"]


def test_recording_is_for_nodes_that_run_here(folder: Path) -> None:
    """An option without effect would be believed."""
    done = cloche_run(folder, "--on", "local-cluster:2", "--record", "calls")
    assert done.returncode == 2
    assert "--record records nodes that run here: leave it out, or --on" in " ".join(
        done.stderr.replace("│", " ").split()
    )
    assert not (folder / "calls").exists()


@pytest.mark.image
def test_the_live_view_shows_machines_and_what_has_happened() -> None:
    """In the terminal's tables and on the page: each host with its chains, where each node is, and a chain that was moved."""
    nodes = [NodeSpec(Source(TOTAL), id="total"), NodeSpec(Source(TOTAL), id="again", workers=2)]
    with LocalCluster(2, balance_s=None) as cluster, Pipeline(nodes) as pipeline:
        cluster.open()
        watch = Watch(pipeline, cluster)
        with Server(Address("127.0.0.1", 0), watch, pipeline.graph, "p") as server:
            assert json.loads(ask(server)[2])["events"] == []
            stop = threading.Event()
            outputs = pipeline.run(iter(stop.is_set, True), on=cluster)
            next(outputs)
            taker = threading.Thread(target=lambda: list(outputs))
            taker.start()
            cluster.drain("local-1", timeout_s=200)
            until = time.monotonic() + 100
            found = json.loads(ask(server)[2])
            while not found["events"] or any(node["host"] != "local-2" for node in found["nodes"]):  # a moment later
                assert time.monotonic() < until
                found = json.loads(ask(server)[2])
            first, second = found["hosts"]
            assert (first["name"], first["chains"], first["is_draining"]) == ("local-1", [], True)
            assert (second["machine"], sorted(second["chains"])) == ("local-2", ["again.0", "again.1", "total"])
            assert second["memory_bytes"] >= 0 and second["load"] >= 0
            assert "goes on at local-2, no longer at local-1" in found["events"][0]["text"]
            assert "<th>host</th>" in ask(server, "/")[2].decode()
            assert cells(watch.look()[0], watch.heads)[:3] == ("total", "wasm", "local-2")
            assert host_cells(watch.hosts()[0])[0::4] == ("local-1", "- (draining)")
            stop.set()
            taker.join(100)
