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
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TREE / "wasm"), str(TREE / "runtime"), str(TREE / "guest")]

import _pytest  # noqa: E402
import iniconfig  # noqa: E402
import packaging  # noqa: E402
import pluggy  # noqa: E402
import pygments  # noqa: E402
import pytest  # noqa: E402
import sortedcontainers  # noqa: E402

import cloche  # noqa: E402
from imagebuild import fetch  # noqa: E402
from imagebuild.inputs import cache_folder  # noqa: E402
from imagebuild.pins import Pin, Pins  # noqa: E402

PARTS = ("_core", "lib", "linalg", "fft", "random", "ma", "matrixlib", "polynomial", "tests", "testing")
HYPOTHESIS = Pin(
    name="hypothesis",
    version="6.148.7",
    source="pypi:hypothesis/hypothesis-6.148.7-py3-none-any.whl",
    sha256="94dbd58ebf259afa3bafb1d3bf5761ac1bde6f1477de494798cbf7960aabbdee",
    group="hosttool",
    licence="MPL-2.0",
)
"""A release in pure Python: later ones are compiled."""
FILES_LEFT_OUT = {
    "f2py/*": "compiles Fortran",
    "distutils/*": "compiles C",
    "typing/*": "runs mypy",
    "_core/tests/examples/*": "compiles C",
    "random/tests/extending*": "compiles C",
    "_core/tests/test_multithreading.py": "starts threads",
    "_core/tests/test_multiprocessing.py": "starts processes",
    "_core/tests/test_cython.py": "compiles C",
    "_core/tests/test_limited_api.py": "compiles C",
    "_core/tests/test_mem_policy.py": "compiles C",
    "_core/tests/test_array_interface.py": "compiles C",
    "_core/tests/test_simd*.py": "tests a C module that the image lacks",
    "tests/test_configtool.py": "starts a program",
}
"""Files that cannot run, and why."""
NO_TESTS = 5
"""pytest's exit code when it has collected none."""
LEFT_OUT: dict[str, str] = {
    "_core/tests/test_numeric.py::TestFloatExceptions::test_floating_exceptions[[]gG[]]": (
        "underflows of longdouble, a software type, are not reported"
    ),
    "fft/tests/test_pocketfft.py::TestFFTThreadSafe::*": "starts threads",
    "linalg/tests/test_linalg.py::test_sdot_bug_8577": "starts a process",
}
"""Tests that fail, as patterns of ``file::test``, and why."""

NODE = """
import sys
from pathlib import Path
from importlib.machinery import FileFinder, SourceFileLoader

class Collected:
    def __init__(self):
        self.outcomes = {}
        self.now = Path("/now/test")

    def pytest_runtest_logstart(self, nodeid, location):
        self.now.write_text(nodeid)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            text = "" if report.outcome == "passed" else str(report.longrepr)[-1500:]
            self.outcomes.setdefault(report.nodeid.split("::", 1)[1], (report.outcome, text))

    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            self.outcomes[report.nodeid.partition("::")[2] or "(the file)"] = (report.outcome, str(report.longrepr)[-1500:])

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
import sys
import types

import hypothesis
import numpy as np
import pytest

# numpy skips what it has not on other WebAssembly: floating-point errors, above all.
np.testing.IS_WASM = False
STAND_IN = np.dtype("f8", metadata={"absent": True})

class Absent(type):
    # What a C module of the tests has, and the image lacks. It can be named, also as a parameter of a test; the test that
    # uses it is skipped.
    running = False

    def __call__(cls, *arguments, **keywords):
        if not Absent.running:
            return cls
        pytest.skip("uses " + cls.__name__ + ", which the image lacks")

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return STAND_IN if cls() and name == "dtype" else cls

def absent(value):
    if isinstance(value, (list, tuple)):
        return any(map(absent, value))
    dtype = getattr(value, "dtype", value) if isinstance(value, np.ndarray) else value
    return isinstance(value, Absent) or isinstance(dtype, np.dtype) and "absent" in (dtype.metadata or ())

def pytest_runtest_setup(item):
    Absent.running = True
    if any(map(absent, getattr(item, "callspec", None) and item.callspec.params.values() or ())):
        pytest.skip("has a parameter that the image lacks")

class AbsentModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or name.startswith("pytest"):
            raise AttributeError(name)
        return Absent(self.__name__.rpartition(".")[2] + "." + name, (), {"__module__": self.__name__})

for name in ("_multiarray_tests", "_umath_tests", "_rational_tests", "_operand_flag_tests", "_struct_ufunc_tests"):
    module = sys.modules["numpy._core." + name] = AbsentModule("numpy._core." + name)
    setattr(np._core, name, module)

def pytest_configure(config):
    hypothesis.settings.register_profile("sandbox", deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.settings.load_profile("sandbox")
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
    """The test runner and what it needs, all of it pure Python: as installed here, but for hypothesis."""
    modules = (pytest, _pytest, pluggy, iniconfig, packaging, pygments, sortedcontainers)
    downloads = cache_folder().resolve() / "downloads"
    fetch.fetch([HYPOTHESIS], downloads)
    with zipfile.ZipFile(downloads / HYPOTHESIS.filename) as wheel:
        wheel.extractall(folder)
    # A part of pytest that is no package.
    (folder / "py.py").write_bytes((Path(pytest.__file__).parents[1] / "py.py").read_bytes())
    return [*(Path(module.__file__ or "").parent for module in modules), folder]


def known(test: str) -> str | None:
    return next((reason for pattern, reason in LEFT_OUT.items() if fnmatch.fnmatchcase(test, pattern)), None)


def outcomes_of(
    runtime: cloche.Runtime, path: str, options: list[str], grants: cloche.Grants, now: Path
) -> dict[str, Any]:
    """Run a file. If a test breaks the node, the test has failed, and the file is run again without it."""
    limits = cloche.Limits(deadline_s=900, load_s=300, memory_bytes=2 << 30)
    broken: dict[str, Any] = {}
    while True:
        now.write_text("")
        try:
            with runtime.load(cloche.Source(NODE), "run", grants=grants, limits=limits) as node:
                status, outcomes = node.process(path, [*options, *(f"--deselect={path}::{test}" for test in broken)])
            if status > 1 and not outcomes:
                outcomes["(the file)"] = (
                    "failed" if status != NO_TESTS else "skipped",
                    f"pytest's exit code is {status}",
                )
            return {**outcomes, **broken}
        except cloche.ClocheError as error:
            test = now.read_text().partition("::")[2] or "(the node)"
            if test in broken or test == "(the node)":
                return {**broken, test: ("failed", str(error)[-1500:])}
            broken[test] = ("failed", str(error)[-1500:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders below numpy/")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--image", help="folder of another image than the checkout's")
    parser.add_argument("-v", action="store_true", help="show why tests fail")
    options = parser.parse_args()
    total: dict[str, int] = {}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="numpy-tests-") as name, cloche.Runtime(options.image) as runtime:
        folder, alone = Path(name) / "numpy", Path(name) / "alone"
        now = Path(name) / "now"
        alone.mkdir()
        now.mkdir()
        unpack(folder)
        grants = cloche.Grants(
            packages=packages(alone),
            mounts={"/numpy": folder, "/now": cloche.Mount(now, writable=True)},
            scratch_bytes=256 << 20,
        )
        for path in files(folder, options.paths):
            outcomes = outcomes_of(runtime, path, ["-k", options.k] if options.k else [], grants, now / "test")
            counts: dict[str, int] = {}
            for test, (outcome, text) in outcomes.items():
                reason = known(f"{path}::{test}")
                if outcome == "failed" and reason:
                    outcome = "left out"
                elif outcome == "skipped" and options.v:
                    print(f"skipped {path}::{test} {text}")
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
