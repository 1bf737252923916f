"""Imports from memory: a finder over `Store`s, with sources for tracebacks and data for `importlib.resources`."""

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
    """Loads one module of a store; this base alone is for a namespace package, which has no source."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self._name = name

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""

    def remember_lines(self) -> None:
        """Nothing to remember."""

    def get_resource_reader(self, fullname: str) -> _Resources | None:
        """Its data for `importlib.resources`."""
        return _Resources(self.store, self._name.replace(".", "/"))


class ModuleLoader(StoreLoader, importlib.abc.InspectLoader):
    """Loads one module that has a source."""

    def __init__(self, store: Store, name: str, entry: Entry) -> None:
        super().__init__(store, name)
        self._entry = entry

    def get_filename(self, fullname: str) -> str:
        """``__file__``."""
        return self._entry.file

    def is_package(self, fullname: str) -> bool:
        """Whether it has submodules."""
        return self._entry.package

    def get_source(self, fullname: str) -> str:
        """Its text: what linecache, inspect and tracebacks ask for."""
        source = self.store.source(self._entry.path)
        return source if isinstance(source, str) else importlib.util.decode_source(source)

    def exec_module(self, module: types.ModuleType) -> None:
        """Compile and run it."""
        self.remember_lines()
        source = self.store.source(self._entry.path)
        exec(compile(source, self._entry.file, "exec", dont_inherit=True), module.__dict__)  # the node's code

    def remember_lines(self) -> None:
        """Give linecache the source, as it keeps a loader's own: else it looks for a real file of that name first."""
        source = self.get_source(self._name)
        linecache.cache[self._entry.file] = (len(source), None, source.splitlines(keepends=True), self._entry.file)

    def get_data(self, path: str) -> bytes:
        """What `pkgutil.get_data` asks for: a path beside ``__file__``."""
        return self.store.data(path.removeprefix(f"{self.store.root}/") if self.store.root else path)

    def get_resource_reader(self, fullname: str) -> _Resources | None:
        """The package's data for `importlib.resources`."""
        if not self._entry.package:
            return None
        return _Resources(self.store, self._entry.path.rpartition("/")[0])


class _Resources:
    """A resource reader in its modern form: all that is asked of it is ``files()``."""

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
        """The spec of a module of this store, a namespace package, or None."""
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
            # what the import system would find out by itself, on its way through eight functions; nothing ever lies there
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
    """Make stores importable: the first before everything else, like a script's folder; the rest after the library."""
    sys.meta_path[:0] = finders[:1]
    sys.meta_path += finders[1:]


def unshadowed(main: str, files: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A single module named like one of the library's gets another name: nodes/types.py must not break the library."""
    if len(files) == 1 and main in files and (main in sys.stdlib_module_names or main in sys.modules):
        return f"node_{main}", {f"node_{main}": files[main]}
    return main, files


def load(name: str, finder: MemoryFinder) -> None:
    """Import a module; one of `finder`'s own at the top level without the search, which is most of what an import costs.

    Raises:
        ImportError: it is not there.
        BaseException: whatever the module raises.
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
