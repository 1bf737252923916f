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
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

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
    "_pyinstaller/*": "starts PyInstaller",
    "tests/test_configtool.py": "starts a program",
    "_core/src/*": "tests of other projects, which run compilers",
}
"""Files that cannot run, and why."""
LIMITS = cloche.Limits(deadline_s=1800, load_s=300, memory_bytes=2 << 30)
LACKS = "which the image lacks"
"""What CONFTEST says of a test that needs a C module of numpy's tests."""
NO_TESTS = 5
"""pytest's exit code when it has collected none."""
THREAD, PROCESS = "starts threads", "starts a process"
LOADER = "numpy is frozen into the image, so that its modules' __loader__ is a class"
LEFT_OUT: dict[str, str] = {
    "_core/tests/test_argparse.py::test_thread_safe_argparse_cache": THREAD,
    "_core/tests/test_cpu_features.py::TestEnvPrivation::*": PROCESS,
    "_core/tests/test_dtype.py::TestFromCTypes::test_size_t": "C's size_t has 32 bits, np.uintp 64",
    "_core/tests/test_dtype.py::TestFromCTypes::test_void_pointer": "pointers have 32 bits, np.uintp 64",
    "_core/tests/test_dtype.py::TestMonsterType::test_deep_subarray_dtype_dealloc": THREAD,
    "_core/tests/test_getlimits.py::TestFinfo::test_regression_gh32947": PROCESS,
    "_core/tests/test_multiarray.py::TestIO::test_fromfile_failed_fdopen_closes_dup[[]*": (
        "the C library's fdopen does not check the descriptor; numpy leaves it out with musl, whose fdopen it is"
    ),
    "_core/tests/test_multiarray.py::TestResize::test_check_reference_module_scope": PROCESS,
    "_core/tests/test_nditer.py::test_buffered_cast_error_paths_unraisable": PROCESS,
    "_core/tests/test_nditer.py::test_debug_print": "redirects descriptor 1",
    "_core/tests/test_numeric.py::TestFloatExceptions::test_floating_exceptions[[][gG]]": (
        "underflows of longdouble, a software type, are not reported"
    ),
    "fft/tests/test_pocketfft.py::TestFFTThreadSafe::*": THREAD,
    "lib/tests/test_io.py::TestSavezLoad::test_savez_filename_clashes": THREAD,
    "linalg/tests/test_linalg.py::test_sdot_bug_8577": PROCESS,
    "random/tests/test_generator_mt19937.py::TestThread::*": THREAD,
    "random/tests/test_random.py::TestThread::*": THREAD,
    "random/tests/test_randomstate.py::TestThread::*": THREAD,
    "tests/test_lazyloading.py::test_lazy_load": PROCESS,
    "tests/test_numpy_config.py::TestNumPyConfigs::test_dict_mode": "the image does not tell on what machine it was built",
    "tests/test_public_api.py::test_NPY_NO_EXPORT": "loads a C library",
    "tests/test_public_api.py::test___module___attribute": LOADER,
    "tests/test_public_api.py::test_api_importable": "the modules of f2py are missing",
    "tests/test_public_api.py::test_import_lazy_import[[]*": PROCESS,
    "tests/test_public_api.py::test_numpy_fft": LOADER,
    "tests/test_public_api.py::test_numpy_linalg": LOADER,
    "tests/test_public_api.py::test_numpy_namespace": LOADER,
    "tests/test_reloading.py::test_full_reimport": PROCESS,
    "tests/test_scripts.py::test_pep338": PROCESS,
}
"""Tests that fail, as patterns of ``file::test``, and why."""
COUNTS: dict[str, dict[str, int]] = {
    "_core": {"passed": 35725, "skipped": 208, "needs a C module": 517, "left out": 15},
    "lib": {"passed": 4787, "skipped": 169, "needs a C module": 1, "left out": 1},
    "linalg": {"passed": 518, "skipped": 3, "left out": 1},
    "fft": {"passed": 155, "left out": 4},
    "random": {"passed": 1347, "skipped": 11, "left out": 9},
    "ma": {"passed": 4386, "skipped": 3},
    "matrixlib": {"passed": 209},
    "polynomial": {"passed": 610},
    "tests": {"passed": 44, "skipped": 3, "needs a C module": 6, "left out": 11},
    "testing": {"passed": 150},
}
"""How many tests each folder has, by what becomes of them (docs/reference/limitations.md has the same figures)."""

NODE = """
import sys
from pathlib import Path
from importlib.machinery import FileFinder, SourceFileLoader

import hypothesis
import pytest

PLUGINS = "cacheprovider faulthandler unraisableexception threadexception logging terminal"
OPTIONS = ["--import-mode=importlib", "--assert=plain", "--capture=sys", "-c", "/numpy/pytest.ini", "--rootdir=/numpy",
           "--basetemp=/tmp/pytest", "-otmp_path_retention_policy=none", *(f"-pno:{name}" for name in PLUGINS.split())]

class Collected:
    def __init__(self):
        self.outcomes = {}
        self.now = Path("/now/test")

    def pytest_runtest_logstart(self, nodeid, location):
        self.now.write_text(nodeid)

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.split("::", 1)[1]
        if report.outcome == "failed" or report.when == "call" or report.outcome == "skipped":
            if self.outcomes.get(name, ("passed",))[0] == "passed":
                text = "" if report.outcome == "passed" else str(report.longrepr)[-1500:]
                self.outcomes[name] = report.outcome, text

    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            self.outcomes[report.nodeid.partition("::")[2] or "(the file)"] = (report.outcome, str(report.longrepr)[-1500:])

def run(path, options):
    for name in ("_core", "lib", "linalg", "fft", "random", "ma", "matrixlib", "polynomial", "testing"):
        module = sys.modules.get("numpy." + name) or __import__("numpy." + name, fromlist=["x"])
        module.__path__ = [*module.__path__, "/numpy/" + name]
    sys.path_hooks.append(FileFinder.path_hook((SourceFileLoader, [".py"])))
    sys.path_importer_cache.clear()
    collected = Collected()
    status = pytest.main(["/numpy/" + path, *OPTIONS, *options], plugins=[collected])
    return int(status), collected.outcomes
"""
CONFTEST = """
import copyreg
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
    __doc__ = property(lambda cls: cls())

    def __call__(cls, *arguments, **keywords):
        if not Absent.running:
            return cls
        pytest.skip("uses " + cls.__name__ + ", which the image lacks")

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return STAND_IN if cls() and name == "dtype" else cls

copyreg.pickle(Absent, lambda cls: cls())

def absent(value):
    if isinstance(value, (list, tuple)):
        return any(map(absent, value))
    dtype = getattr(value, "dtype", value) if isinstance(value, np.ndarray) else value
    return isinstance(value, Absent) or isinstance(dtype, np.dtype) and "absent" in (dtype.metadata or ())

def pytest_runtest_setup(item):
    Absent.running = True
    if any(map(absent, getattr(item, "callspec", None) and item.callspec.params.values() or ())):
        pytest.skip("has a parameter of a module which the image lacks")

class AbsentModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or name.startswith("pytest"):
            raise AttributeError(name)
        return Absent(self.__name__.rpartition(".")[2] + "." + name, (), {"__module__": self.__name__})

for name in ("_multiarray_tests", "_umath_tests", "_rational_tests", "_operand_flag_tests", "_struct_ufunc_tests"):
    module = sys.modules["numpy._core." + name] = AbsentModule("numpy._core." + name)
    setattr(np._core, name, module)


def pytest_configure(config):
    if "test_ctypeslib" in config.args[0]:
        # It loads two libraries at its top, for a few of its tests.
        np._core._multiarray_umath.__file__ = np._core._multiarray_tests.__file__ = "/absent.so"
        np.ctypeslib.load_library = lambda name, path: Absent("the library " + name, (), {})()
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

@pytest.fixture
def capfd():
    # pytest's own one would break the tests after this one as well.
    pytest.fail("descriptor 1 cannot be redirected")
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
    chosen = [
        name
        for name in names
        if not wanted or any(name == want or name.startswith(want.rstrip("/") + "/") for want in wanted)
    ]
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
    return next((pattern for pattern in LEFT_OUT if fnmatch.fnmatchcase(test, pattern)), None)


@dataclass
class Result:
    """What a run has found.

    Attributes:
        counts: how many tests have passed, were left out ...
        left_out: how many tests have failed, and are in LEFT_OUT, by their pattern there.
        wrong: what ought not to be: tests that fail and are not in LEFT_OUT, and what is there and does not fail.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, path: str, outcomes: dict[str, tuple[str, str]], *, whole: bool = True) -> Counter[str]:
        """Take the outcomes of the tests of a file, of all of them if it is whole. Returns how many there are of each kind."""
        counts: Counter[str] = Counter()
        seen = set()
        for test, (outcome, text) in outcomes.items():
            pattern = known(f"{path}::{test}")
            seen.add(pattern)
            if outcome == "skipped" and LACKS in text:
                outcome = "needs a C module"
            if pattern and outcome == "failed":
                outcome = "left out"
                self.left_out[pattern] += 1
            elif pattern and outcome == "passed":
                self.wrong.append(f"{path}::{test} passes, and LEFT_OUT has it: {LEFT_OUT[pattern]}")
            elif outcome == "failed":
                self.wrong.append(f"{path}::{test} fails:\n{text}")
            counts[outcome] += 1
        for pattern in LEFT_OUT if whole else ():
            if pattern.startswith(f"{path}::") and pattern not in seen:
                self.wrong.append(f"{pattern} is in LEFT_OUT, and no test has this name")
        self.counts += counts
        return counts


class Suite:
    """The tests, and a node that has loaded the test runner, which each file has a copy of."""

    def __init__(self, runtime: cloche.Runtime, folder: Path) -> None:
        self.tests, self.now = folder / "numpy", folder / "now"
        self._runtime = runtime
        alone = folder / "alone"
        alone.mkdir()
        self.now.mkdir()
        unpack(self.tests)
        mounts = {"/numpy": self.tests, "/now": cloche.Mount(self.now, writable=True)}
        grants = cloche.Grants(packages=packages(alone), mounts=mounts, scratch_bytes=256 << 20)
        with runtime.load(cloche.Source(NODE), "run", grants=grants, limits=LIMITS) as node:
            self._loaded = node.snapshot()
        self._grants = cloche.Grants(mounts=mounts)

    def outcomes(self, path: str, options: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
        """Run a file. If a test breaks the node, the test has failed, and the file is run again without it."""
        now = self.now / "test"
        broken: dict[str, tuple[str, str]] = {}
        while True:
            now.write_text("")
            try:
                with self._runtime.restore(self._loaded, grants=self._grants, limits=LIMITS) as node:
                    status, outcomes = node.process(
                        path, [*options, *(f"--deselect={path}::{test}" for test in broken)]
                    )
                if status > 1 and not outcomes and status != NO_TESTS:
                    outcomes["(the file)"] = ("failed", f"pytest's exit code is {status}")
                return {**outcomes, **broken}
            except cloche.ClocheError as error:
                test = now.read_text().partition("::")[2] or "(the node)"
                if test in broken or test == "(the node)":
                    return {**broken, test: ("failed", str(error)[-1500:])}
                broken[test] = ("failed", str(error)[-1500:])

    def run(self, names: Iterable[str] = (), k: str = "", note: Callable[[str], None] = print) -> Result:
        """Run all files, or some by what their paths begin with; with `k`, only the tests that pytest's -k chooses."""
        result = Result()
        chosen = files(self.tests, list(names))
        every = files(self.tests, [])
        folders: dict[str, Counter[str]] = {}
        for number, path in enumerate(chosen, 1):
            begun = time.monotonic()
            before = len(result.wrong)
            counts = result.add(path, self.outcomes(path, ["-k", k] if k else []), whole=not k)
            folder = path.partition("/")[0]
            folders[folder] = folders.get(folder, Counter()) + counts
            said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
            for line in result.wrong[before:]:
                note(f"WRONG {line}")
            note(f"{number}/{len(chosen)} {path}: {said or 'no tests'} ({time.monotonic() - begun:.1f} s)")
        for folder, found in folders.items():
            whole = not k and {path for path in every if path.startswith(f"{folder}/")} <= set(chosen)
            if whole and found != COUNTS.get(folder):
                result.wrong.append(f"{folder}: {dict(found)}, and COUNTS has {COUNTS.get(folder)}")
                note(f"WRONG {result.wrong[-1]}")
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files or folders below numpy/")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--image", help="folder of another image than the checkout's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="numpy-tests-") as name, cloche.Runtime(options.image) as runtime:
        result = Suite(runtime, Path(name)).run(options.paths, options.k, lambda line: print(line, flush=True))
    for pattern, count in result.left_out.items():
        print(f"left out: {count} {pattern}: {LEFT_OUT[pattern]}")
    print(f"{result.counts.total()} tests:", ", ".join(f"{n} {outcome}" for outcome, n in result.counts.most_common()))
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
