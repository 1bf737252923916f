"""Finds numpy/config.json anew with numpy's real build, and compares what that compiles with numpy/objects.toml.

Needed when the version of one of the pins changes. The image's build never runs numpy's own (meson): it asks the compiler some two
hundred questions whose answers the pins determine, and fills in the same templates many times.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from imagebuild import blas, numpyext
from imagebuild.stages import BuildError
from imagebuild.toolchain import NUMPY_FEATURES, Toolchain

OPTIONS = (
    "--buildtype=release",
    f"-Dblas={blas.NAME}",
    "-Dlapack=none",
    "-Dallow-noblas=true",
    "-Ddisable-optimization=true",
    "-Ddisable-threading=true",
    "-Ddefault_library=static",
)
MACHINE = re.compile(r"(PYTHON|BUILD)_\w+")
"""Answers about the machine that builds: the image must not depend on them."""

_CROSS = """[binaries]
c = '{tools}/cc'
cpp = '{tools}/c++'
ar = '{bin}/llvm-ar'
ranlib = '{bin}/llvm-ranlib'
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

# meson passes flags of the host's Python and of shared libraries.
_DRIVER = """#!/bin/sh
link=1
for a do
  shift
  case $a in
    -I*/include/python3*|-fPIC|-Wl,--start-group|-Wl,--end-group|-Wl,-O1|-Wl,--as-needed|-Wl,--allow-shlib-undefined) continue ;;
    -c|-E|--version|-v|-dM|-dumpversion|-Wl,--version) link= ;;
  esac
  set -- "$@" "$a"
done
if [ "$link" ]; then set -- "$@" {link}; fi
exec {compiler} {flags} "$@"
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


def answers(toolchain: Toolchain, source: Path, python_headers: list[str], host_tools: Path, folder: Path) -> str:
    """The new text of config.json.

    Raises:
        BuildError: numpy's build compiles other sources than `folder`/objects.toml names.
    """
    with tempfile.TemporaryDirectory() as name:
        tools, work = Path(name) / "tools", Path(name) / "work"
        tools.mkdir()
        _write_tools(toolchain, python_headers, host_tools, tools)
        environment = {"NINJA": str(host_tools / "bin/ninja"), "PATH": f"{tools}:/usr/bin:/bin"}
        meson: list[str | Path] = [sys.executable, source / "vendored-meson/meson/meson.py", "setup", work, source]
        toolchain.run([*meson, f"--cross-file={tools / 'cross.ini'}", *OPTIONS], "numpy: meson setup", more=environment)
        commands = json.loads((work / "compile_commands.json").read_text("utf-8"))
        compare(compiled(commands), {place for group in numpyext.groups(folder) for place in group.sources})
        found: dict[str, str | None] = {}
        for template, made in numpyext.CONFIGURED.items():
            place = {"config.h": "numpy/_core", "_numpyconfig.h": "numpy/_core", numpyext.CONFIG: "."}
            path = work / place.get(made, "meson_cpu") / made
            found |= asked((source / template).read_text("utf-8"), path.read_text("utf-8").replace(f"{tools}/", ""))
    return written(found, source)


def written(found: dict[str, str | None], source: Path) -> str:
    """The text of config.json."""
    kept = {name: "" if MACHINE.fullmatch(name) else value for name, value in sorted(found.items())}
    return json.dumps({numpyext.QUESTIONS: numpyext.questions(source)} | kept, indent=0) + "\n"


def asked(template: str, made: str) -> dict[str, str | None]:
    """What the names in a template have become in the file that was made of it."""
    found: dict[str, str | None] = {}
    for before, after in zip(template.splitlines(), made.splitlines(), strict=True):
        if before.startswith("#mesondefine "):
            name = before.split()[1]
            match = re.fullmatch(rf"#define {name}\b ?(.*)", after)
            found[name] = match[1] if match else None
            continue
        names = re.findall(r"@(\w+)@", before)
        pattern = "(.*)".join(re.escape(part) for part in re.split(r"@\w+@", before))
        if names and (match := re.fullmatch(pattern, after)):
            found |= dict(zip(names, match.groups(), strict=True))
    return found


def compiled(commands: list[dict[str, str]]) -> set[str]:
    """The names of the sources that numpy's build compiles for our modules, without folders of generated files."""
    wanted = {f"{module.replace('.', '/')}.cpython" for module in numpyext.MODULES}
    found = set()
    for unit in commands:
        target = unit["output"].partition(".p/")[0]
        library = target.endswith(".a") and "_tests" not in target and "_simd" not in target
        if library or f"{target.partition('.cpython')[0]}.cpython" in wanted:
            found.add(Path(unit["file"]).name)
    return found


def compare(theirs: set[str], ours: set[str]) -> None:
    """Compare by the names of the files that are compiled.

    Raises:
        BuildError: they differ.
    """
    plain = {Path(name).name.removesuffix(".in").removesuffix(".src") for name in ours}
    cython = {f"{name}.c" for name in plain if name.endswith(".pyx")}
    if differing := theirs ^ (plain | cython):
        raise BuildError(f"numpy/objects.toml and numpy's own build differ in {', '.join(sorted(differing))}")


def _write_tools(toolchain: Toolchain, headers: list[str], host_tools: Path, tools: Path) -> None:
    emulated = "-lwasi-emulated-signal -lwasi-emulated-getpid -lwasi-emulated-process-clocks"
    for name, cxx in (("cc", False), ("c++", True)):
        libraries = f"-nostdlib++ -L{toolchain.tree}/usr/lib/llvm-19/lib/wasm32-wasi" if cxx else ""
        flags = [*toolchain.flags(cxx=cxx), *headers, *NUMPY_FEATURES]
        text = _DRIVER.format(
            compiler=f"{toolchain.bin / 'clang'}{' --driver-mode=g++' if cxx else ''}",
            flags=shlex.join(flags),
            link=f"{libraries} {emulated}",
        )
        _script(tools / name, text)
    cross = _CROSS.format(tools=tools, bin=toolchain.bin, python=sys.executable)
    (tools / "cross.ini").write_text(cross, "utf-8")
    _script(tools / "pkg-config", _PKG_CONFIG.format(name=blas.NAME, version=blas.VERSION))
    (tools / "cython.py").write_text(numpyext.CYTHON.format(path=str(host_tools)), "utf-8")
    # numpy's build also looks for these two by name
    _script(tools / "cython", f'#!/bin/sh\nexec {sys.executable} {tools / "cython.py"} "$@"\n')
    os.symlink(host_tools / "bin/ninja", tools / "ninja")


def _script(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)
