"""A node that ``cloche check`` loads into the sandbox: it imports what other sources import, and reports what is missing.

The sources are untrusted. They are parsed, and their imports are tried, inside of the sandbox only.
"""

import ast
import importlib
from collections.abc import Iterator
from typing import Any


def _guarded(tree: ast.AST) -> set[int]:
    """Ids of the statements inside of ``try: ... except ImportError``: a failing import among them is handled by the source."""
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
    """Modules that a source imports by absolute name: (name, line, whether the source handles a failure)."""
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
    """Try every import of some sources.

    Args:
        sources: file name -> text.

    Returns:
        ``{"module", "file", "line", "optional", "problem"}`` for each module, in order of appearance. `problem` is None for a
        module that can be imported. A file with a syntax error is skipped: loading the node reports it.
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
