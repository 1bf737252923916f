"""The source of a class or function that is loaded in this process, with the imports and definitions that it needs.

It is read from the file, or the notebook's cell, that defined it. Names that it uses, and does not define itself, are looked up
there and in its module: imports, constants, and functions and classes of the same module are added. Anything else is refused.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import math
import symtable
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, Final

from cloche.errors import ClocheError

__all__ = ["source_of"]

_GIVEN: Final = frozenset({"__name__", "__doc__", "__file__", "__spec__", "__package__", "__loader__", "__builtins__"})
"""Names that every module has."""
_MOST_CHARACTERS: Final = 100_000
"""Characters of a constant that is written into the source."""
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_of(target: Any) -> tuple[str, str]:
    """The text of a module that defines `target`, and its name.

    Raises:
        TypeError: `target` is neither a class nor a function, or a lambda, or built in.
        ClocheError: it has no source; or it uses a name that cannot be taken along, which the message says.
    """
    target = inspect.unwrap(target) if callable(target) else target
    if isinstance(target, FunctionType) and target.__name__ == "<lambda>":
        raise TypeError("a lambda has no name to load it by: write it as a function, with def")
    if not isinstance(target, type | FunctionType):
        hint = ": give its class" if inspect.ismethod(target) else ""
        raise TypeError(f"Source.of takes a class or a function, not {type(target).__name__}{hint}")
    module = _Module(target.__name__)
    module.add(target, "")
    return module.text(), target.__name__


class _Module:
    """The module that is being made.

    Args:
        name: name of the class or function for which it is made, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._futures: dict[str, None] = {}
        self._imports: dict[str, None] = {}
        self._constants: list[str] = []
        self._definitions: list[str] = []
        self._known: set[str] = set()

    def text(self) -> str:
        """The source."""
        chosen = f"__all__ = [{self._name!r}]"  # otherwise a helper might be taken for the entry
        parts = ["\n".join([*self._futures, *self._imports]), "\n".join([chosen, *self._constants]), *self._definitions]
        return "\n\n".join(part for part in parts if part) + "\n"

    def add(self, target: Any, name: str) -> None:
        """Add a class or function, after all that it needs.

        Args:
            target: the class or function.
            name: the name by which it was met; "": it is the one that is wanted.
        """
        self._known.add(name or target.__name__)
        _refuse_closures(target)
        text, cell = _definition(target)
        if name and name != target.__name__:
            raise ClocheError(
                f"{self._name} uses {name!r}, which is {target.__qualname__!r} by another name: use its own name"
            )
        futures = [node for node in cell.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        self._futures.update(dict.fromkeys(map(ast.unparse, futures)))
        context = _globals(target)
        for used in _globals_of("\n".join([*map(ast.unparse, futures), text]), target.__name__):
            if used not in self._known:
                self._known.add(used)
                self._resolve(used, context, cell, target)
        self._definitions.append(text)

    def _resolve(self, name: str, context: Mapping[str, Any], cell: ast.Module, user: Any) -> None:
        """Add what a global name stands for."""
        imported = list(_imports(name, cell, context))
        if imported:
            self._imports.update(dict.fromkeys(imported))
            return
        if name in _GIVEN:
            return
        if name not in context:
            if hasattr(builtins, name):
                return
            raise ClocheError(f"{user.__qualname__} uses {name!r}, which is not defined in its module")
        value = context[name]
        if isinstance(value, ModuleType):
            self._imports[f"import {value.__name__}" + (f" as {name}" if value.__name__ != name else "")] = None
        elif isinstance(value, type | FunctionType) and _globals(value) is context:
            self.add(value, name)
        elif (found := _importable(value)) is not None:
            self._imports[f"from {found[0]} import {found[1]}" + (f" as {name}" if found[1] != name else "")] = None
        elif (text := _constant(value)) is not None:
            self._constants.append(f"{name} = {text}")
        else:
            raise ClocheError(
                f"{user.__qualname__} uses {name!r}, a {type(value).__name__} of its module, which cannot be taken along: pass it "
                "as an argument or a parameter (params=)"
            )


def _functions(target: Any) -> Iterator[FunctionType]:
    """The functions that a class defines in its body; or the function itself."""
    if isinstance(target, FunctionType):
        yield target
        return
    for value in vars(target).values():
        found = (
            [value.fget, value.fset, value.fdel] if isinstance(value, property) else [getattr(value, "__func__", value)]
        )
        for function in found:
            inner = inspect.unwrap(function) if callable(function) else function
            if isinstance(inner, FunctionType) and inner.__qualname__.startswith(f"{target.__qualname__}."):
                yield inner


def _refuse_closures(target: Any) -> None:
    for function in _functions(target):
        names = ", ".join(repr(name) for name in function.__code__.co_freevars if name != "__class__")
        if names:
            raise ClocheError(
                f"{function.__qualname__} uses {names} of the function around it, which cannot be taken along: define it at the "
                "top of a module or cell, and pass the value as an argument or a parameter (params=)"
            )


def _globals(target: Any) -> Mapping[str, Any]:
    """The names of the module that the class or function was defined in."""
    for function in _functions(target):
        if not function.__code__.co_filename.startswith("<string>"):  # made by a decorator, such as dataclass
            return function.__globals__
    return vars(sys.modules.get(target.__module__, builtins))


def _definition(target: Any) -> tuple[str, ast.Module]:
    """The text of a definition with its decorators, and the whole file or cell that it stands in."""
    kind = ast.ClassDef if isinstance(target, type) else (ast.FunctionDef, ast.AsyncFunctionDef)
    for file, line in _places(target):
        linecache.checkcache(file)
        lines = linecache.getlines(file, dict(_globals(target)))
        try:
            cell = ast.parse("".join(lines))
        except SyntaxError:
            continue
        found: list[Definition] = [
            node
            for node in ast.walk(cell)
            if isinstance(node, kind)
            and node.name == target.__name__
            and (not line or _first(node) <= line <= (node.end_lineno or 0))
        ]
        if found:
            last = found[-1]  # the innermost, or the one that was defined last
            return textwrap.dedent("".join(lines[_first(last) - 1 : last.end_lineno])).rstrip(), cell
    raise ClocheError(
        f"{target.__qualname__} has no source that could be read: define it in a file or a notebook; if the file has changed, "
        "import it anew"
    )


def _places(target: Any) -> Iterator[tuple[str, int]]:
    """Where the definition may stand: files and lines; 0: at an unknown line."""
    for function in _functions(target):
        yield function.__code__.co_filename, function.__code__.co_firstlineno
    if isinstance(target, type):  # without a method of its own, as a dataclass that has fields only
        with suppress(OSError, TypeError):
            yield inspect.getsourcefile(target) or "", 0
        if target.__module__ == "__main__":
            yield from (
                (name, 0) for name in reversed(list(linecache.cache)) if "ipykernel" in name or "ipython" in name
            )


def _first(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _globals_of(text: str, own: str) -> list[str]:
    """The names that a definition takes from its module, or from the builtins, in the order of their names."""
    found: set[str] = set()
    tables = [symtable.symtable(text, "<source>", "exec")]
    top = tables[0]
    while tables:
        table = tables.pop()
        for symbol in table.get_symbols():
            if table is top:
                if symbol.is_referenced() and not symbol.is_assigned() and not symbol.is_imported():
                    found.add(symbol.get_name())
            elif symbol.is_global() and (symbol.is_referenced() or symbol.is_assigned()):
                found.add(symbol.get_name())
        tables += table.get_children()
    return sorted(found - {own})


def _imports(name: str, cell: ast.Module, context: Mapping[str, Any]) -> Iterator[str]:
    """The imports of a module that bind a name, as statements of their own."""
    todo: list[ast.AST] = [cell]
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    yield ast.unparse(ast.Import([alias]))
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = str(context.get("__package__") or "").split(".")
                    base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
                    module = ".".join(part for part in (base, node.module or "") if part)
                    yield ast.unparse(ast.ImportFrom(module, [alias], 0))
        elif isinstance(node, ast.Module | ast.If | ast.Try | ast.ExceptHandler | ast.With):
            todo += ast.iter_child_nodes(node)


def _importable(value: Any) -> tuple[str, str] | None:
    """The module and the name of a class or function, if it can be imported by them."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not name.isidentifier() or module == "__main__":
        return None
    return (module, name) if getattr(sys.modules.get(module), name, None) is value else None


def _constant(value: Any) -> str | None:
    """The literal for a value that consists of numbers, texts, bytes, None and containers of these; None: it does not."""
    if not _is_plain(value, 0):
        return None
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else None


def _is_plain(value: Any, depth: int) -> bool:
    if depth > 20:
        return False
    if type(value) is float:
        return math.isfinite(value)
    if value is None or value is ... or type(value) in (bool, int, str, bytes):
        return True
    if type(value) in (tuple, list):
        return all(_is_plain(item, depth + 1) for item in value)
    if type(value) is set:
        return bool(value) and all(_is_plain(item, depth + 1) for item in value)
    return type(value) is dict and all(_is_plain(part, depth + 1) for pair in value.items() for part in pair)
