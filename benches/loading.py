"""What loading a package costs: the first load, a later one, and the restored snapshot of a loaded node.

Timed: `Runtime.load` of a node that imports the package, with an empty cache and with the cache that the first
load has filled; `Runtime.restore` of that node's snapshot; `Runtime.load` of a node without packages. Not timed: compiling the
image, `close`. Native CPython stands beside it: a fresh process that imports the package from its folder, without and with the
bytecode that the first one has written. Without a wheel a package of --modules modules is made up.

    .venv/bin/python benches/loading.py [WHEEL MODULE] [--quick]

With networkx 3.6 (285 modules) a later load takes less than a fifth of the first. Level: that ratio.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cloche

_BODY = """
class Shape{n}:
    '''One of many.'''

    def __init__(self, width=1.0, height=2.0, *names, **options):
        self.width, self.height, self.names, self.options = width, height, names, options

    def area(self, factor=1):
        total = 0
        for number in range(int(self.width)):
            if number % 2:
                total += number * factor
            else:
                total -= [value for value in self.names if value][number:number + 1] or 0
        return {{"total": total, "sides": (self.width, self.height)}}

def make{n}(*arguments, kind=Shape{n}):
    try:
        return kind(*arguments)
    except (TypeError, ValueError) as error:
        raise RuntimeError(f"no shape {n}: {{error}}") from error
"""


def made_up(folder: Path, modules: int) -> Path:
    """A wheel of so many modules, which its ``__init__`` imports."""
    path = folder / "made_up-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("made_up/__init__.py", "".join(f"from . import part{number}\n" for number in range(modules)))
        for number in range(modules):
            out.writestr(f"made_up/part{number}.py", "".join(_BODY.format(n=part) for part in range(12)))
    return path


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def best(function: Callable[[], object], rounds: int) -> float:
    """The shortest wall time of some calls: what the machine's other work adds is left out."""
    return min(seconds(function) for _ in range(rounds))


def measure(wheel: Path, module: str, folder: Path, rounds: int) -> list[tuple[str, float]]:
    """The names of the figures, and their seconds."""
    source = cloche.Source(f"import {module}\ndef f(x): return x\n")
    grants = cloche.Grants(packages=[wheel])
    limits = cloche.Limits(load_s=300)
    with cloche.Runtime(limits=limits) as runtime:
        runtime.load(cloche.Source("def f(x): return x")).close()
        os.environ["CLOCHE_CACHE"] = str(folder / "cache")  # only now: the image's native code stays where it is

        def load() -> None:
            runtime.load(source, "f", grants=grants).close()

        figures = [("first load", seconds(load)), ("later load", best(load, rounds))]
        with runtime.load(source, "f", grants=grants) as node:
            snapshot = node.snapshot()
        figures.append(("restore", best(lambda: runtime.restore(snapshot).close(), rounds)))
        plain = best(lambda: runtime.load(cloche.Source("def f(x): return x")).close(), rounds)
        figures.append(("load without packages", plain))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "native")
    command = [sys.executable, "-c", f"import {module}"]

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def native() -> None:
        subprocess.run(command, cwd=folder / "native", env=environment, check=True)

    figures += [("native process, first", seconds(native)), ("native process, later", best(native, rounds))]
    return figures


def main() -> None:
    """Print the figures and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path, help="a pure-Python wheel without dependencies")
    parser.add_argument("module", nargs="?", help="the module to import")
    parser.add_argument("--modules", type=int, default=150, help="modules of the package that is made up")
    parser.add_argument("--quick", action="store_true", help="few rounds, few modules")
    options = parser.parse_args()
    if options.wheel is not None and options.module is None:
        parser.error("name the module to import as well")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = options.wheel or made_up(folder, 10 if options.quick else options.modules)
        figures = measure(wheel.resolve(), options.module or "made_up", folder, 2 if options.quick else 7)
    found = dict(figures)
    for label, took in figures:
        print(f"{label:24} {took * 1e3:10.2f} ms")
    print(f"first load / later load  {found['first load'] / found['later load']:10.1f}")
    print(f"later load / restore     {found['later load'] / found['restore']:10.1f}")


if __name__ == "__main__":
    main()
