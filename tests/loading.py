"""`module_at`: a file that is on no import path, as a module. Tools of the tree and examples are such files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["module_at"]


def module_at(path: Path, name: str) -> ModuleType:
    """The module that the file makes, under that name; dataclasses look for it there."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
