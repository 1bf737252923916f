"""What `pip install` of the wheel gives: a working sandbox, with no compiler and no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]

PROGRAM = """
import cloche, pathlib, sys
assert "site-packages" in cloche.__file__, cloche.__file__
source = cloche.Source("import numpy as np\\ndef f(n): return float(np.arange(n).sum())")
with cloche.Runtime() as runtime, runtime.load(source, "f") as node:
    print(runtime.image.folder.is_relative_to(sys.prefix), node.process(10))
"""


@pytest.mark.thorough
@pytest.mark.timeout(500)
def test_the_wheel_runs_a_node_in_an_empty_environment(tmp_path: Path) -> None:
    """PATH is empty, so there is no compiler; the cache is empty, so the image is the wheel's own."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels = tmp_path / "wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, TREE], check=True, timeout=200
    )
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"cloche_bench/report/{name}" for name in ("page.html.j2", "page.css", "page.js", "figure.css")} <= names
    assert {"cloche/_image/cloche.wasm", "cloche/_image/manifest.json", "cloche_wire/abi.py"} <= names
    assert any(name.endswith("licenses/licenses/cpython.txt") for name in names)
    assert not any(name.startswith(("wasm/", "tests/", "examples/")) for name in names)

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=300)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--only-binary", ":all:", wheel],
        check=True,
        timeout=200,
    )
    env = {
        "PATH": "",
        "HOME": str(tmp_path),
        "CLOCHE_CACHE": str(tmp_path / "cache"),
        "LANG": os.environ.get("LANG", "C"),
    }
    done = subprocess.run(
        [python, "-I", "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True 45.0"  # after what structlog says of compiling the image

    packages = next((tmp_path / "venv" / "lib").iterdir()) / "site-packages"
    installed = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")} - {"pip", "setuptools"}
    needed = {
        "anyio",
        "cbor2",
        "cloche",
        "filelock",
        "idna",
        "platformdirs",
        "structlog",
        "typing_extensions",
        "wasmtime",
    }
    assert installed <= needed  # some are of older versions of Python alone
    size = sum(
        path.stat().st_size for path in packages.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(packages).parts[0].partition("-")[0] not in ("pip", "setuptools")
    )  # fmt: skip
    assert size < 100e6, f"the README says 90 MB, and it is {size / 1e6:.0f}"
    bare = subprocess.run(
        [tmp_path / "venv" / "bin" / "cloche", "--help"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (bare.returncode, bare.stdout) == (1, "")
    assert bare.stderr == "cloche: the command line needs typer: pip install 'cloche[cli]'\n"
