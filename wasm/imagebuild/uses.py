"""What code a stage runs, so that a change of it runs the stage again: no list is kept by hand that could miss something.

Counted are the functions and methods of the stage's own file that its function names, what these name, and so on; and the modules
of this package that any of them names, with the modules that these import. A name counts wherever it stands: one that is the
same by chance only makes a stage run once too often.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

PACKAGE = __package__ or "imagebuild"


def functions(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function, and those of its file that it uses, each once, in the order of their places in the file."""
    first = _plain(function)
    found, todo = {first}, [first]
    while todo:
        for used in map(_plain, _named(todo.pop())):
            if isinstance(used, FunctionType) and used.__module__ == first.__module__ and used not in found:
                found.add(used)
                todo.append(used)
    return sorted(found, key=lambda one: one.__code__.co_firstlineno)


def source(function: Callable[..., Any]) -> str:
    """The text of `functions`."""
    return "\n".join(inspect.getsource(one) for one in functions(function))


def modules(function: Callable[..., Any], without: frozenset[str] = frozenset()) -> list[str]:
    """The modules of this package that `functions` name, and those that these import, sorted.

    Args:
        function: where to begin.
        without: modules that do not count, nor what they import.
    """
    own = _plain(function).__module__
    named = {_module_of(value) for one in functions(function) for value in _named(one)}
    found: set[str] = set()
    todo = [name for name in named if name and name != own.removeprefix(f"{PACKAGE}.")]
    while todo:
        name = todo.pop()
        if name not in found | without:
            found.add(name)
            todo += imported(Path(__file__).with_name(f"{name}.py"))
    return sorted(found)


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules of this package that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}."):
            found.add(node.module.removeprefix(f"{PACKAGE}."))
    return tuple(sorted(found))


def _plain(function: Any) -> Any:
    """What is behind a bound method, a decorator and a property."""
    if isinstance(function, MethodType):
        function = function.__func__
    if isinstance(function, property | functools.cached_property):
        function = function.fget if isinstance(function, property) else function.func
    return inspect.unwrap(function) if callable(function) else function


def _named(function: FunctionType) -> Iterator[Any]:
    """The values that a function's names have in its file and in its class."""
    home = sys.modules[function.__module__]
    owner = getattr(home, function.__qualname__.rpartition(".")[0], None)
    for name in _names(function.__code__):
        for place in (home, owner):
            if isinstance(place, type | ModuleType) and name in vars(place):
                yield vars(place)[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _module_of(value: Any) -> str | None:
    """The module of this package that a value is, or comes from."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name.removeprefix(f"{PACKAGE}.") if isinstance(name, str) and name.startswith(f"{PACKAGE}.") else None
