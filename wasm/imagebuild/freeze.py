"""Turns Python sources into one object of marshalled code, compiled by the freezer: a wasm build of the same CPython.

Every module is compiled in a fresh instance of the freezer's snapshot, so its code depends on its own text alone and
not on what was compiled before it.
"""

from __future__ import annotations

import io
import json
import os
import threading
import tokenize
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import wasmtime

from imagebuild import driver
from imagebuild.driver import Abi, Guest, GuestError
from imagebuild.stages import BuildError
from imagebuild.toolchain import Toolchain

# Left out of the standard library: tk is not there, pip cannot install, and the rest is for tests, another system, or large and
# of no use to a node. docs/reference/standard-library.md gives the reasons.
LEFT_OUT = frozenset(
    """__hello__ __phello__ _ios_support ensurepip idlelib lib2to3 pydoc_data test tkinter turtle turtledemo""".split()
)
NO_SOURCE = frozenset({"__pycache__", "test", "tests", "idle_test"})
ALIGN = 16
# CPython hides the frames of its import system from tracebacks by these names.
FILENAMES = {
    "importlib._bootstrap": "<frozen importlib._bootstrap>",
    "importlib._bootstrap_external": "<frozen importlib._bootstrap_external>",
}
BOOTSTRAP = {
    "_frozen_importlib": "importlib._bootstrap",
    "_frozen_importlib_external": "importlib._bootstrap_external",
    "zipimport": "zipimport",
}


@dataclass(frozen=True)
class Source:
    """One Python module to freeze."""

    name: str
    path: Path
    is_package: bool
    addition: Path | None = None
    """Text that is compiled behind the module's own."""

    @property
    def filename(self) -> str:
        """The file name that tracebacks show."""
        if self.name in FILENAMES:
            return FILENAMES[self.name]
        return f"<cloche>/{self.name.replace('.', '/')}{'/__init__' if self.is_package else ''}.py"


def sources(
    root: Path, left_out: frozenset[str] = frozenset(), only: frozenset[str] | None = None, *, parts: bool = False
) -> list[Source]:
    """The modules below a folder of sys.path, sorted by name.

    Args:
        root: the folder.
        left_out: top-level names that are not wanted.
        only: if given, all other top-level names are left out as well.
        parts: take folders without ``__init__.py`` as well: parts of packages whose other modules lie elsewhere.
    """
    found: list[Source] = []

    def walk(folder: Path, prefix: str) -> None:
        for entry in sorted(os.listdir(folder)):
            path, name = folder / entry, entry.removesuffix(".py")
            unwanted = name in left_out or (only is not None and name not in only)
            if entry in NO_SOURCE or (unwanted and not prefix):
                continue
            if (path / "__init__.py").is_file():
                found.append(Source(prefix + name, path / "__init__.py", True))
                walk(path, f"{prefix}{name}.")
            elif parts and path.is_dir():
                walk(path, f"{prefix}{name}.")
            elif entry.endswith(".py") and entry != "__init__.py":
                found.append(Source(prefix + name, path, False))

    walk(root, "")
    return sorted(found, key=lambda source: source.name)


def with_additions(modules: Iterable[Source], folder: Path) -> list[Source]:
    """The modules, with the files of `folder` (<dotted name>.py) behind those that they are named after.

    Raises:
        BuildError: there is no module of a file's name.
    """
    additions = {path.stem: path for path in folder.glob("*.py")}
    added = [replace(module, addition=additions.pop(module.name, None)) for module in modules]
    if additions:
        raise BuildError(f"{folder}: no module is named {', '.join(sorted(additions))}")
    return added


class Freezer:
    """Compiles source text with freezer.wasm. The native code of that module is kept in a file beside it."""

    def __init__(self, wasm: Path, abi: Abi) -> None:
        self._engine = driver.engine()
        self._abi = abi
        native = wasm.with_suffix(f".{metadata.version('wasmtime')}.cwasm")
        try:
            self._module = wasmtime.Module.deserialize_file(self._engine, str(native))
        except wasmtime.WasmtimeError:  # absent, or made on another machine
            self._module = wasmtime.Module.from_file(self._engine, wasm)
            part = native.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
            part.write_bytes(self._module.serialize())
            part.replace(native)

    def compile(self, source: Source) -> bytes:
        """Marshalled code of one module.

        Raises:
            BuildError: it does not compile.
        """
        body = source.path.read_bytes()
        if source.addition:
            body += b"\n\n" + source.addition.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(body).readline)
        text = body.decode(encoding).replace("\r\n", "\n")
        guest = Guest(self._engine, self._module, self._abi)
        arguments = [guest.put(word.encode() + b"\0", "freezer_alloc") for word in (text, source.filename)]
        try:
            packed = guest.call("freezer_compile", *arguments)
        except GuestError as error:
            raise BuildError(f"{source.path}: the freezer failed: {error}") from error
        if not packed:
            said = guest.read_packed(guest.call("freezer_said")).decode(errors="replace")
            raise BuildError(f"{source.path} does not compile: {said}")
        return guest.read_packed(packed)


def freeze(freezer: Freezer, toolchain: Toolchain, symbol: str, modules: Iterable[Source], out: Path) -> None:
    """Compile modules into `out`/<symbol>.o (one array of bytes) and `out`/index.json (name, offset, size, package)."""
    wanted = list(modules)
    blob, index = bytearray(), []

    def compiled(source: Source) -> bytes:
        with toolchain.slot():
            return freezer.compile(source)

    with ThreadPoolExecutor(toolchain.jobs) as pool:
        for source, code in zip(wanted, pool.map(compiled, wanted), strict=True):
            index.append((source.name, len(blob), len(code), source.is_package))
            blob += code + bytes(-len(code) % ALIGN)
    (out / "index.json").write_text(json.dumps(index), "utf-8")
    (out / f"{symbol}.bin").write_bytes(blob)
    text = f'const unsigned char {symbol}[] __attribute__((aligned({ALIGN}))) = {{\n#embed "{symbol}.bin"\n}};\n'
    (out / f"{symbol}.c").write_text(text, "utf-8")
    toolchain.compile(out / f"{symbol}.c", out / f"{symbol}.o", ["-std=c23", "-w"])


def table(blobs: dict[str, list[tuple[str, int, int, bool]]]) -> str:
    """C source of the tables of frozen modules: `image_frozen`, and `image_frozen_boot` for the import system itself.

    Args:
        blobs: the index of each blob by its symbol. Where two have a module, the later wins.
    """
    rows: dict[str, str] = {}
    for symbol, index in blobs.items():
        for name, offset, size, is_package in index:
            rows[name] = f"{symbol} + {offset}, {size}, {int(is_package)}"
    lines = ["/* Generated. */", "#include <Python.h>"]
    lines += [f"extern const unsigned char {symbol}[];" for symbol in blobs]
    lines += ["const struct _frozen image_frozen_boot[] = {"]
    lines += [f'    {{"{name}", {rows[origin]}}},' for name, origin in BOOTSTRAP.items()]
    lines += ["    {0}", "};", "const struct _frozen image_frozen[] = {"]
    lines += [f'    {{"{name}", {row}}},' for name, row in sorted(rows.items()) if name not in BOOTSTRAP]
    return "\n".join([*lines, "    {0}", "};", ""])
