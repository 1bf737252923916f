"""A node's code: text, a file or a package folder. The host reads all of it once, and sends it to the guest."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cloche._keywords import teaches_fields
from cloche.errors import ClocheError
from cloche.texts import short
from cloche_wire import tree

__all__ = ["Modules", "Source", "read", "walk"]


MAX_FILES: Final = 2000
MAX_BYTES: Final = 32 << 20
# Not idna, punycode and the like: they decode in quadratic time, and a stranger chooses the declaration.
_ENCODINGS: Final = re.compile(
    r"utf-8(-sig)?|ascii|latin-1|iso8859-[0-9]+|cp[0-9]+|koi8-[rtu]|mac-[a-z0-9-]+|gbk|gb2312|gb18030|big5(hkscs)?|johab|hz"
    r"|euc_[a-z0-9_]+|shift_jis[a-z0-9_]*|iso2022_[a-z0-9_]+|kz1048|tis-620|ptcp154|hp-roman8|palmos"
)
_LOOKS_LIKE_CODE: Final = re.compile(r"\n|\b(def|class|lambda|import|return)\s")
_MOST_PATH: Final = 10_000


def _what(value: object) -> str:
    """What a value is. Not its `repr`, which may be long, or secret."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return f"the function {value.__qualname__}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    return "None" if value is None else f"of type {type(value).__qualname__}"


def _instead(value: object) -> str:
    """How to load what was given in place of a source; "" if nothing is known."""
    if isinstance(value, (type, types.FunctionType)):
        named = value.__name__ if value.__name__.isidentifier() else "..."
        return f". For a class or function of this program: cloche.Source.of({named})"
    if isinstance(value, types.MethodType):
        return f". For the class of the method: cloche.Source.of({type(value.__self__).__name__})"
    if isinstance(value, types.ModuleType):
        return f". For a module: its path, {value.__name__}.__file__"
    if isinstance(value, (bytes, bytearray)):
        return ". For source text: cloche.Source(text.decode())"
    if type(value).__module__.partition(".")[0] == "cloche":
        kind = type(value).__name__
        return {
            "Source": ". It is a source already",
            "Snapshot": ". For a snapshot: runtime.restore(snapshot)",
            "Node": ". It is loaded already: node.clone() makes another one",
        }.get(kind, "")
    if value is None or type(value).__module__ in ("builtins", "pathlib"):
        return ""
    return f". For the class of the object: cloche.Source.of({type(value).__name__}), with params for its __init__"


@teaches_fields
@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """A node's code as text.

    Attributes:
        text: Python source of one module.
        filename: the name that tracebacks show. The guest cannot open it.

    Raises:
        TypeError: one of them is not a text.
    """

    text: str
    filename: str = "<node>"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"Source.text is {_what(self.text)}: give Python source as a text{_instead(self.text)}")
        if not isinstance(self.filename, str):
            raise TypeError(f"Source.filename is {_what(self.filename)}: give the name that tracebacks show, as a text")

    def __repr__(self) -> str:
        """The source's size; its text may be long."""
        lines = self.text.count("\n") + (not self.text.endswith("\n"))
        return f"<cloche.Source {short(self.filename)} of {lines} line{'' if lines == 1 else 's'}>"

    @classmethod
    def of(cls, target: Any) -> Self:
        """The source of a class or function of this program, for example one that was just defined in a notebook's cell.

        The text is read where the class was defined. It gets what the class uses of its module: imports, constants (numbers, texts
        and containers of them), and functions and classes of the same module or notebook. The node is a copy, made of text: later
        changes of the class, or of the constants, do not reach it.

        Args:
            target: a class or a function that was defined with ``class`` or ``def``.

        Raises:
            TypeError: `target` is something else, a lambda, or built in.
            ClocheError: it has no source that could be read; or it uses a name that cannot be taken along: of a function around it,
                not defined, or with a value that no literal can write. The message says which.
        """
        from cloche._live_source import source_of  # needs the parser, and few programs need it

        text, name = source_of(target)
        return cls(text, f"<{name}>")


@dataclass(frozen=True, slots=True)
class Modules:
    """A node's code as it is sent to the guest.

    Attributes:
        main: name of the module that has the entry.
        files: module name -> (filename, source, whether it is a package).
        folder: all files of a package folder as a tree; None for a single module, whose text is sent.
    """

    main: str
    files: dict[str, tuple[str, str, bool]]
    folder: bytes | None = None


def read(source: Source | str | os.PathLike[str], *, packages: bool = False) -> Modules:
    """Read a node's code.

    Args:
        source: a `Source`, the path of a .py file or of a package folder, or the dotted name of a module in a granted package.
        packages: whether packages are granted to the node, so that a dotted name may be a module in one of them.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ClocheError: the path is neither a .py file nor a package, or it is too large.
        SyntaxError: a file's encoding declaration is wrong, or its bytes do not fit it.
    """
    if isinstance(source, Source):
        return Modules("node", {"node": (source.filename, source.text, False)})
    given: Any = source
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        raise TypeError(
            f"source is {_what(source)}: give a cloche.Source, or the path of a .py file or of a package folder{_instead(source)}"
        )
    path = Path(source)
    exists = os.path.exists(path)  # noqa: PTH110  # False for a name that is too long, as a text of source is
    if isinstance(source, str) and packages and not exists and all(part.isidentifier() for part in source.split(".")):
        return Modules(source, {})
    if not exists:
        hint = " (for source text use cloche.Source(text))" if _LOOKS_LIKE_CODE.search(str(source)[:_MOST_PATH]) else ""
        raise FileNotFoundError(f"no such file or folder: {str(source)[:200]!r}{hint}")
    if path.is_dir():
        return _read_folder(path)
    if path.suffix != ".py":
        raise ClocheError(f"{path} is not a .py file or a package folder")
    name = path.stem if path.stem.isidentifier() else "node"
    return Modules(name, {name: (path.name, _text(path), False)})


def _text(path: Path) -> str:
    import codecs
    import tokenize

    if not path.is_file():
        raise ClocheError(f"{path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise ClocheError(f"{path.name} has more than {MAX_BYTES} bytes")
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)  # the file's coding declaration (PEP 263)
    if not _ENCODINGS.fullmatch(codecs.lookup(encoding).name):
        raise SyntaxError(
            f"{path.name} declares the encoding {encoding!r}, which is not one for sources: save it as UTF-8"
        )
    try:
        return path.read_text(encoding)
    except UnicodeDecodeError as error:
        raise SyntaxError(f"{path.name} is not in the encoding that it declares: {error}") from None


def _read_folder(folder: Path) -> Modules:
    folder = folder.resolve()
    if not (folder / "__init__.py").exists():
        raise ClocheError(f"{folder.name} is not a package: it has no __init__.py")
    files: dict[str, tuple[str, str, bool]] = {}
    found: dict[str, tree.File] = {}
    for path in walk(folder):
        relative = path.relative_to(folder.parent)
        content = path.read_bytes()
        found[relative.as_posix()] = tree.File(content, len(content))
        if path.suffix == ".py":
            package = path.name == "__init__.py"
            parts = relative.parent.parts if package else relative.with_suffix("").parts
            files[".".join(parts)] = (relative.as_posix(), _text(path), package)
    return Modules(folder.name, files, packed(folder.name, found))


def packed(name: str, found: dict[str, tree.File]) -> bytes:
    """The tree of a folder's files.

    Args:
        name: the folder's name, for errors.
        found: path below the folder -> file.

    Raises:
        ClocheError: the folder cannot be a tree, because a path in it is too long.
    """
    try:
        return tree.pack(found)
    except ValueError as error:
        raise ClocheError(f"the folder {name} cannot be used: {error}") from None


def walk(folder: Path) -> Iterator[Path]:
    """The files of a package, in sorted order, without hidden files and those in ``__pycache__``.

    Args:
        folder: the package's folder, with symbolic links resolved.

    Raises:
        ClocheError: a symbolic link leads out of the folder, or there are too many files or bytes.
    """
    count = total = 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part == "__pycache__" or part.startswith(".") for part in parts):
            continue
        if not path.resolve().is_relative_to(folder):
            raise ClocheError(f"{path.relative_to(folder)} is a link out of the package: copy the file in")
        count += 1
        total += path.stat().st_size
        if count > MAX_FILES or total > MAX_BYTES:
            raise ClocheError(f"package {folder.name} has more than {MAX_FILES} files or {MAX_BYTES} bytes")
        yield path
