"""Builds the guest's C code as extension modules of the Python that runs the tests: the codec, and the files."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from cloche_guest import values

HERE = Path(__file__).parent
TREE = HERE.parents[2]
SHIM = TREE / "wasm" / "shim"
SOURCES = ("check", "ring", "codec", "decode", "read", "encode", "meet", "write", "path")
FILES = ("files", "memfs", "hostfs")
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


def build(folder: Path, sanitize: bool = False) -> Path:
    """Compile the codec into `folder`; the module's file."""
    return _compile(folder, "cloche_native", SOURCES, "harness", sanitize)


def build_files(folder: Path, sanitize: bool = False) -> Path:
    """Compile the file code into `folder`; the module's file."""
    return _compile(folder, "cloche_files", FILES, "files_harness", sanitize)


def _compile(folder: Path, name: str, sources: tuple[str, ...], harness: str, sanitize: bool) -> Path:
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
    header = runpy.run_path(str(TREE / "wasm" / "imagebuild" / "header.py"))
    (folder / "abi.h").write_text(header["abi_header"](TREE / "guest" / "cloche_wire"), "utf-8")
    if sanitize:
        command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = []
    for source in (*(SHIM / f"{stem}.c" for stem in sources), HERE / f"{harness}.c"):
        target = folder / f"{source.stem}.o"
        counted = ["-include", str(HERE / "counted.h")] if source.stem in OWN_BLOCKS else []
        subprocess.run([*command, *counted, "-c", str(source), "-o", str(target)], check=True)
        objects.append(str(target))
    module = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([*command, "-shared", *objects, "-o", str(module)], check=True)
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


def sanitizer_library() -> str:
    """What must be preloaded so that Python can load a module built with `sanitize`."""
    command = [compiler(), "-print-file-name=libasan.so"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
