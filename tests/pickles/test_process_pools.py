"""Errors come back from every kind of process pool, with every way to start a process, and the pool goes on afterwards."""

from __future__ import annotations

import importlib.util
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import concurrent.futures, multiprocessing, sys
import cloche

LIMITS = cloche.Limits(deadline_s=0.2)
NODES = {
    "raises": "def f(x): return 1 / x",
    "ends": "import os\\ndef f(x): os._exit(3)",
    "hangs": "def f(x):\\n while True: pass",
    "holds": "import time\\ndef f(x):\\n while True:\\n  try: time.sleep(9)\\n  except BaseException: pass",
    "compiles not": "def f(x:",
    "imports not": "import not_there\\ndef f(x): pass",
}

def work(name):
    if name == "encodes not":
        return apply("def f(x): return x", {"a": [object()]})
    return apply(NODES[name], 0) if name in NODES else "fine"

def apply(text, value):
    with cloche.Runtime(limits=LIMITS) as runtime, runtime.load(cloche.Source(text)) as node:
        return node.process(value)

def outcome(take):
    try:
        return take()
    except cloche.ClocheError as error:
        kept = [(name, getattr(error, name)) for name in ("exc_type", "phase", "code", "limit", "path", "item") if getattr(error, name, "")]
        return f"{type(error).__name__} {kept}"

def main(kind, method):
    names = [*NODES, "encodes not", "fine"]
    if kind == "loky":
        from joblib import Parallel, delayed
        taken = [lambda name=name: Parallel(n_jobs=2)([delayed(work)(name), delayed(work)("fine")])[0] for name in names]
        return [outcome(take) for take in taken]
    context = multiprocessing.get_context(method)
    if kind == "Pool":
        with context.Pool(2) as pool:
            return [outcome(one.get) for one in [pool.apply_async(work, [name]) for name in names]]
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        return [outcome(one.result) for one in [pool.submit(work, name) for name in names]]

if __name__ == "__main__":
    if "warm" in sys.argv:
        with cloche.Runtime() as runtime, runtime.load(cloche.Source("def f(x): return x")) as node:
            node.process(1)
            print(*main(*sys.argv[1:3]), sep="\\n")
            assert node.process(2) == 2
    else:
        print(*main(*sys.argv[1:3]), sep="\\n")
"""
WANTED = """\
NodeRaisedError [('exc_type', 'ZeroDivisionError')]
GuestExitError [('code', 3)]
DeadlineError [('limit', 'deadline_s')]
HardDeadlineError [('limit', 'deadline_s')]
NodeLoadError [('exc_type', 'SyntaxError'), ('phase', 'compile')]
NodeLoadError [('exc_type', 'ModuleNotFoundError'), ('phase', 'import')]
EncodeError [('path', 'data.a[0]')]
fine
"""
METHODS = multiprocessing.get_all_start_methods()


def run(tmp_path: Path, *arguments: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.few(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_errors_come_back(tmp_path: Path, kind: str, method: str) -> None:
    assert run(tmp_path, kind, method) == WANTED


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_errors_come_back_from_forks_of_a_process_with_nodes(tmp_path: Path, kind: str) -> None:
    """The parent's engine and its node are in the children too."""
    assert run(tmp_path, kind, "fork", "warm") == WANTED


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib is not installed")
def test_errors_come_back_through_loky(tmp_path: Path) -> None:
    assert run(tmp_path, "loky", "") == WANTED
