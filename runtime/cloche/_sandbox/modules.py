"""The Python modules of a node: its text, file or package folder, read whole by the host, because the guest has no file system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloche.errors import ClocheError
from cloche.source import Source, walk

if TYPE_CHECKING:
    from cloche.grants import Grants

__all__ = ["Modules", "read"]


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules that LOAD sends to the guest.

    Attributes:
        main: dotted name of the module that has the entry.
        files: dotted module name -> (file name for tracebacks, source text, whether the module is a package).
        data: files that are not Python, for `importlib.resources`: path below the folder's parent -> content.
    """

    main: str
    files: dict[str, tuple[str, str, bool]]
    data: dict[str, bytes]


def read(source: Source | str | os.PathLike[str], grants: Grants) -> Modules:
    """Read a node's code.

    Args:
        source: a `Source`, the path of a .py file or of a package folder, or the dotted name of a module in a granted package.
        grants: the node's; a dotted name is looked for only if packages are granted.

    Raises:
        FileNotFoundError: the path does not exist.
        ClocheError: the path is neither a .py file nor a package folder, or the package is too large.
        SyntaxError: a file has a wrong encoding declaration (PEP 263).
    """
    if isinstance(source, Source):
        return Modules("node", {"node": (source.filename, source.text, False)}, {})
    path = Path(source)
    if (
        isinstance(source, str)
        and grants.packages
        and not path.exists()
        and all(part.isidentifier() for part in source.split("."))
    ):
        return Modules(source, {}, {})
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        hint = " (for source text use cloche.Source(text))" if "\n" in str(source) else ""
        raise FileNotFoundError(f"no such file or folder: {str(source)[:200]!r}{hint}")
    if path.suffix != ".py":
        raise ClocheError(f"{path} is not a .py file or a package folder")
    name = path.stem if path.stem.isidentifier() else "node"
    return Modules(name, {name: (path.name, _text(path), False)}, {})


def _text(path: Path) -> str:
    import tokenize

    with tokenize.open(path) as file:  # decodes by the file's coding declaration (PEP 263)
        return file.read()


def _read_folder(folder: Path) -> Modules:
    folder = folder.resolve()
    if not (folder / "__init__.py").exists():
        raise ClocheError(f"{folder.name} is not a package: it has no __init__.py")
    files: dict[str, tuple[str, str, bool]] = {}
    data: dict[str, bytes] = {}
    for path in walk(folder):
        relative = path.relative_to(folder.parent)
        if path.suffix == ".py":
            package = path.name == "__init__.py"
            parts = relative.parent.parts if package else relative.with_suffix("").parts
            files[".".join(parts)] = (relative.as_posix(), _text(path), package)
        else:
            data[relative.as_posix()] = path.read_bytes()
    return Modules(folder.name, files, data)
