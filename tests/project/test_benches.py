"""The bench scripts run to their end: once, small, untimed. The pytest benches run with the tests anyway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.few(3)
@pytest.mark.image
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["marshal.py", "--quick"], "dict of numbers"),
        pytest.param(["footprint.py", "20"], "AOT load again", marks=pytest.mark.thorough),  # it compiles the image
        (["dirty_pages.py", "--node", "small"], "dirty pages"),
        (["scaling.py", "--quick"], "10 ms    native"),
        (["costs.py", "--quick"], "sets of keys of one hash"),
        (["pipelines.py", "--quick"], "sandboxed, 2,000 items"),
        (["loading.py", "--quick"], "later load / restore"),
        (["sampling.py", "--quick"], "loop "),
        (["parking.py", "20", "--quick"], "sessions a second"),
    ],
    ids=["marshal", "footprint", "dirty pages", "scaling", "costs", "pipelines", "loading", "sampling", "parking"],
)
def test_bench_script_runs(command: list[str], expected: str) -> None:
    """And prints its last row."""
    done = subprocess.run(
        [sys.executable, "-m", f"benches.{command[0].removesuffix('.py')}", *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
