"""A node, loaded into the sandbox by ``cloche check``: imports what other sources import, and says what is missing.

The sources are a stranger's: they are parsed, and what they ask for is imported, in here and nowhere else.
"""

import ast
import importlib
from collections.abc import Iterator
from typing import Any


def _guarded(tree: ast.AST) -> set[int]:
    """Import statements whose failure the source handles: those in ``try: ... except ImportError``."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            names = {
                name.id
                for clause in node.handlers
                for name in ast.walk(clause.type or ast.Name("Exception"))
                if isinstance(name, ast.Name)
            }
            if names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}:
                found.update(id(inner) for body in node.body for inner in ast.walk(body))
    return found


def _wanted(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Modules that a source imports absolutely: (name, line, whether its absence is handled)."""
    guarded = _guarded(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in guarded
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node.lineno, id(node) in guarded


def _problem(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def imports(sources: dict[str, str]) -> list[dict[str, Any]]:
    """Look at sources.

    Args:
        sources: map of file name to text.

    Returns:
        a list of
        ``{"module", "file", "line", "optional", "problem"}``, one for each module, in order of appearance; `problem`
        is
        None for what can be imported. A file that is no Python has no imports: loading it says so.
    """
    found: dict[str, dict[str, Any]] = {}
    for file, text in sources.items():
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for module, line, optional in _wanted(tree):
            entry = found.setdefault(module, {"module": module, "file": file, "line": line, "optional": optional})
            entry["optional"] = entry["optional"] and optional
    return [{**entry, "problem": _problem(entry["module"])} for entry in found.values()]
