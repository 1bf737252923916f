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
from cloche.errors import ClocheError, ClosedError, GuestTrapError, ImageError, LimitError
from cloche.limits import Limits
from cloche.source import Modules, Source
from cloche_wire import tree

__all__ = ["COMPILER", "LIMITS", "CompiledPackages", "imported_names"]

_FORMAT: Final = 1
"""Version of what is kept. Raise it with each change of the tree's layout, or of how a package is compiled."""
MIB: Final = 1 << 20
_SECONDS: Final = 30.0
"""Time after which no further module of a package is compiled. A node compiles the others itself, when it imports them."""
_SMALL_FOLDER: Final = 64 << 10
"""A folder below this size is being worked on, perhaps, and takes no longer to compile than to look for."""
_LONG: Final = 150_000
"""Bytes of a package from which compiling takes more than a second, and is reported."""
_MOST_NAMES: Final = 2000
_MOST_CHARACTERS: Final = 200
_GIVEN_UP: Final = "-given-up"
"""Suffix of the key of a package that has broken the compiler, or kept it busy beyond its deadline."""

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

_IMPORT: Final = re.compile(
    r"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][\w.]{0,200}(?:[ \t]*,[ \t]*[A-Za-z_][\w.]{0,200})*)", re.MULTILINE
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
            if files is not None and files.can_write and key not in self._under_way and not files.has(key + _GIVEN_UP):
                self._compile(name, sent[name], modules, key, files)

    def _prepared(self, name: str, content: bytes, names: Collection[str]) -> bytes:
        if tree.is_tree(content) and len(content) < _SMALL_FOLDER:
            return content
        files = self._files()
        if files is None:
            return content
        key = self._key(name, content)
        kept = files.read(key)
        if kept is not None:
            return kept
        if key in self._under_way or files.has(key + _GIVEN_UP) or not files.can_write:
            return content  # if another thread compiles it, this load does not wait
        return self._compile(name, content, sorted(names), key, files) or content

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
            except OSError as error:
                self._tell(f"the compiled code of {name} cannot be kept ({error}): the next load compiles it again")
            return made
        except ClosedError:
            raise
        except ClocheError as error:
            self._tell(f"{name} is not compiled ahead: {str(error).splitlines()[0]}")
            if isinstance(error, (LimitError, GuestTrapError)):  # it would happen again
                with contextlib.suppress(OSError):
                    files.write(key + _GIVEN_UP, b"")
            return None
        finally:
            self._under_way.discard(key)


def imported_names(modules: Modules) -> set[str]:
    """Names of modules that the import statements of a node's code may lead to. The code is searched, not parsed."""
    found = {modules.main}
    for _, text, _ in modules.files.values():
        for match in _IMPORT.finditer(text):
            found.update(part.strip(" \t") for part in match[1].split(","))
            if len(found) > _MOST_NAMES:
                return found
    return found


def _is_names(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST_NAMES
        and all(type(name) is str and len(name) <= _MOST_CHARACTERS for name in value)
    )
