"""CPython for WASI without its configure and make: pyconfig.h, objects, and the C libraries below it."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from imagebuild import archive
from imagebuild.stages import BuildError
from imagebuild.toolchain import Toolchain

_UNDEF = re.compile(r"^(\s*#\s*)undef (\w+)(.*)$")


@dataclass(frozen=True)
class Library:
    """A C library: a pin and the sources of it to compile (cpython/libraries.toml)."""

    pin: str
    include: str
    flags: list[str]
    sources: list[str]


def libraries(folder: Path) -> list[Library]:
    return [Library(**entry) for entry in tomllib.loads((folder / "libraries.toml").read_text("utf-8"))["library"]]


def builtin_modules(folder: Path) -> list[str]:
    """The C modules of the standard library that are linked in."""
    return list(tomllib.loads((folder / "objects.toml").read_text("utf-8"))["builtin"])


def pyconfig(template: str, answers: str) -> str:
    """pyconfig.h from the source's pyconfig.h.in and the list of what is defined.

    Raises:
        BuildError: the list names something that the template does not have.
    """
    defined = dict(line.split(" ", 1) for line in answers.splitlines() if line and not line.startswith("#"))
    used = set()

    def answer(line: str) -> str:
        match = _UNDEF.match(line)
        if not match or match[2] not in defined:
            return line
        used.add(match[2])
        return f"{match[1]}define {match[2]} {defined[match[2]]}"

    text = "\n".join(answer(line) for line in template.splitlines()) + "\n"
    if unknown := sorted(defined.keys() - used):
        raise BuildError(f"pyconfig.h.in does not know {', '.join(unknown)}")
    return text


def includes(source: Path, config: Path) -> list[str]:
    """Include flags for CPython's own C files: the sources and the folder that has pyconfig.h."""
    inner = ("Include", "Include/internal", "Include/internal/mimalloc")
    return [f"-I{config}", *(f"-I{source / folder}" for folder in inner)]


def compile_libraries(toolchain: Toolchain, described: list[Library], tarballs: dict[str, Path], out: Path) -> None:
    """Compile zlib, bzip2 and xz into `out`/<pin>/o, their headers into `out`/include."""
    (out / "include").mkdir()
    units: list[tuple[Path, Path, list[str]]] = []
    for library in described:
        source = out / library.pin / "source"
        archive.unpack_tar(tarballs[library.pin], source)
        flags = [flag.replace("-I", f"-I{source}/", 1) if flag.startswith("-I") else flag for flag in library.flags]
        target = out / library.pin / "o"
        units += [(source / name, target / f"{Path(name).stem}.o", [*flags, "-w"]) for name in library.sources]
        shutil.copytree(source / library.include, out / "include", dirs_exist_ok=True, ignore=_not_headers)
    toolchain.compile_all(units)
    for library in described:
        shutil.rmtree(out / library.pin / "source")


def _not_headers(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".h") and not (Path(folder, name).is_dir() and name == "lzma")]


def compile_objects(toolchain: Toolchain, folder: Path, source: Path, config: Path, headers: Path, out: Path) -> None:
    """Compile the sources that cpython/objects.toml lists; those of a ``whole`` group become one object."""
    units: list[tuple[Path, Path, list[str]]] = []
    whole: list[Path] = []
    common = ["-std=c11", "-fvisibility=hidden", "-w", "-Wno-int-conversion", *includes(source, config), f"-I{headers}"]
    for group in tomllib.loads((folder / "objects.toml").read_text("utf-8"))["group"]:
        flags = [flag.replace("-I", f"-I{source}/", 1) if flag.startswith("-I") else flag for flag in group["flags"]]
        targets = [(out / name).with_suffix(".o") for name in group["sources"]]
        if group.get("whole"):
            flags.append("-flto")
            whole += targets
        units += [
            (source / name, target, [*flags, *common]) for name, target in zip(group["sources"], targets, strict=True)
        ]
    toolchain.compile_all(units)
    toolchain.join(sorted(whole), out / "whole.o")
    for path in whole:
        path.unlink()


def objects(folder: Path) -> list[Path]:
    """Every object below a folder, in an order that depends on the names alone."""
    return sorted(folder.rglob("*.o"), key=lambda path: path.relative_to(folder).as_posix())
