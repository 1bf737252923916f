"""Imports modules from `Store`s in memory, with sources for tracebacks and data for `importlib.resources`."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import types
    from collections.abc import Iterator, Sequence

    from cloche_guest.archive import Entry, Store


_CACHE_SUFFIX: Final = f".{sys.implementation.cache_tag}.pyc"


class StoreLoader(importlib.abc.Loader):
    """Loads a namespace package, which has no source. Base class of `ModuleLoader`."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self._name = name

    def exec_module(self, module: types.ModuleType) -> None:
        """Does nothing: a namespace package has no code."""

    def remember_lines(self) -> None:
        """Does nothing: a namespace package has no source."""

    def get_resource_reader(self, fullname: str) -> _Resources | None:
        """The package's data for `importlib.resources`."""
        return _Resources(self.store, self._name.replace(".", "/"))


class ModuleLoader(StoreLoader, importlib.abc.InspectLoader):
    """Loads one module from its source."""

    def __init__(self, store: Store, name: str, entry: Entry) -> None:
        super().__init__(store, name)
        self._entry = entry

    def get_filename(self, fullname: str) -> str:
        """The module's ``__file__``."""
        return self._entry.file

    def is_package(self, fullname: str) -> bool:
        """Whether the module is a package."""
        return self._entry.package

    def get_source(self, fullname: str) -> str:
        """The module's source, for linecache, inspect and tracebacks."""
        source = self.store.source(self._entry.path)
        return source if isinstance(source, str) else importlib.util.decode_source(source)

    def exec_module(self, module: types.ModuleType) -> None:
        """Compile and run the module."""
        self.remember_lines()
        source = self.store.source(self._entry.path)
        exec(compile(source, self._entry.file, "exec", dont_inherit=True), module.__dict__)  # code of the node

    def remember_lines(self) -> None:
        """Put the source into linecache, which would otherwise look for a real file of that name first."""
        source = self.get_source(self._name)
        linecache.cache[self._entry.file] = (len(source), None, source.splitlines(keepends=True), self._entry.file)

    def get_data(self, path: str) -> bytes:
        """The content of a file beside ``__file__``, for `pkgutil.get_data`."""
        return self.store.data(path.removeprefix(f"{self.store.root}/") if self.store.root else path)

    def get_resource_reader(self, fullname: str) -> _Resources | None:
        """The package's data for `importlib.resources`."""
        if not self._entry.package:
            return None
        return _Resources(self.store, self._entry.path.rpartition("/")[0])


class _Resources:
    """A resource reader for `importlib.resources`, which calls only ``files()``."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def files(self) -> Any:
        return self._store.tree(self._folder)


class MemoryFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module or namespace package of this store; None if the store has none of that name."""
        store = self.store
        entry = store.modules.get(fullname)
        if entry is None:
            if fullname in store.extensions:
                raise ImportError(
                    f"{fullname} is a compiled extension ({store.root}/{store.extensions[fullname]}): "
                    "only pure Python packages can be imported in the sandbox",
                    name=fullname,
                )
            if fullname in store.folders:
                return importlib.machinery.ModuleSpec(fullname, StoreLoader(store, fullname), is_package=True)
            return None
        loader = ModuleLoader(store, fullname, entry)
        spec = importlib.machinery.ModuleSpec(fullname, loader, origin=entry.file, is_package=entry.package)
        spec.has_location = True
        if entry.file.endswith(".py"):
            # the import system would compute the same path in eight function calls; no file is ever there
            folder, slash, name = entry.file[:-3].rpartition("/")
            spec.cached = f"{folder}{slash}__pycache__/{name}{_CACHE_SUFFIX}"
        if entry.package:
            spec.submodule_search_locations = [entry.file.rpartition("/")[0]]
        return spec

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """The wheel's metadata for `importlib.metadata`, e.g. ``version("package")``."""
        from cloche_guest.metadata import distributions

        return distributions(self.store, None if context is None else context.name)


def install(finders: Sequence[MemoryFinder]) -> None:
    """Make stores importable: the first one before the standard library, like a script's folder, the others after it."""
    sys.meta_path[:0] = finders[:1]
    sys.meta_path += finders[1:]


def unshadowed(main: str, files: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Rename a single module with the name of a standard library module, so that a node in types.py does not break the library.

    Args:
        main: name of the main module.
        files: dotted name -> module.

    Returns:
        both, with another name if necessary.
    """
    if len(files) == 1 and main in files and (main in sys.stdlib_module_names or main in sys.modules):
        return f"node_{main}", {f"node_{main}": files[main]}
    return main, files


def load(name: str, finder: MemoryFinder) -> None:
    """Import a module. A top-level module of `finder` is imported without the search, which takes most of the time of an import.

    Raises:
        ImportError: there is no such module.
        BaseException: the module raised this.
    """
    spec = finder.find_spec(name) if name in finder.store.modules and name not in sys.modules else None
    if spec is None or spec.loader is None or "." in name:
        __import__(name)
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
