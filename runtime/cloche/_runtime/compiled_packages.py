"""`CompiledPackages`: granted packages with compiled code, which is made once and kept in the user's cache.

The code of a package is made in a sandbox of its own, in which none of the package's code runs, and from nothing but the bytes of
that package (`cloche_guest.compiling`). Its file in the cache is named by the digest of these bytes, so a package can at worst
spoil its own code: what a node imports comes from the package that it was granted, whichever nodes have run here before.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeGuard

from cloche._runtime.package_files import PackageFiles
from cloche._wasm.checkout import cache_folder
from cloche.errors import ClocheError, ClosedError, GuestTrapError, ImageError, LimitError, NodeError
from cloche.limits import Limits
from cloche.source import Modules, Source
from cloche_wire import tree

__all__ = ["COMPILER", "LIMITS", "CompiledPackages", "imported_names"]

_FORMAT: Final = 1
"""Version of what is kept. Raise it with each change of the tree's layout, or of how a package is compiled."""
MIB: Final = 1 << 20
_SECONDS: Final = 30.0
"""Time after which no further module of a package is compiled. The next load continues; a node compiles the others itself."""
_MOST_ROUNDS: Final = 8
"""How often loads spend that time on one package. Then what is left of it is left to the nodes: it may be made to be slow."""
_SMALL_FOLDER: Final = 64 << 10
"""A folder below this size is being worked on, perhaps, and takes no longer to compile than to look for."""
_LONG: Final = 150_000
"""Bytes of a package from which compiling takes more than a second, and is reported."""
_MOST_NAMES: Final = 2000
_MOST_CHARACTERS: Final = 200
_GIVEN_UP: Final = "-given-up"
"""Suffix of the key of a package that the compiler has refused, or that has broken it or kept it busy beyond its deadline."""
_UNFINISHED: Final = "-unfinished"
"""Suffix of the key of a package whose compiler ran out of time; the content is the number of times, as one byte."""

COMPILER: Final = Source(
    """
from cloche_guest.compiling import compile_package

class Compiler:
    def __init__(self, **arguments):
        self.tree = compile_package(**arguments)

    def process(self):
        return self.tree
""",
    "<compiler>",
)
"""The node that compiles. It does so while it is loaded, because `Runtime.close` cancels loads."""
LIMITS: Final = Limits(
    load_s=_SECONDS + 15,
    deadline_s=15,
    fuel=100_000_000_000,
    memory_bytes=768 * MIB,
    request_bytes=160 * MIB,
    reply_bytes=160 * MIB,
    log_level=50,
)
"""Limits of the node that compiles."""
_GIVEN_UP_UNDER: Final = repr((_FORMAT, _SECONDS, LIMITS)).encode()
"""What a given-up package's file has in it: a version of Cloche that gives the compiler more tries the package again."""

_NAMES: Final = r"[A-Za-z_][\w.]{0,200}(?:[ \t]*,[ \t]*[A-Za-z_][\w.]{0,200})*"
_IMPORT: Final = re.compile(
    rf"^[ \t]*(?:import[ \t]+({_NAMES})|from[ \t]+([A-Za-z_][\w.]{{0,200}})(?:[ \t]+import[ \t]*(\([\w\s,]*|[\w \t,]*))?)",
    re.MULTILINE,
)


class CompiledPackages:
    """The packages of one runtime's nodes.

    Args:
        image: digest of the runtime's image, which has the compiler.
        compile_one: calls the node `COMPILER` in a new sandbox: (package, content, module names, seconds) -> a tree.
        tell: called with a line of text before something that takes seconds.
    """

    def __init__(
        self, image: str, compile_one: Callable[[str, bytes, list[str], float], Any], tell: Callable[[str], None]
    ) -> None:
        self._image = image
        self._compile_one = compile_one
        self._tell = tell
        self._under_way: set[str] = set()
        self._asked: dict[str, set[str]] = {}
        """Modules that were given to the compiler because a node has reported them, by the key of their package."""

    def prepared(self, packages: Mapping[str, bytes], names: Collection[str]) -> dict[str, bytes]:
        """The packages as they are sent to a node: with compiled code if there is some, or as they are.

        Args:
            packages: name -> a wheel, a zip or a tree.
            names: modules that the node imports.
        """
        return {name: self._prepared(name, content, names) for name, content in packages.items()}

    def extend(self, packages: Mapping[str, bytes], sent: Mapping[str, bytes], uncompiled: object) -> None:
        """Compile the modules that a node has imported without compiled code, for the next node.

        Args:
            packages: as for `prepared`.
            sent: what `prepared` has returned.
            uncompiled: untrusted: what the node reports, name of the package -> names of modules.
        """
        if not isinstance(uncompiled, dict):
            return
        for name, content in packages.items():
            modules = uncompiled.get(name)
            if not _is_names(modules) or not tree.is_tree(sent[name]) or sent[name] is content:
                continue
            key, files = self._key(name, content), self._files()
            if files is not None and files.can_write and key not in self._under_way and not _is_given_up(files, key):
                wanted = sorted(_uncompiled(sent[name], modules) - self._asked.setdefault(key, set()))
                self._asked[key].update(wanted)  # no node can make this process compile a module twice
                if wanted:
                    self._compile(name, sent[name], wanted, key, files)

    def _prepared(self, name: str, content: bytes, names: Collection[str]) -> bytes:
        if tree.is_tree(content) and len(content) < _SMALL_FOLDER:
            return content
        files = self._files()
        if files is None:
            return content
        key = self._key(name, content)
        kept = files.read(key)
        if kept is not None and not 0 < _rounds(files, key) < _MOST_ROUNDS:
            return kept
        so_far = content if kept is None else kept
        if key in self._under_way or _is_given_up(files, key) or not files.can_write:
            return so_far  # if another thread compiles it, this load does not wait
        return self._compile(name, so_far, sorted(names), key, files) or so_far

    def _files(self) -> PackageFiles | None:
        """The files in the cache; None if there is no cache. The environment says where it is, and may change."""
        try:
            return PackageFiles(cache_folder() / "packages")
        except ImageError:
            return None

    def _key(self, name: str, content: bytes) -> str:
        import hashlib  # slow to import: it loads OpenSSL

        digest = hashlib.sha256(content).hexdigest()
        return hashlib.sha256(repr((_FORMAT, self._image, name, digest)).encode()).hexdigest()

    def _compile(self, name: str, content: bytes, modules: list[str], key: str, files: PackageFiles) -> bytes | None:
        """Compile modules of a package and keep the result; None if that failed, which the load itself then explains."""
        self._under_way.add(key)
        try:
            if len(content) >= _LONG:
                self._tell(f"compiling {name} for the sandbox, once")
            began = time.perf_counter()
            made = self._compile_one(name, content, modules, _SECONDS)
            if type(made) is not bytes or not tree.is_tree(made):
                return None
            if (seconds := time.perf_counter() - began) > 1:
                self._tell(f"compiled {name} in {seconds:.1f} s")
            try:
                files.write(key, made)
                self._note_time(key, files, is_over=seconds >= _SECONDS)
            except OSError as error:
                self._tell(f"the compiled code of {name} cannot be kept ({error}): the next load compiles it again")
            return made
        except ClosedError:
            raise
        except ClocheError as error:
            self._tell(f"{name} is not compiled ahead: {str(error).splitlines()[0]}")
            if isinstance(error, (LimitError, GuestTrapError, NodeError)):  # it would happen again
                with contextlib.suppress(OSError):
                    files.write(key + _GIVEN_UP, _GIVEN_UP_UNDER)
            return None
        finally:
            self._under_way.discard(key)

    @staticmethod
    def _note_time(key: str, files: PackageFiles, is_over: bool) -> None:
        """Note whether the compiler has run out of time."""
        if is_over:
            files.write(key + _UNFINISHED, bytes((min(_rounds(files, key) + 1, 255),)))
        else:
            files.forget(key + _UNFINISHED)


def imported_names(modules: Modules) -> set[str]:
    """Names of modules that the import statements of a node's code may lead to. The code is searched, not parsed."""
    found = {modules.main}
    for _, text, _ in modules.files.values():
        for match in _IMPORT.finditer(text):
            plain, base, names = match.groups()
            if base is None:
                found.update(part.strip(" \t") for part in plain.split(","))
            else:
                found.add(base)
                for part in (names or "").removeprefix("(").split(","):
                    words = part.split(None, 1)  # "name", or "name as other"
                    if words and words[0].isidentifier() and len(words[0]) <= _MOST_CHARACTERS:
                        found.add(f"{base}.{words[0]}")
            if len(found) > _MOST_NAMES:
                return found
    return found


def _is_given_up(files: PackageFiles, key: str) -> bool:
    return files.read(key + _GIVEN_UP) == _GIVEN_UP_UNDER


def _rounds(files: PackageFiles, key: str) -> int:
    """How often the compiler has run out of time with a package; 0 if it has finished."""
    noted = files.read(key + _UNFINISHED)
    return noted[0] if noted else 0


def _uncompiled(block: bytes, names: list[str]) -> set[str]:
    """Those of the modules that a tree has the source of, and no compiled code."""
    try:
        paths = tree.files(block)
    except ValueError:
        return set()
    code = {path.rpartition(".cpython-")[0] for path in paths if path.endswith(".pyc")}
    found = set()
    for name in names:
        if "/" in name:
            continue
        path = name.replace(".", "/")
        for file in (f"{path}/__init__", path):
            folder, slash, stem = file.rpartition("/")
            if f"{file}.py" in paths and f"{folder}{slash}__pycache__/{stem}" not in code:
                found.add(name)
    return found


def _is_names(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST_NAMES
        and all(type(name) is str and len(name) <= _MOST_CHARACTERS for name in value)
    )
