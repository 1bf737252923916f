"""A node that ``cloche check`` loads into the sandbox, to try there what a source would do. Each attempt gets a new copy of it."""

import importlib
from typing import Any


def attempt(code: str, module: str, names: list[str]) -> dict[str, Any] | None:
    """Import a module and names from it, or run a few lines.

    Args:
        code: the lines; "" to import.
        module: full name of the module.
        names: what is imported from it.

    Returns:
        None if it worked; else the exception: ``{"kinds", "message"}``, names of its class and of those above it, and its text.
    """
    try:
        if code:
            exec(code, {"__name__": "check"})
            return None
        found = importlib.import_module(module)
        for name in names:
            if not hasattr(found, name):
                _submodule(module, name, getattr(found, "__file__", None))
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"kinds": kinds, "message": str(error)}
    return None


def _submodule(module: str, name: str, file: str | None) -> None:
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{module}.{name}":
            raise
        raise ImportError(f"cannot import name {name!r} from {module!r} ({file or 'unknown location'})") from None
