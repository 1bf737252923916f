"""Environments for recipes: pages that need packages of others, and name them in a block ``requirements.txt``.

Each is kept in the cache, under a digest of what is in it, and gets the wheel that is to be tested anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from packaging.requirements import Requirement

from tests.loading import module_at

__all__ = ["built_wheel", "environment", "interpreter", "missing", "versions"]

TREE: Final = Path(__file__).parents[2]
_UNUSED_S: Final = 14 * 86400
"""Environments that nobody has used for so long are removed."""
_PIP: Final = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
"""pip of this environment: an interpreter that was unpacked without root has none."""


def missing(requirements: Sequence[str]) -> list[str]:
    """The names of those that are not installed here, in whatever version."""
    found = []
    for line in requirements:
        name = Requirement(line).name
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
    return found


def _tool() -> ModuleType:
    return module_at(TREE / "tools" / "test_pythons.py", "tool_for_recipes")


def versions() -> tuple[str, str]:
    """The oldest and the newest version of Python that Cloche supports."""
    supported: tuple[str, ...] = _tool().VERSIONS
    return supported[0], supported[-1]


def interpreter(version: str) -> tuple[Path, str]:
    """An interpreter of a version, and its full version.

    Raises:
        LookupError: none can be had here; the text says why.
    """
    tool = _tool()
    try:
        path, full, _ = tool.interpreter(version)
    except tool.UnavailableError as error:
        raise LookupError(str(error)) from None
    return path, full


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def built_wheel(folder: Path) -> Path:
    """The wheel of this tree, in a folder that the processes of a test run share: the first one builds it."""
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            draft = folder.with_suffix(".part")
            build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", draft, TREE]
            subprocess.run([*_PIP, *build], check=True, timeout=300)
            draft.rename(folder)
    (wheel,) = folder.iterdir()
    return wheel


@contextmanager
def environment(version: str, requirements: Sequence[str], wheel: Path) -> Iterator[Path]:
    """An interpreter whose environment has the wheel, the requirements, and nothing else; nobody else uses it meanwhile."""
    python, full = interpreter(version)
    own = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    content = repr((str(python), full, sorted(requirements), sorted(own)))
    folder = _tool().cache_folder() / "recipes" / hashlib.sha256(content.encode()).hexdigest()[:20]
    _remove_unused(folder.parent)
    with _locked(folder.with_suffix(".lock")):
        inside, stamp = folder / "bin/python", folder / "stamp"
        install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(inside), "install", "-q"]
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True, timeout=300)
            subprocess.run([*install, "--only-binary", ":all:", wheel, *requirements], check=True, timeout=1200)
        else:
            subprocess.run([*install, "--no-deps", "--force-reinstall", wheel], check=True, timeout=300)
        stamp.touch()
        yield inside


def _remove_unused(folder: Path) -> None:
    for stamp in folder.glob("*/stamp"):
        if time.time() - stamp.stat().st_mtime > _UNUSED_S:
            with _locked(stamp.parent.with_suffix(".lock")):
                shutil.rmtree(stamp.parent, ignore_errors=True)


def variables(python: Path, home: Path) -> dict[str, str]:
    """The environment variables of a program there: nothing of this environment, but the cache with the compiled images."""
    return {
        "PATH": os.pathsep.join([str(python.parent), os.defpath]),
        "HOME": str(home),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "CLOCHE_CACHE": str(_tool().cache_folder()),
        "NO_COLOR": "1",
    }
