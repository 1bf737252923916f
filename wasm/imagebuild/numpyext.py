"""numpy's extension modules and Python files, built for WASI by numpy's own meson build with the host's Python."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagebuild import archive, blas, patch
from imagebuild.stages import BuildError
from imagebuild.toolchain import NUMPY_FEATURES, Toolchain

# Everything but lapack_lite (its symbols clash with _umath_linalg's) and numpy's test modules.
MODULES = (
    "numpy._core._multiarray_umath",
    "numpy.fft._pocketfft_umath",
    "numpy.linalg._umath_linalg",
    "numpy.random._bounded_integers",
    "numpy.random._common",
    "numpy.random._generator",
    "numpy.random._mt19937",
    "numpy.random._pcg64",
    "numpy.random._philox",
    "numpy.random._sfc64",
    "numpy.random.bit_generator",
    "numpy.random.mtrand",
)
OPTIONS = (
    "--buildtype=release",
    f"-Dblas={blas.NAME}",
    "-Dlapack=none",
    "-Dallow-noblas=true",
    "-Ddisable-optimization=true",
    "-Ddisable-threading=true",
    "-Ddefault_library=static",
)
COMPILERS = ("c_COMPILER", "cpp_COMPILER")
GENERATORS = ("CUSTOM_COMMAND", "cython_COMPILER")
"""meson's names of ninja's rules."""
_LEFT_OUT = re.compile(r"numpy/(f2py|distutils|_build_utils|typing/tests)/.*|.*/tests/.*|.*/meson[^/]*|.*/setup\.py")
_FUNCTION = re.compile(r"\b(random_[a-z0-9_]+|logfactorial)\s*\(")

_CROSS = """[binaries]
c = '{tools}/cc'
cpp = '{tools}/c++'
ar = '{tools}/ar'
ranlib = '{tools}/ranlib'
cython = ['{python}', '{tools}/cython.py']
strip = 'true'
pkg-config = '{tools}/pkg-config'
[host_machine]
system = 'wasi'
cpu_family = 'wasm32'
cpu = 'wasm32'
endian = 'little'
[properties]
longdouble_format = 'IEEE_QUAD_LE'
skip_sanity_check = true
needs_exe_wrapper = true
"""

# meson passes flags of the host's Python and of shared libraries. The include path is replaced; a "shared library"
# becomes an empty file, because the image is linked from the objects.
_DRIVER = """#!/bin/sh
out=; prev=; shared=; compile=; link=1
for a do
  shift
  case $a in
    -I*/include/python3*|-fPIC|-Wl,--start-group|-Wl,--end-group|-Wl,-O1|-Wl,--as-needed|-Wl,--allow-shlib-undefined)
      prev=; continue ;;
    -shared) shared=1 ;;
    -c) compile=1; link= ;;
    -E|--version|-v|-dM|-dumpversion|-Wl,--version) link= ;;
  esac
  [ "$prev" = -o ] && out=$a
  prev=$a
  set -- "$@" "$a"
done
if [ "$shared" ]; then : > "$out"; exit 0; fi
if [ "$compile" ]; then set -- {compile} "$@"; fi
case $compile$out in
  1*mtrand.cpython*) set -- -include {legacy} "$@" ;;
  1*f2c_blas.c.o|1*lapack_lite_python_xerbla.c.o) set -- -include {weak} "$@" ;;
esac
if [ "$link" ]; then set -- "$@" {link} {libraries}; fi
exec {compiler} {flags} {more} "$@"
"""

# Answers what meson asks of pkg-config. The BLAS is linked with the image, so meson gets no flags for it.
_PKG_CONFIG = """#!/bin/sh
case "$*" in
  --version) echo 1.0 ;;
  *--modversion*{name}) echo {version} ;;
  *{name}) ;;
  *) exit 1 ;;
esac
"""

_CYTHON = """import sys
sys.path.insert(0, {path!r})
from Cython.Compiler.Main import setuptools_main
setuptools_main()
"""


def unpack(tarball: Path, changes: Path, out: Path) -> None:
    """Unpack numpy's sources, add the C of `changes` to them, and apply its patches."""
    archive.unpack_tar(tarball, out, lambda name: None if name.startswith(("doc/", "benchmarks/")) else name)
    for path in sorted(changes.glob("*.[ch]")):
        shutil.copyfile(path, out / "numpy/_core/src/common" / path.name)
    for path in sorted(changes.glob("*.patch")):
        try:
            patch.apply(path.read_text("utf-8"), out)
        except patch.PatchError as error:
            raise BuildError(f"{path.name}: {error}") from error


def build(toolchain: Toolchain, source: Path, python_headers: list[str], host_tools: Path, out: Path) -> None:
    """Compile MODULES and what they are linked with into `out`/objects, Python files into `out`/python.

    The work folder is `out`/work and is removed.
    """
    tools, work = out / "tools", out / "work"
    tools.mkdir()
    (tools / "legacy.h").write_text(_legacy_names(source), "utf-8")
    weak = [*blas.FORTRAN, "xerbla_"]  # both modules with a BLAS below them have their own xerbla_, and the same
    (tools / "weak.h").write_text("".join(f"#pragma weak {name}\n" for name in weak), "utf-8")
    relative = f"-ffile-prefix-map={os.path.relpath(source, work)}=numpy-source"  # how ninja names the sources
    _write_drivers(toolchain, [*python_headers, relative], host_tools, tools)
    cross = tools / "cross.ini"
    cross.write_text(_CROSS.format(tools=tools, python=sys.executable), "utf-8")
    ninja = host_tools / "bin/ninja"
    environment = {
        "NINJA": str(ninja),
        "PATH": f"{tools}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
    meson: list[str | Path] = [sys.executable, source / "vendored-meson/meson/meson.py"]
    toolchain.run(
        [*meson, "setup", work, source, f"--cross-file={cross}", *OPTIONS], "numpy: meson setup", more=environment
    )

    def query(*words: str) -> str:
        return toolchain.run([ninja, "-C", work, "-t", *words], "numpy: ninja", more=environment)

    targets = _targets(query("targets", "all"))
    inputs = frozenset(query("inputs", *targets.values()).splitlines())
    generated = [name for rule in GENERATORS for name in query("targets", "rule", rule).splitlines() if name in inputs]
    # Half of the processors at most: the slot is one for all that ninja runs.
    command: list[str | Path] = [ninja, "-C", work, f"-j{max(1, toolchain.jobs // 2)}", "--quiet", *generated]
    toolchain.run(command, "numpy: generate", more=environment)
    units = [unit for unit in json.loads(query("compdb", *COMPILERS)) if unit["output"] in inputs]
    _compile(toolchain, work, units, environment)
    _collect(work, source, targets, out)
    shutil.rmtree(work)
    shutil.rmtree(tools)


def _compile(toolchain: Toolchain, work: Path, units: list[dict[str, str]], environment: dict[str, str]) -> None:
    """Compile what ninja would, but as all of the build's compilations run: one slot each, and the longest first."""

    def weight(unit: dict[str, str]) -> tuple[int, str]:
        templates = 4 if unit["file"].endswith((".cpp", ".cc")) else 1  # C++ makes more of its text than C does
        return (-templates * (work / unit["file"]).stat().st_size, unit["output"])

    def run(unit: dict[str, str]) -> None:
        command = [*shlex.split(unit["command"]), "-w"]  # thousands of warnings take seconds to write
        toolchain.run(command, f"compile {unit['output']}", cwd=work, more=environment)

    for unit in units:
        (work / unit["output"]).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(toolchain.jobs) as pool:
        list(pool.map(run, sorted(units, key=weight)))


def _write_drivers(toolchain: Toolchain, more_flags: list[str], host_tools: Path, tools: Path) -> None:
    compile_flags = " ".join(["-g0", *NUMPY_FEATURES])
    for name, cxx in (("cc", False), ("c++", True)):
        libraries = f"-nostdlib++ -L{toolchain.tree}/usr/lib/llvm-19/lib/wasm32-wasi" if cxx else ""
        text = _DRIVER.format(
            compile=compile_flags,
            legacy=tools / "legacy.h",
            weak=tools / "weak.h",
            link=libraries,
            libraries="-lwasi-emulated-signal -lwasi-emulated-getpid -lwasi-emulated-process-clocks",
            compiler=f"{toolchain.bin / 'clang'}{' --driver-mode=g++' if cxx else ''}",
            flags=" ".join(toolchain.flags(cxx=cxx)),
            more=" ".join(more_flags),
        )
        _script(tools / name, text)
    for name in ("ar", "ranlib"):
        _script(tools / name, f'#!/bin/sh\nexec {toolchain.bin / f"llvm-{name}"} "$@"\n')
    _script(tools / "pkg-config", _PKG_CONFIG.format(name=blas.NAME, version=blas.VERSION))
    (tools / "cython.py").write_text(_CYTHON.format(path=str(host_tools)), "utf-8")
    # numpy's build also looks for these two by name
    _script(tools / "cython", f'#!/bin/sh\nexec {sys.executable} {tools / "cython.py"} "$@"\n')
    os.symlink(host_tools / "bin/ninja", tools / "ninja")


def _script(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def _legacy_names(source: Path) -> str:
    """numpy.random.mtrand compiles its own copy of the distributions. In one static program their names would clash
    with the new ones (and merging them silently is wrong), so that copy gets a prefix.
    """
    names = set()
    for path in (source / "numpy/random/src/distributions").glob("*.c"):
        names |= set(_FUNCTION.findall(path.read_text("utf-8")))
    return "".join(f"#define {name} npleg_{name}\n" for name in sorted(names))


def _targets(listing: str) -> dict[str, str]:
    """The ninja target of every module."""
    found = {}
    for module in MODULES:
        pattern = re.compile(rf"^({re.escape(module.replace('.', '/'))}\.cpython-[^:/]*\.so): ", re.MULTILINE)
        if not (match := pattern.search(listing)):
            raise BuildError(f"numpy's build has no target for {module}")
        found[module] = match[1]
    return found


def _collect(work: Path, source: Path, targets: dict[str, str], out: Path) -> None:
    for module, target in targets.items():
        # Objects are named by the path of their source, mangled by meson: unique within a module.
        for path in sorted((work / f"{target}.p").rglob("*.o")):
            place = out / "objects" / module / path.relative_to(work / f"{target}.p").as_posix().replace("/", "_")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    for path in sorted((work / "numpy").rglob("*.a.p")):
        library = out / "objects" / path.relative_to(work).as_posix().removesuffix(".a.p").replace("/", "_")
        for member in sorted(path.glob("*.o")):
            library.mkdir(exist_ok=True)
            shutil.copyfile(member, library / member.name)
    python = out / "python"
    for root in (source, work):
        for path in sorted((root / "numpy").rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if not _LEFT_OUT.fullmatch(name):
                (python / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, python / name)
    _write_config(python / "numpy/__config__.py", out)


def _write_config(path: Path, out: Path) -> None:
    """numpy/__config__.py records the commands and paths of the build: keep the facts, drop the machine."""
    text = path.read_text("utf-8").replace(f"{out}/tools/", "")
    text = re.sub(r'("(?:Python Information|build)": \{)[^{}]*\}', r"\1}", text)
    path.write_text(text, "utf-8")
