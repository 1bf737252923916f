"""Builds the guest's C code as extension modules of the Python that runs the tests: the codec, and the files."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from cloche_guest import values
from tests.compiled import kept

HERE = Path(__file__).parent
TREE = HERE.parents[2]
SHIM = TREE / "wasm" / "shim"
HEADER = TREE / "wasm" / "imagebuild" / "header.py"
SOURCES = ("check", "ring", "codec", "decode", "read", "encode", "write", "written", "path")
FILES = ("files", "memfs", "devices", "treefs", "hostfs")
OWN_BLOCKS = ("codec", "decode")  # where free() means a block of a request: the harness keeps count of those
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
)


class Unavailable(Exception):
    """This machine cannot build an extension module."""


def compiler() -> str:
    """The C compiler.

    Raises:
        Unavailable: there is none, or Python's headers are missing.
    """
    found = shutil.which(os.environ.get("CC", "cc"))
    if not found:
        raise Unavailable("no C compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise Unavailable("no Python.h")
    return found


def build() -> Path:
    """The codec; the module's file."""
    return _kept("cloche_native", SOURCES, "harness")


def build_files() -> Path:
    """The file code; the module's file."""
    command = [compiler(), "-fsyntax-only", "-include", "zlib.h", "-x", "c", os.devnull]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise Unavailable("no zlib.h")
    return _kept("cloche_files", FILES, "files_harness", ("-lz",))


def _kept(name: str, *parts: Any) -> Path:
    command = [compiler(), sanitizers(), sysconfig.get_path("include")]
    sources = [SHIM, HERE, TREE / "guest" / "cloche_wire", HEADER]
    folder = f"{name}-{sanitizers().partition(',')[0] or 'plain'}"
    return kept(folder, lambda folder: _compile(folder, name, *parts), command, sources)


@cache
def sanitizers() -> str:
    """What the code is compiled with: AddressSanitizer only where its library was loaded before Python (`address_sanitizer`)."""
    wanted = "address,undefined" if "libasan" in os.environ.get("LD_PRELOAD", "") else "undefined"
    command = [compiler(), f"-fsanitize={wanted}", "-shared", "-fPIC", "-x", "c", os.devnull, "-o", os.devnull]
    return "" if subprocess.run(command, capture_output=True, check=False).returncode else wanted


def _compile(folder: Path, name: str, sources: tuple[str, ...], harness: str, libraries: tuple[str, ...] = ()) -> Path:
    command = [
        compiler(),
        "-std=c11",
        "-g",
        "-O1",
        "-fPIC",
        *WARNINGS,
        f"-I{sysconfig.get_path('include')}",
        f"-I{SHIM}",
        f"-I{folder}",
    ]
    header = runpy.run_path(str(HEADER))
    header["write_headers"](TREE / "guest" / "cloche_wire", folder)
    if sanitizers():
        command += [f"-fsanitize={sanitizers()}", "-fno-sanitize-recover=all"]
    objects = []
    for source in (*(SHIM / f"{stem}.c" for stem in sources), HERE / f"{harness}.c"):
        target = folder / f"{source.stem}.o"
        counted = ["-include", str(HERE / "counted.h")] if source.stem in OWN_BLOCKS else []
        subprocess.run([*command, *counted, "-c", str(source), "-o", str(target)], check=True)
        objects.append(str(target))
    module = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([*command, "-shared", *objects, *libraries, "-o", str(module)], check=True)
    return module


def load(module: Path) -> Any:
    """Import the codec, with the guest's hooks."""
    native = load_files(module)
    native.hooks(values.encode, values.decode)
    return native


def load_files(module: Path) -> Any:
    """Import the file code. A copy of the file has a state of its own."""
    spec = importlib.util.spec_from_file_location(module.name.partition(".")[0], module)
    assert spec is not None
    assert spec.loader is not None
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    return native


def address_sanitizer() -> dict[str, str]:
    """What to add to the environment of a Python whose extension modules are built with AddressSanitizer.

    Raises:
        Unavailable: the compiler has none.
    """
    command = [compiler(), "-print-file-name=libasan.so"]
    library = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(library).is_absolute():
        raise Unavailable("the compiler has no AddressSanitizer")
    # Python itself leaves memory behind when it ends
    return {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"}
