"""Makes the node's code and the granted packages importable.

A node of one module is sent as text, and imported from memory (`TextFinder`). A package folder and granted packages are trees,
which the guest's files show as read-only folders: Python's own import system finds modules, data and metadata there.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.trees import CACHE_SUFFIX, ExtensionFinder, OwnFinder, Tree, remember
from cloche_wire import tree

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator, Sequence

    from cloche_guest._host import Host

OWN: Final = "node"
"""Where the node's own package folder is shown."""
PACKAGES: Final = "packages"
"""The folder in which each granted package is shown."""

_MOST_CHARACTERS: Final = 200
"""Length of a module's name that `Imports.uncompiled` reports."""


class TextLoader(importlib.abc.InspectLoader):
    """Loads a node of one module from its text. There is no file of its ``__file__``."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self._source = source

    def get_filename(self, fullname: str) -> str:
        """The module's ``__file__``."""
        return self.file

    def is_package(self, fullname: str) -> bool:
        """False."""
        return False

    def get_source(self, fullname: str) -> str:
        """The module's source, for linecache, inspect and tracebacks."""
        return self._source

    def exec_module(self, module: types.ModuleType) -> None:
        """Compile and run the module."""
        self.remember_lines()
        exec(compile(self._source, self.file, "exec", dont_inherit=True), module.__dict__)  # code of the node

    def remember_lines(self) -> None:
        """Put the source into linecache, which would otherwise look for a real file of that name first."""
        remember(self.file, self._source)


class TextFinder(importlib.abc.MetaPathFinder):
    """Finds the node's one module.

    Args:
        name: the module's name.
        file: its ``__file__``.
        source: its text.
    """

    def __init__(self, name: str, file: str, source: str) -> None:
        self.name = name
        self.loader = TextLoader(file, source)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of the module; None for every other name."""
        if fullname != self.name:
            return None
        file = self.loader.file
        spec = importlib.machinery.ModuleSpec(fullname, self.loader, origin=file)
        spec.has_location = True
        if file.endswith(".py"):
            # the import system would compute the same path in eight function calls; no file is ever there
            folder, slash, name = file[:-3].rpartition("/")
            spec.cached = f"{folder}{slash}__pycache__/{name}{CACHE_SUFFIX}"
        return spec

    def load(self) -> None:
        """Import the module without the search, which takes most of the time of an import."""
        if self.name in sys.modules:
            return
        spec: Any = self.find_spec(self.name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(self.name, None)
            raise


class Imports:
    """What LOAD makes importable.

    Attributes:
        main: name of the main module.
    """

    def __init__(self, host: Host, wanted: dict[str, Any]) -> None:
        self.main: str = wanted["main"]
        self._text: TextFinder | None = None
        self._own: Tree | None = None
        self._packages: dict[str, Tree] = {}
        modules = wanted["modules"]
        if self.main in modules:
            self.main = unshadowed(self.main)
            self._text = TextFinder(self.main, *modules[wanted["main"]])
        self._first: list[Any] = []
        self._last: list[Any] = []
        self._hooks: list[Callable[[str], Any]] = []
        if self._text is not None:
            self._first.append(self._text)
        if "tree" in wanted:
            block: bytes = wanted["tree"]
            self._own = Tree(host.tree(OWN, block), "")
            self._first.append(OwnFinder(self._own, tree.files(block)))
        for name, content in wanted["packages"].items():
            self._packages[name] = Tree(_shown(host, name, content), f"/{PACKAGES}/{name}/")
        self._trees = [*([self._own] if self._own else []), *self._packages.values()]
        if self._trees:
            self._last.append(ExtensionFinder(self._trees))
            # where a file's path is the one that is shown, Python's own hook does the same
            self._hooks = [one.finder for one in self._trees if one.shown(f"{one.root}/x") != f"{one.root}/x"]

    def install(self) -> None:
        """Make all of it importable: the node's own code before the standard library, packages after it."""
        sys.meta_path[:0] = self._first
        sys.meta_path += self._last
        if self._trees:
            sys.path_hooks[:0] = self._hooks
            sys.path[:0] = [self._own.root] if self._own else []
            sys.path += [one.root for one in self._packages.values()]

    def load(self) -> None:
        """Import the main module.

        Raises:
            ImportError: there is no such module.
            BaseException: the module raised this.
        """
        if self._text is not None:
            self._text.load()
        else:
            __import__(self.main)

    def is_own(self, file: object) -> bool:
        """Whether a code's file name is that of one of the node's own modules."""
        if self._text is not None:
            return file == self._text.loader.file
        return self._own is not None and isinstance(file, str) and Path(self._own.root, file).is_file()

    def own_modules(self) -> list[str]:
        """Names of the node's own modules that have been imported."""
        top = self.main.partition(".")[0]
        if self._text is not None:
            return [self.main]
        return [name for name in sys.modules if self._own and (name == top or name.startswith(top + "."))]

    def holds(self, module: Any) -> bool:
        """Whether a module is the node's own, or a package's."""
        try:
            if self._text is not None and module.__loader__ is self._text.loader:
                return True
            places = [module.__spec__.origin, *getattr(module, "__path__", ())]
        except Exception:  # a node can put anything into sys.modules
            return False
        return any(one.holds(place) for one in self._trees for place in places)

    def uncompiled(self, most: int) -> dict[str, list[str]]:
        """Modules of packages that have been imported from their sources, since the package has no compiled code of them.

        Args:
            most: number of names and packages at most.

        Returns:
            name of the package -> names of modules.
        """
        found: dict[str, list[str]] = {}
        for name, cached, origin in _imported() if self._packages else ():
            package = next((key for key, one in self._packages.items() if one.holds(origin)), None)
            if package is not None and len(name) <= _MOST_CHARACTERS and not os.access(cached, os.F_OK):
                if most < 2:
                    break
                most -= 1 if package in found else 2
                found.setdefault(package, []).append(name)
        return found


def _imported() -> Iterator[tuple[str, str, str]]:
    """Name, path of the compiled code and path of the source of each imported module that has them."""
    for name, module in list(sys.modules.items()):
        try:
            spec = module.__spec__
            row = name, spec.cached, spec.origin  # type: ignore[union-attr]
        except Exception:  # a node can put anything into sys.modules
            continue
        if all(type(text) is str for text in row):
            yield row  # type: ignore[misc]  # no text is None


def _shown(host: Host, name: str, content: bytes) -> str:
    """Show a package, a tree or a wheel; the path of its folder."""
    if not tree.is_tree(content):
        from cloche_guest.wheels import tree_of

        content = tree_of(name, content)
    return host.tree(f"{PACKAGES}/{name}", content)


def unshadowed(main: str) -> str:
    """Another name for a module with the name of one of the standard library: a node in types.py must not break the library."""
    return f"node_{main}" if main in sys.stdlib_module_names or main in sys.modules else main
