"""Programs of the pyperformance package, as cases. They are read from the installed package, not from copies."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloche_bench.case import Case
from cloche_bench.operations import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROGRAMS", "cases"]

PROGRAMS: Final = {
    "deltablue": True, "richards": True, "hexiom": True, "json_loads": True, "generators": True, "unpack_sequence": True,
    "logging": False, "regex_v8": True, "chaos": False, "float": False, "nqueens": False, "spectral_norm": False,
    "nbody": False, "go": False, "raytrace": False, "fannkuch": False, "pidigits": False, "comprehensions": True,
    "coroutines": False, "deepcopy": False, "scimark": False, "regex_dna": False,
}  # fmt: skip
"""Programs in pure Python, without dependencies or data files: name -> whether ``--quick`` measures it."""


@cache
def _folder() -> Path | None:
    spec = importlib.util.find_spec("pyperformance")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data-files" / "benchmarks"
    return folder if folder.is_dir() else None


def cases() -> tuple[list[Case], str]:
    """The cases; and if the package is not installed, a line that says how to install it."""
    folder = _folder()
    if folder is None:
        return [], "pyperformance's programs were left out: pip install 'cloche[bench]'"
    return list(_found(folder)), ""


def _found(folder: Path) -> Iterator[Case]:
    for name, quick in PROGRAMS.items():
        path = folder / f"bm_{name}" / "run_benchmark.py"
        if path.exists():
            params = (("source", path.read_text(encoding="utf-8")), ("filename", f"bm_{name}/run_benchmark.py"))
            yield Case(
                id=f"pyperformance/{name}",
                title=name,
                make=Call("suite", "Program", 1, params),
                quick=quick,
                exact=False,
            )
