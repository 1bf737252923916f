"""The public names of all modules of the standard library, written by ``python tests/native_names.py > tests/native_names.txt`` with a
CPython of the image's version, natively on Linux. tests/runtime/test_standard_library.py compares the image with it.

One line for a module: its name, a colon, its names.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
import warnings

NOT_THERE = {"test", "tkinter", "idlelib", "turtledemo", "turtle", "lib2to3", "antigravity", "this"}


def names_of(module: types.ModuleType) -> list[str]:
    """The names that users look up: no private ones, and no modules that are only imported there."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (name in getattr(module, "__all__", ()) or not isinstance(value, types.ModuleType))
    )


def modules() -> dict[str, list[str]]:
    """Name of each public module that can be imported -> its names."""
    found: dict[str, list[str]] = {}

    def add(name: str) -> None:
        try:
            module = importlib.import_module(name)
        except ImportError:
            return
        found[name] = names_of(module)
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if not info.name.startswith("_") and info.name not in ("test", "tests"):
                add(f"{name}.{info.name}")

    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in NOT_THERE:
            add(name)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name, names in modules().items():
        print(f"{name}: {' '.join(names)}")
