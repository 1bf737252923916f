"""Modules and package data held in memory: what the host sent as sources, wheels and zips.

A `Store` knows which modules there are and reads them; `cloche_guest.modules` makes them importable.
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
    """One module.

    Attributes:
        path: below the store's root, e.g. ``package/module.py``.
        package: whether it is a package's ``__init__``.
        file: ``__file__``, as tracebacks show it. No file of that name exists.
    """

    path: str
    package: bool
    file: str


class Store:
    """Modules and data of one origin.

    Attributes:
        root: what `Entry.file` and `__path__` start with.
        modules: dotted name -> entry.
        folders: dotted names of folders that hold modules but no ``__init__``: namespace packages.
        extensions: dotted name -> path of a compiled extension, which cannot be imported.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.modules: dict[str, Entry] = {}
        self.folders: set[str] = set()
        self.extensions: dict[str, str] = {}

    def source(self, path: str) -> str | bytes:
        """The source text (or its undecoded bytes) of an entry."""
        raise NotImplementedError

    def data(self, path: str) -> bytes:
        """Any file. Raises OSError when there is none."""
        raise NotImplementedError

    def tree(self, path: str) -> Any:
        """The `importlib.resources.abc.Traversable` of a folder."""
        raise NotImplementedError

    def metadata(self) -> Iterator[str]:
        """The ``.dist-info`` folders."""
        return iter(())

    def _add(self, name: str, entry: Entry) -> None:
        self.modules[name] = entry
        while "." in name:
            name = name.rpartition(".")[0]
            self.folders.add(name)


class Archive(Store):
    """A wheel or zip."""

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
        """Undecoded: the file may declare its encoding."""
        return self.data(path)

    def data(self, path: str) -> bytes:
        """The content of one member."""
        try:
            return self._zip.read(self._real[path])
        except KeyError:
            raise FileNotFoundError(2, "no such file in the package", f"{self.root}/{path}") from None

    def tree(self, path: str) -> zipfile.Path:
        """A folder of the archive."""
        return zipfile.Path(self._zip, f"{path}/" if path else "")

    def metadata(self) -> Iterator[str]:
        """The ``.dist-info`` folders."""
        return iter(sorted({path.partition("/")[0] for path in self._real if ".dist-info/" in path}))


class Sources(Store):
    """The node's own modules, and the data files of its package.

    Args:
        modules: dotted name -> ``[filename, source, is_package]``.
        files: path below the package's parent folder -> content.
    """

    def __init__(self, modules: Mapping[str, Sequence[Any]], files: Mapping[str, bytes]) -> None:
        super().__init__("")
        self._text: dict[str, str] = {}
        self._files = files
        for name, (filename, source, package) in modules.items():
            self._text[filename] = source
            self._add(name, Entry(filename, bool(package), filename))

    def __contains__(self, filename: object) -> bool:
        """Whether one of the modules has that file name."""
        return filename in self._text

    def source(self, path: str) -> str:
        """The text that the host decoded."""
        return self._text[path]

    def data(self, path: str) -> bytes:
        """A data file, or a module's source."""
        if path in self._files:
            return self._files[path]
        if path in self._text:
            return self._text[path].encode()
        raise FileNotFoundError(2, "no such file in the package", path)

    def tree(self, path: str) -> zipfile.Path:
        """A folder of the package, through an archive made of its data files."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name in [*self._files, *self._text]:
                archive.writestr(zipfile.ZipInfo(name), self.data(name))
        return zipfile.Path(zipfile.ZipFile(content), f"{path}/" if path else "")


def _is_dotted(stem: str) -> bool:
    return all(part.isidentifier() for part in stem.split("/"))
