"""``cloche top``: the table of what processes say, and the command against a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cloche.cli import _top
from tests.forked import Forking

NODE: dict[str, Any] = {
    "id": 1, "name": "Denoise", "busy": False, "calls": 1000, "seconds": 0.5, "p50_s": None, "p99_s": 0.5, "memory_bytes": 32 << 20,
    "private_bytes": None, "breaks": 0, "restarts": 0, "where": [],
}  # fmt: skip


def answer(*nodes: dict[str, Any], at: float = 10.0) -> dict[str, Any]:
    return {
        "version": 1,
        "pid": 7,
        "program": "app.py",
        "at": at,
        "runtimes": [{"nodes": [{**NODE, **one} for one in nodes]}],
    }


def test_rates_are_between_two_looks() -> None:
    """Nodes at work come first, and then those that have used most; names are shown as what they are."""
    before = _top._counts([answer({"calls": 500}, {"id": 2, "calls": 5}, at=8.0)])
    busy = {
        "id": 3,
        "busy": True,
        "name": "\x1b[1m",
        "where": [["a.py", 1, "f"], ["b\n.py", 5, "g"]],
        "private_bytes": 1 << 20,
    }
    rows = _top.rows([answer({}, {"id": 2, "calls": 6, "seconds": 9}, busy)], before)
    assert [row[1:4] for row in rows] == [
        ("\\x1b[1m", "1,000", "-"),
        ("Denoise", "6", "0.5"),
        ("Denoise", "1,000", "250"),
    ]
    assert rows[0] == ("7 app.py", "\\x1b[1m", "1,000", "-", "-", "500.0 ms", "32.0 MiB", "1.0 MiB", "0", "g b\\n.py:5")
    assert rows[1][7] == "-" and rows[1][-1] == "at rest"


SHOWN = """
import os, sys, cloche
with cloche.Runtime() as runtime, runtime.load(cloche.Source("def f(x): return x")) as node:
    node.process(1)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_another_process_is_shown(tmp_path: Path, forked: Forking) -> None:
    """As a table, and as JSON; when it has ended, that is said."""
    tmp_path.chmod(0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "CLOCHE_TOP": "1"}

    top = partial(forked.run, "top", cwd=tmp_path, env=environment)
    done = top()
    assert done.returncode == 1 and "CLOCHE_TOP=1" in done.stderr
    with subprocess.Popen(
        [sys.executable, "-c", SHOWN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shown:
        assert shown.stdout is not None
        pid = shown.stdout.readline().strip()
        done = top("--interval", "0.1")
        assert done.returncode == 0, done.stderr
        head, row = done.stdout.splitlines()
        assert head.split()[:3] == ["process", "node", "calls"]
        assert row.startswith(f"{pid} ") and row.endswith("at rest")
        found = json.loads(top(pid, "--json").stdout)
        assert found["version"] == 1
        (process,) = found["processes"]
        (node,) = process["runtimes"][0]["nodes"]
        assert (process["pid"], node["name"], node["calls"]) == (int(pid), "f", 2)
        shown.communicate("", timeout=60)
    done = top(pid)
    assert done.returncode == 1 and f"process {pid} does not show its nodes" in done.stderr
