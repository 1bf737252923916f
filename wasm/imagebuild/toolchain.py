"""The cross compiler: Debian's clang-19 and wasi-libc, unpacked below the cache. All common flags of the build are here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild import archive
from imagebuild.pins import Pin
from imagebuild.stages import BuildError, cancelled

# Debian's clang-19 has its builtins under lib/wasi only, so the triple is not wasm32-wasip1.
TARGET = "--target=wasm32-wasi"
# What the guest's code may use of WebAssembly beyond clang's generic set; C library and CPython / numpy.
FEATURES = ("-mno-bulk-memory",)
NUMPY_FEATURES = ("-msimd128",)
OPTIMISE = ("-O3", "-g0", "-DNDEBUG", "-fno-strict-overflow")
EMULATED = ("-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_GETPID", "-D_WASI_EMULATED_PROCESS_CLOCKS")
STACK_BYTES = 8 << 20
LINK = (
    "-mexec-model=reactor",
    "-Wl,--strip-debug",
    "-Wl,--stack-first",  # an overflow then traps instead of running into data
    f"-Wl,-z,stack-size={STACK_BYTES}",
    "-Wl,-O2",
    "-Wl,--export=__stack_pointer",
)
LIBRARIES = (
    "-lwasi-emulated-signal",
    "-lwasi-emulated-getpid",
    "-lwasi-emulated-process-clocks",
    "-lm",
    "-ldl",
    "-lc-printscan-long-double",  # printf of numpy's long double
)
SOURCE_DATE_EPOCH = "1700000000"  # CPython and clang bake a build date in

_USEFUL = re.compile(
    r"usr/lib/llvm-19/bin/(clang|lld|wasm-ld|llvm-ar|llvm-ranlib)$"
    r"|usr/lib/llvm-19/(lib|include/wasm32-wasi)/.*"
    r"|usr/lib/clang/19/(include|lib)/.*|usr/lib/llvm-19/lib/clang/19.*"
    r"|usr/(lib|include)/wasm32-wasi/.*"
    r"|(usr/)?lib/x86_64-linux-gnu/.*\.so[.0-9]*"
)


def unpack(pins: Iterable[Pin], downloads: Path, out: Path) -> None:
    """Unpack the toolchain's packages into one tree, as far as the build needs them."""

    def keep(name: str) -> str | None:
        return name if _USEFUL.fullmatch(name) and "/share/" not in name and "llvm-19/build" not in name else None

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pin: archive.unpack_deb(downloads / pin.filename, out, keep), pins))
    linker = out / "usr/lib/llvm-19/bin/wasm-ld-19"  # the name that Debian's clang-19 calls
    if not linker.is_symlink():
        linker.symlink_to("lld")


def missing_libraries(tree: Path) -> str:
    """The dynamic loader's complaints when it runs the tools; empty if they run."""
    problems = []
    for tool in ("clang", "lld"):
        command = [
            str(tree / "usr/lib/llvm-19/bin" / tool),
            "--version",
            *(["-flavor", "wasm"] if tool == "lld" else []),
        ]
        try:
            result = subprocess.run(command, capture_output=True, text=True, env=tool_environment(tree), check=False)
        except OSError as error:
            return str(error)
        if "error while loading shared libraries" in result.stderr:
            problems.append(result.stderr.strip())
    return "; ".join(problems)


def tool_environment(tree: Path) -> dict[str, str]:
    """A small fixed environment, so that no variable of the user's reaches the compiler."""
    folders = (tree / "usr/lib/x86_64-linux-gnu", tree / "lib/x86_64-linux-gnu", tree / "usr/lib/llvm-19/lib")
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C",
        "TZ": "UTC",
        "LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders),
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
    }


@dataclass(frozen=True)
class Toolchain:
    """Compiles and links with the tools at `tree`.

    Attributes:
        tree: what `unpack` filled.
        maps: folders, and the names that stand for them in outputs, so that the bytes do not depend on the folder of the build;
            of two that match, the later one counts.
        jobs: processes at a time.
        note: called with what each process did and its processor seconds.
        slot: held while a process runs, so that not too many do.
    """

    tree: Path
    maps: tuple[tuple[Path, str], ...]
    jobs: int = field(default=2)
    note: Callable[[str, float], None] = field(default=lambda what, cpu_s: None)
    slot: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)

    @property
    def bin(self) -> Path:
        return self.tree / "usr/lib/llvm-19/bin"

    def flags(self, *, cxx: bool = False) -> list[str]:
        """What every compilation gets."""
        flags = [TARGET, f"--sysroot={self.tree / 'usr'}", *FEATURES, *EMULATED]
        flags += [f"-ffile-prefix-map={folder}={name}" for folder, name in self.maps]
        if cxx:
            headers = self.tree / "usr/lib/llvm-19/include/wasm32-wasi/c++/v1"
            flags += ["-nostdinc++", "-isystem", str(headers), "-fignore-exceptions"]
        return flags

    def compile_all(self, units: Sequence[tuple[Path, Path, Sequence[str]]]) -> None:
        """Compile sources: (source, object, flags) each, the largest first."""
        ordered = sorted(units, key=lambda unit: (-unit[0].stat().st_size, str(unit[0])))
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda unit: self.compile(*unit), ordered))

    def compile(self, source: Path, target: Path, flags: Sequence[str]) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        common = [*self.flags(cxx=source.suffix in (".cpp", ".cc")), *OPTIMISE]
        command: list[str | Path] = [self.bin / "clang", *common, *flags, "-c", source, "-o", target]
        self.run(command, f"compile {source.name}")

    def precompile(self, headers: Sequence[str], target: Path, flags: Sequence[str], *, cxx: bool = False) -> list[str]:
        """Parse headers once for many sources: the flags with which these are compiled then, beside the same `flags`.

        The sources see the headers before their own first line.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        text = target.with_suffix(".h")
        text.write_text("".join(f'#include "{name}"\n' for name in headers), "utf-8")
        language = "c++-header" if cxx else "c-header"
        command: list[str | Path] = [self.bin / "clang", *self.flags(cxx=cxx), *OPTIMISE, *flags, "-x", language]
        self.run([*command, text, "-o", target], f"precompile {text.name}")
        return ["-include-pch", str(target)]

    def join(self, objects: Sequence[Path], target: Path) -> None:
        """Optimise objects of ``-flto`` together, into one ordinary object."""
        response = target.with_suffix(".objects")
        response.write_text("".join(f"{shlex.quote(str(path))}\n" for path in objects), "utf-8")
        command: list[str | Path] = [self.bin / "wasm-ld-19", "-r", "--lto-O3", f"@{response}", "-o", target]
        self.run(command, f"optimise {target.name} as a whole")
        response.unlink()

    def link(
        self, objects: Sequence[Path], target: Path, flags: Sequence[str] = (), *, libraries: Sequence[str] = ()
    ) -> None:
        """Link a reactor. The order of the objects is the caller's and decides the layout."""
        response = target.with_suffix(".objects")
        response.write_text("".join(f"{shlex.quote(str(path))}\n" for path in objects), "utf-8")
        cxx = self.tree / "usr/lib/llvm-19/lib/wasm32-wasi"
        command: list[str | Path] = [self.bin / "clang", *self.flags(), *LINK, *flags, f"@{response}", f"-L{cxx}"]
        self.run([*command, *libraries, *LIBRARIES, "-o", target], f"link {target.name}")

    def run(
        self, command: Sequence[str | Path], what: str, cwd: Path | None = None, more: dict[str, str] | None = None
    ) -> str:
        """Run one tool. Its output is shown only if it fails."""
        environment = tool_environment(self.tree) | (more or {})
        with self.slot():
            if cancelled.is_set():
                raise BuildError(f"{what}: given up, another step failed")
            status, said, cpu_s = _run([os.fspath(word) for word in command], cwd, environment)
        self.note(what, cpu_s)
        if status:
            raise BuildError(f"{what} failed ({status}):\n{said[-6000:]}")
        return said


def _run(words: list[str], cwd: Path | None, environment: dict[str, str]) -> tuple[int, str, float]:
    """Run a process: its exit status, what it wrote, and the processor seconds of it and its children."""
    pipe, to_pipe = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        words, stdout=pipe, stderr=to_pipe, text=True, errors="replace", cwd=cwd, env=environment
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)  # unlike subprocess, it tells the time
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, said, usage.ru_utime + usage.ru_stime
