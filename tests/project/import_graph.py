"""Who imports whom, read from the sources: lazy and relative imports count, and those for type checkers alone."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@cache
def imports(source: str, package: str = "") -> list[tuple[str, str, str]]:
    """Everything that a source imports.

    Args:
        source: of a module.
        package: that the module is in, or is: relative imports begin there.

    Returns:
        the module named, the name taken from it ("" if the module itself is), and where: "try" inside of a ``try``, "name" by a call
        such as ``import_module("json")``, else "".
    """

    def walk(node: ast.AST, where: str) -> Iterator[tuple[str, str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, "", where) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parts = package.split(".")[: -(child.level - 1) or None] if child.level else []
                module = ".".join([*parts, *([child.module] if child.module else [])])
                yield from ((module, alias.name, where) for alias in child.names)
            elif (named := _imported_by_name(child)) is not None:
                yield named, "", "name"
            else:
                yield from walk(child, where or ("try" if isinstance(child, ast.Try) else ""))

    return list(walk(ast.parse(source), ""))


def _imported_by_name(node: ast.AST) -> str | None:
    """The module that a call such as ``importlib.import_module("json")`` imports; None: it is no such call."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return node.args[0].value if called in ("import_module", "__import__") else None


@cache
def modules(folder: Path) -> dict[str, Path]:
    """Dotted name -> file, of all Python modules below a folder."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.py"))}
    return {name.replace("/", ".").removesuffix(".__init__"): path for name, path in found.items()}


def edges(known: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> the modules of `known` that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for named, name, _ in imports(path.read_text(), package):
            target = f"{named}.{name}" if f"{named}.{name}" in known else named
            if target in known and target != module:
                found[module].add(target)
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, directly or not; a package's modules do not depend on its ``__init__``."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
