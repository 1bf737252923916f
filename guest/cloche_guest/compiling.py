"""Compiles the modules of a package, in a sandbox of its own in which no code of the package ever runs: it only becomes bytecode.

What this makes is kept for later loads. A sandbox that has run a node cannot be trusted with that: the node could have changed it.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import time
import warnings
from collections import deque
from opcode import opmap
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.wheels import tree_of
from cloche_wire import tree

if TYPE_CHECKING:
    import types
    from collections.abc import Iterator

_UNCHECKED: Final = (1).to_bytes(4, "little")
"""Flags of a .pyc file that is not compared with its source (PEP 552)."""
_MOST_SOURCE: Final = 4 << 20
"""Bytes of a source from which compiling it can pass the compiler's deadline, with which all other modules would be lost."""
_IMPORT_NAME, _LOAD_CONST, _EXTENDED_ARG = (opmap[name] for name in ("IMPORT_NAME", "LOAD_CONST", "EXTENDED_ARG"))
_LOAD_SMALL_INT: Final = opmap.get("LOAD_SMALL_INT", -1)
"""From Python 3.14 on, the level of an import is not loaded as a constant."""


def compile_package(name: str, content: bytes, roots: list[str], seconds: float) -> bytes:
    """A package as a tree, with the compiled code of the modules that importing some of its modules imports.

    A module that cannot be compiled is left out: whoever imports it gets the error. So is one that is very large.

    Args:
        name: the package's file name, which the paths in its code begin with.
        content: a wheel, a zip or a tree. Code that a tree has already is kept.
        roots: names of modules. Names that are not the package's are skipped.
        seconds: time after which no further module is compiled.

    Raises:
        ImportError: the content is no wheel, zip or tree.
    """
    block = content if tree.is_tree(content) else tree_of(name, content)
    found = tree.files(block)
    modules = tree.modules(found)
    ends = time.monotonic() + seconds
    wanted, seen = deque(roots), set(roots)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while wanted and time.monotonic() < ends:
            module = wanted.popleft()
            names = [module.rpartition(".")[0]]
            if (path := modules.get(module)) is not None:
                names += _compile(found, module, path, f"/packages/{name}/{path}")
            for other in names:
                if other and other not in seen:
                    seen.add(other)
                    wanted.append(other)
    return tree.pack(found)


def _compile(found: dict[str, tree.File], module: str, path: str, shown: str) -> list[str]:
    """Compile one module into `found`. Returns the names of the modules that it imports when it is imported itself."""
    cached = _cached(path)
    if cached in found or found[path].size > _MOST_SOURCE:
        return []
    try:
        source = found[path].content()
        code = compile(source, shown, "exec", dont_inherit=True)
        body = marshal.dumps(code)
    except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError):
        return []
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    found[cached] = tree.deflated(head + body)
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    return list(_imports(code, package))


def _cached(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"


def _imports(code: types.CodeType, package: str) -> Iterator[str]:
    """Names that the import statements of a module's top level may lead to."""
    # not with `dis`, which takes half as long as the compilation
    text, extended = code.co_code, 0
    constants: list[Any] = [None, None]
    for at in range(0, len(text), 2):
        op, argument = text[at], text[at + 1] | extended
        extended = argument << 8 if op == _EXTENDED_ARG else 0
        if op == _LOAD_CONST:
            constants = [constants[1], code.co_consts[argument]]
        elif op == _LOAD_SMALL_INT:
            constants = [constants[1], argument]
        elif op == _IMPORT_NAME:
            level, names = constants
            base = _absolute(code.co_names[argument], level, package)
            if base is not None:
                yield base
                yield from (f"{base}.{name}" for name in names or () if name != "*")


def _absolute(name: str, level: object, package: str) -> str | None:
    if not isinstance(level, int) or not level:
        return name
    parts = package.split(".")
    if level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])
