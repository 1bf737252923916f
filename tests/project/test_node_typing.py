"""What type checkers make of code that uses Cloche: they find the types, and let pass what only the host can know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
NODE = """
from cloche_guest import Cancelled, DeadlineExceeded, services
from cloche_guest.services import price


async def total(basket: dict[str, int]) -> int:
    try:
        known: int = sum(count * price(name, currency="EUR") for name, count in basket.items())
        return known + int(await services.extra.acall(basket))
    except (DeadlineExceeded, Cancelled):
        services.log("ended")
        raise
"""
WRONG = """
from cloche_guest import services

services.price.acal("x")
"""


def checked(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "node.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "node.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": os.pathsep.join([str(TREE / "guest"), str(TREE / "runtime")])},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.thorough
def test_a_node_that_calls_services_passes(tmp_path: Path) -> None:
    """Which services there are is the host's choice, so every name passes; a service's own attributes are known."""
    assert checked(tmp_path, NODE).stdout == "Success: no issues found in 1 source file\n"
    assert '"_Service" has no attribute "acal"' in checked(tmp_path, WRONG).stdout


def test_every_package_says_that_it_is_typed() -> None:
    """PEP 561: without the file, type checkers of others ignore the annotations."""
    packages = ("runtime/cloche", "runtime/cloche_bench", "guest/cloche_guest", "guest/cloche_wire")
    assert [package for package in packages if not (TREE / package / "py.typed").exists()] == []
