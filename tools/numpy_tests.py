"""numpy's own tests, run by pytest inside the sandbox: the tests of the pinned sources, in the image.

    python tools/numpy_tests.py                       # all files of PARTS
    python tools/numpy_tests.py ma/tests/test_core.py # some, by their path below numpy/
    python tools/numpy_tests.py -k cumsum             # by name

A file runs in a node of its own. What fails is compared with LEFT_OUT, where every test that is known to fail has its
reason: one that fails and is not there is an error.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TREE / "wasm"), str(TREE / "runtime"), str(TREE / "guest")]

import _pytest  # noqa: E402
import hypothesis  # noqa: E402
import iniconfig  # noqa: E402
import packaging  # noqa: E402
import pluggy  # noqa: E402
import pygments  # noqa: E402
import pytest  # noqa: E402
import sortedcontainers  # noqa: E402

import cloche  # noqa: E402
from imagebuild import fetch  # noqa: E402
from imagebuild.inputs import cache_folder  # noqa: E402
from imagebuild.pins import Pins  # noqa: E402

PARTS = ("_core", "lib", "linalg", "fft", "random", "ma", "matrixlib", "polynomial", "tests", "testing")
FILES_LEFT_OUT = {
    "f2py/*": "compiles Fortran",
    "distutils/*": "compiles C",
    "typing/*": "runs mypy",
    "_core/tests/examples/*": "compiles C",
    "random/tests/extending*": "compiles C",
}
"""Files that cannot run, and why."""
LEFT_OUT: dict[str, str] = {}
"""Tests that fail, as patterns of ``file::test``, and why."""

NODE = """
import sys
from importlib.machinery import FileFinder, SourceFileLoader

class Collected:
    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            text = "" if report.outcome == "passed" else str(report.longrepr)[-1500:]
            self.outcomes.setdefault(report.nodeid.split("::", 1)[1], (report.outcome, text))

    def pytest_collectreport(self, report):
        if report.failed:
            self.outcomes["(the file)"] = ("failed", str(report.longrepr)[-1500:])

def run(path, options):
    import pytest
    for name in ("_core", "lib", "linalg", "fft", "random", "ma", "matrixlib", "polynomial", "testing"):
        module = sys.modules.get("numpy." + name) or __import__("numpy." + name, fromlist=["x"])
        module.__path__ = [*module.__path__, "/numpy/" + name]
    sys.path_hooks.append(FileFinder.path_hook((SourceFileLoader, [".py"])))
    sys.path_importer_cache.clear()
    collected = Collected()
    plugins = "cacheprovider faulthandler unraisableexception threadexception logging terminal".split()
    arguments = ["/numpy/" + path, "--import-mode=importlib", "--assert=plain", "--capture=sys", "-c", "/numpy/pytest.ini",
                 "--rootdir=/numpy", *(f"-pno:{name}" for name in plugins), *options]
    status = pytest.main(arguments, plugins=[collected])
    return int(status), collected.outcomes
"""
CONFTEST = """
import numpy as np
import pytest

def pytest_configure(config):
    for name in ("slow", "leaks_references", "xfail", "parametrize", "thread_unsafe", "valgrind_error"):
        config.addinivalue_line("markers", name + ": as in numpy/conftest.py")

@pytest.fixture(scope="function", autouse=True)
def add_np(doctest_namespace):
    doctest_namespace["np"] = np

@pytest.fixture(autouse=True)
def quiet():
    with np.errstate():
        yield
"""


def unpack(folder: Path) -> None:
    """The tests of the pinned numpy, without the modules that they test."""
    pin = Pins.load(TREE / "wasm/pins.toml")["numpy"]
    downloads = cache_folder().resolve() / "downloads"
    fetch.fetch([pin], downloads)
    with tarfile.open(downloads / pin.filename) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and name.startswith("numpy/") and "/tests/" in name:
                file = tar.extractfile(member)
                assert file is not None
                path = folder / name.removeprefix("numpy/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read())
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings =\n    ignore::pytest.PytestUnknownMarkWarning\n", "utf-8"
    )


def files(folder: Path, wanted: Iterable[str]) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for part in PARTS for path in (folder / part).rglob("test_*.py"))
    chosen = [name for name in names if not wanted or any(fnmatch.fnmatch(name, f"{want}*") for want in wanted)]
    return [name for name in chosen if not any(fnmatch.fnmatch(name, pattern) for pattern in FILES_LEFT_OUT)]


def packages(folder: Path) -> list[Path]:
    """The test runner and what it needs, as installed here: all of it is pure Python."""
    modules = (pytest, _pytest, pluggy, iniconfig, packaging, pygments, hypothesis, sortedcontainers)
    (folder / "py.py").write_bytes(
        (Path(pytest.__file__).parents[1] / "py.py").read_bytes()
    )  # pytest's, but no package
    return [*(Path(module.__file__ or "").parent for module in modules), folder]


def known(test: str) -> str | None:
    return next((reason for pattern, reason in LEFT_OUT.items() if fnmatch.fnmatchcase(test, pattern)), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders below numpy/")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("-v", action="store_true", help="show why tests fail")
    options = parser.parse_args()
    total: dict[str, int] = {}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="numpy-tests-") as name, cloche.Runtime() as runtime:
        folder, alone = Path(name) / "numpy", Path(name) / "alone"
        alone.mkdir()
        unpack(folder)
        grants = cloche.Grants(packages=packages(alone), mounts={"/numpy": folder}, scratch_bytes=256 << 20)
        limits = cloche.Limits(deadline_s=1800, load_s=300, memory_bytes=2 << 30)
        for path in files(folder, options.paths):
            outcomes: dict[str, Any] = {}
            try:
                with runtime.load(cloche.Source(NODE), "run", grants=grants, limits=limits) as node:
                    _, outcomes = node.process(path, ["-k", options.k] if options.k else [])
            except cloche.ClocheError as error:
                outcomes = {"(the node)": ("failed", str(error)[-1500:])}
            counts: dict[str, int] = {}
            for test, (outcome, text) in outcomes.items():
                reason = known(f"{path}::{test}")
                if outcome == "failed" and reason:
                    outcome = "left out"
                elif outcome == "failed":
                    wrong += 1
                    print(
                        f"FAILED {path}::{test}" + (f"\n{text}" if options.v else f" {text.strip().splitlines()[-1:]}")
                    )
                counts[outcome] = counts.get(outcome, 0) + 1
                total[outcome] = total.get(outcome, 0) + 1
            print(path, counts, flush=True)
    print("in all:", total)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
