"""Modules and package data in memory, which the host has sent as sources, wheels and zips.

A `Store` lists and reads modules; `cloche_guest.modules` makes them importable.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_EXTENSION: Final = re.compile(r"(?P<stem>.+?)(\.(cpython|cp|pypy|abi3|pyd)[^/]*)?\.(so|pyd|dylib|dll)$")
_WHEEL_DATA: Final = re.compile(r"[^/]+\.data/(purelib|platlib)/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One module of a store.

    Attributes:
        path: path below the store's root, e.g. ``package/module.py``.
        package: whether the module is a package's ``__init__``.
        file: the module's ``__file__``, which tracebacks show. No file of that name exists.
    """

    path: str
    package: bool
    file: str


class Store:
    """Modules and data files of one origin. Base class of `Archive` and `Sources`.

    Attributes:
        root: prefix of `Entry.file` and `__path__`.
        modules: dotted name -> entry.
        folders: dotted names of the folders that contain modules; those without ``__init__`` are namespace packages.
        extensions: dotted name -> path of a compiled extension, which cannot be imported.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.modules: dict[str, Entry] = {}
        self.folders: set[str] = set()
        self.extensions: dict[str, str] = {}

    def source(self, path: str) -> str | bytes:
        """The source of a module by its path: text, or bytes that are not decoded yet."""
        raise NotImplementedError

    def data(self, path: str) -> bytes:
        """The content of any file.

        Raises:
            OSError: there is no such file.
        """
        raise NotImplementedError

    def tree(self, path: str) -> Any:
        """A folder as an `importlib.resources.abc.Traversable`."""
        raise NotImplementedError

    def metadata(self) -> Iterator[str]:
        """Names of the ``.dist-info`` folders."""
        return iter(())

    def _add(self, name: str, entry: Entry) -> None:
        self.modules[name] = entry
        while "." in name:
            name = name.rpartition(".")[0]
            self.folders.add(name)


class Archive(Store):
    """A wheel or zip.

    Args:
        name: file name, for tracebacks.
        content: bytes of the file.

    Raises:
        ImportError: the bytes are not a zip archive.
    """

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(f"/packages/{name}")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except zipfile.BadZipFile as exc:
            raise ImportError(f"package {name!r} is not a wheel or zip: {exc}") from exc
        self._real: dict[str, str] = {}
        for real in self._zip.namelist():
            path = _WHEEL_DATA.sub("", real, count=1) if ".data/" in real else real
            self._real[path] = real
            self._index(path)

    def _index(self, path: str) -> None:
        if path.endswith(".py"):
            package = path.endswith("/__init__.py")
            stem = path.removesuffix("/__init__.py" if package else ".py")
            if _is_dotted(stem):
                self._add(stem.replace("/", "."), Entry(path, package, f"{self.root}/{path}"))
        elif (match := _EXTENSION.fullmatch(path)) and _is_dotted(match["stem"]):
            self.extensions[match["stem"].replace("/", ".")] = path

    def source(self, path: str) -> bytes:
        """The source of a module as bytes, since the file may declare its encoding."""
        return self.data(path)

    def data(self, path: str) -> bytes:
        """The content of one file of the archive."""
        try:
            return self._zip.read(self._real[path])
        except KeyError:
            raise FileNotFoundError(2, "no such file in the package", f"{self.root}/{path}") from None

    def tree(self, path: str) -> zipfile.Path:
        """A folder of the archive, as a path that can be walked."""
        return zipfile.Path(self._zip, f"{path}/" if path else "")

    def metadata(self) -> Iterator[str]:
        """Names of the ``.dist-info`` folders, sorted."""
        return iter(sorted({path.partition("/")[0] for path in self._real if ".dist-info/" in path}))


class Sources(Store):
    """The node's own modules, and the data files of its package.

    Args:
        modules: dotted name -> ``[filename, source, is_package]``.
        files: path below the parent folder of the package -> content.
    """

    def __init__(self, modules: Mapping[str, Sequence[Any]], files: Mapping[str, bytes]) -> None:
        super().__init__("")
        self._text: dict[str, str] = {}
        self._files = files
        for name, (filename, source, package) in modules.items():
            self._text[filename] = source
            self._add(name, Entry(filename, bool(package), filename))

    def __contains__(self, filename: object) -> bool:
        """Whether one of the modules has this file name."""
        return filename in self._text

    def source(self, path: str) -> str:
        """The source of a module as text, decoded by the host."""
        return self._text[path]

    def data(self, path: str) -> bytes:
        """The content of a data file, or the source of a module."""
        if path in self._files:
            return self._files[path]
        if path in self._text:
            return self._text[path].encode()
        raise FileNotFoundError(2, "no such file in the package", path)

    def tree(self, path: str) -> zipfile.Path:
        """A folder of the package, inside a zip archive that is made of all files."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name in [*self._files, *self._text]:
                archive.writestr(zipfile.ZipInfo(name), self.data(name))
        return zipfile.Path(zipfile.ZipFile(content), f"{path}/" if path else "")


def _is_dotted(stem: str) -> bool:
    return all(part.isidentifier() for part in stem.split("/"))
