"""Keeps what the tests compile, in ``build/tests``: compiled once for all processes of a run, and anew when one of its sources has changed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

__all__ = ["kept"]

_FOLDER = Path(__file__).parents[1] / "build" / "tests"


def kept(name: str, make: Callable[[Path], Path], command: Iterable[str], sources: Iterable[Path]) -> Path:
    """The file that `make` gives, or has given before: it is called with the folder of the file.

    Args:
        name: of the folder.
        make: compiles into a folder. What it raises is raised by the next call as well.
        command: the compiler, and whatever else decides what is made beside the sources.
        sources: files and folders. Of a folder, all C and Python files in it.
    """
    digest = sha256("\0".join([sys.version, *command]).encode())
    compiler = shutil.which(next(iter(command)))
    if compiler is not None:
        digest.update(repr((Path(compiler).stat().st_mtime_ns, Path(compiler).stat().st_size)).encode())
    for source in sources:
        for path in (
            sorted(p for p in source.iterdir() if p.suffix in (".c", ".h", ".py")) if source.is_dir() else [source]
        ):
            digest.update(f"{path}\0".encode() + path.read_bytes())
    folder = _FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / digest.hexdigest()[:16]
    with FileLock(folder / "lock"):
        finished = made / "finished"
        if not finished.exists():
            for old in folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            made.mkdir()
            finished.write_text(make(made).name)
        return made / finished.read_text()
