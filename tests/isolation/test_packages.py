"""Granted packages in worker processes: the same files, and compiled code that no worker with nodes in it has made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cloche
from cloche._wasm.checkout import cache_folder
from tests.wheels import write_wheel

pytestmark = pytest.mark.isolation("process", reason="what workers add")

SOURCE = cloche.Source(
    "import lib, pkgutil, os\n"
    "def f(x): return os.path.exists(lib.__spec__.cached), lib.g(x), pkgutil.get_data('lib', 'a.txt')\n"
)


def test_a_package_is_compiled_in_a_worker_of_its_own(
    runtime: cloche.Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends with it. What it has made is found by the next load, in any runtime, and a snapshot has the files."""
    (tmp_path / "cache").mkdir()
    for part in {"aot", "native"} & set(os.listdir(cache_folder())):  # for the worker that compiles
        (tmp_path / "cache" / part).symlink_to(cache_folder() / part)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    members = {"lib/__init__.py": "def g(x): return x + 1\n", "lib/a.txt": "a"}
    wheel = write_wheel(tmp_path / "lib-1-py3-none-any.whl", members)
    before = {worker.pid for worker in runtime.workers}
    grants = cloche.Grants(packages=[wheel])
    with runtime.load(SOURCE, "f", grants=grants) as node:
        assert node.process(1) == (True, 2, b"a")
        assert {worker.pid for worker in runtime.workers} == before
        [kept] = (tmp_path / "cache" / "packages").glob("*.tree")
        data = node.snapshot().to_bytes()
    written = kept.read_bytes()
    wheel_bytes = wheel.read_bytes()
    wheel.unlink()
    with runtime.restore(cloche.Snapshot.from_bytes(data)) as later:
        assert later.process(5) == (True, 6, b"a")
    wheel.write_bytes(wheel_bytes)
    with runtime.load(SOURCE, "f", grants=grants) as node:
        assert node.process(1) == (True, 2, b"a")
    assert kept.read_bytes() == written
