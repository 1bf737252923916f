"""CPython for WASI without its configure and make: pyconfig.h, objects, and the C libraries below it."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Group:
    """Sources of CPython that are compiled with the same flags (cpython/objects.toml).

    Attributes:
        flags: include folders among them are relative to CPython's source.
        sources: relative to CPython's source.
        whole: they are optimised together, as one object.
        headers: parsed once for all of them, and included before each.
    """

    flags: list[str]
    sources: list[str]
    whole: bool = False
    headers: list[str] = field(default_factory=list)


def libraries(folder: Path) -> list[Library]:
    return [Library(**entry) for entry in tomllib.loads((folder / "libraries.toml").read_text("utf-8"))["library"]]


def builtin_modules(folder: Path) -> list[str]:
    """The C modules of the standard library that are linked in."""
    return list(tomllib.loads((folder / "objects.toml").read_text("utf-8"))["builtin"])


def groups(folder: Path) -> list[Group]:
    return [Group(**entry) for entry in tomllib.loads((folder / "objects.toml").read_text("utf-8"))["group"]]


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


def unpack_libraries(described: list[Library], tarballs: dict[str, Path], out: Path) -> None:
    """Unpack the sources of zlib, bzip2 and xz into `out`/<pin>, and their headers into `out`/include."""
    (out / "include").mkdir()
    for library in described:
        archive.unpack_tar(tarballs[library.pin], out / library.pin)
        shutil.copytree(out / library.pin / library.include, out / "include", dirs_exist_ok=True, ignore=_not_headers)


def compile_libraries(toolchain: Toolchain, described: list[Library], unpacked: Path, out: Path) -> None:
    """Compile zlib, bzip2 and xz into `out`/<pin>."""
    units: list[tuple[Path, Path, list[str]]] = []
    for library in described:
        source = unpacked / library.pin
        flags = [*_below(source, library.flags), "-w"]
        units += [(source / name, out / library.pin / f"{Path(name).stem}.o", flags) for name in library.sources]
    toolchain.compile_all(units)


def _below(source: Path, flags: Iterable[str]) -> list[str]:
    """The flags, with include folders named from `source`."""
    return [flag.replace("-I", f"-I{source}/", 1) if flag.startswith("-I") else flag for flag in flags]


def _not_headers(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".h") and not (Path(folder, name).is_dir() and name == "lzma")]


def compile_objects(
    toolchain: Toolchain, described: Iterable[Group], source: Path, more: Sequence[str], out: Path
) -> list[Path]:
    """Compile the sources of groups into objects of the same names below `out`; answers the objects."""
    common = ["-std=c11", "-fvisibility=hidden", "-w", "-Wno-int-conversion", *more]
    units: list[tuple[Path, Path, list[str]]] = []
    parsed = out / "headers"
    for number, group in enumerate(described):
        flags = [*_below(source, group.flags), *common]
        if group.headers:
            flags += toolchain.precompile(group.headers, parsed / f"{number}.pch", flags)
        units += [(source / name, (out / name).with_suffix(".o"), flags) for name in group.sources]
    toolchain.compile_all(units)
    shutil.rmtree(parsed, ignore_errors=True)
    return [target for _, target, _ in units]


def compile_whole(
    toolchain: Toolchain, described: Iterable[Group], source: Path, more: Sequence[str], out: Path
) -> None:
    """Compile the sources of groups into `out`/whole.o, optimised together."""
    parts = compile_objects(toolchain, described, source, [*more, "-flto"], out)
    toolchain.join(sorted(parts), out / "whole.o")
    for path in parts:
        path.unlink()


def objects(folder: Path) -> list[Path]:
    """Every object below a folder, in an order that depends on the names alone."""
    return sorted(folder.rglob("*.o"), key=lambda path: path.relative_to(folder).as_posix())
