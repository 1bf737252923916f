"""Finds and loads modules of trees, the folders of granted packages and of the node (`cloche_wire.tree`)."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from cloche_wire.tree import modules

if TYPE_CHECKING:
    import types
    from collections.abc import Iterable, Sequence

CACHE_SUFFIX: Final = f".{sys.implementation.cache_tag}.pyc"
"""How the name of a file with compiled code ends."""
_EXTENSION: Final = re.compile(r"(?P<stem>.+?)(\.(cpython|cp|pypy|abi3|pyd)[^/]*)?\.(so|pyd|dylib|dll)$")


class Tree:
    """One tree: where its files are, and the path that tracebacks and errors show.

    Args:
        root: path of the folder.
        shown: what tracebacks show in place of the root and its slash.
    """

    def __init__(self, root: str, shown: str) -> None:
        self.root = root
        self._shown = shown

    def shown(self, path: str) -> str:
        """The path of a file as tracebacks show it."""
        return self._shown + path[len(self.root) + 1 :] if self.holds(path) else path

    def holds(self, path: object) -> bool:
        """Whether a path is that of the tree, or of a file or folder in it."""
        return isinstance(path, str) and (path == self.root or path.startswith(self.root + "/"))

    def finder(self, path: str) -> importlib.machinery.FileFinder:
        """A hook for `sys.path_hooks`: finds modules in a folder of the tree.

        Raises:
            ImportError: it is no folder of this tree. `runpy.run_path` asks for files, too.
        """
        if not self.holds(path) or not os.path.isdir(path):  # noqa: PTH112  # quicker, at each load
            raise ImportError("not a folder of this tree", path=path)

        def loader(fullname: str, path: str) -> TreeLoader:
            return TreeLoader(fullname, path, self)

        return importlib.machinery.FileFinder(path, (loader, importlib.machinery.SOURCE_SUFFIXES))  # type: ignore[arg-type]  # wants a class


class TreeLoader(importlib.machinery.SourceFileLoader):
    """Loads a module of a tree whose code has another path than its file: that which tracebacks show."""

    def __init__(self, fullname: str, path: str, tree: Tree) -> None:
        super().__init__(fullname, path)
        self._tree = tree

    def get_code(self, fullname: str) -> types.CodeType:
        """Compile the module. The import system would look for compiled code first, and there is none."""
        data = self.get_data(self.path)
        shown = self._tree.shown(self.path)
        try:
            remember(shown, _decoded(data))
        except Exception:  # what a codec raises that is none for sources
            pass  # `compile` says what is wrong
        code: types.CodeType = compile(data, shown, "exec", dont_inherit=True)
        return code

    def remember_lines(self) -> None:
        """Put the source into linecache again."""
        remember(self._tree.shown(self.path), self.get_source(self.name) or "")


class OwnFinder(importlib.abc.MetaPathFinder):
    """Finds the node's own modules: its package before the standard library, as Python does with what lies beside a script.

    The names of all modules are known, so that an import costs no search. What this does not find, such as a namespace package, is
    left to Python's own finders.

    Args:
        tree: the node's folder.
        paths: paths of its files below the folder.
    """

    def __init__(self, tree: Tree, paths: Iterable[str]) -> None:
        self._tree = tree
        self._modules = modules(paths)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module where the node's package has it; None for other names, and if a ``__path__`` was changed."""
        below = self._modules.get(fullname)
        if below is None:
            return None
        file = f"{self._tree.root}/{below}"
        folder = file.rpartition("/")[0]
        package = below.endswith("/__init__.py")
        if path is not None and (not path or path[0] != (folder.rpartition("/")[0] if package else folder)):
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, TreeLoader(fullname, file, self._tree), origin=file, is_package=package
        )
        spec.has_location = True
        spec.cached = f"{folder}/__pycache__/{file[len(folder) + 1 : -3]}{CACHE_SUFFIX}"
        if package:
            spec.submodule_search_locations = [folder]
        return spec


class ExtensionFinder(importlib.abc.MetaPathFinder):
    """Names the compiled extension that would be the module, when no other finder has found one."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = trees

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> None:
        """Always None.

        Raises:
            ImportError: there is a compiled extension of that name.
        """
        name = fullname.rpartition(".")[2]
        for folder in [shown.root for shown in self._trees] if path is None else list(path):
            for shown in self._trees:
                if shown.holds(folder):
                    self._refuse(fullname, name, folder, shown)

    def _refuse(self, fullname: str, name: str, folder: str, tree: Tree) -> None:
        try:
            files = sorted(os.listdir(folder))
        except OSError:
            return
        for file in files:
            if file.startswith(name) and (match := _EXTENSION.fullmatch(file)) and match["stem"] == name:
                raise ImportError(
                    f"{fullname} is a compiled extension ({tree.shown(f'{folder}/{file}')}): "
                    "only pure Python packages can be imported in the sandbox",
                    name=fullname,
                )


def _decoded(data: bytes) -> str:
    """The text of a source file. Most have no declaration of their encoding, which takes longer to look for than to decode them."""
    if data.isascii() and b"\r" not in data:
        return data.decode("ascii")
    return importlib.util.decode_source(data)


def remember(file: str, source: str) -> None:
    """Put a source into linecache, which would otherwise look for a real file of that name first."""
    # not `splitlines`: a form feed or a Unicode separator ends no line of Python
    linecache.cache[file] = (len(source), None, io.StringIO(source).readlines(), file)
