"""Finds pyconfig.answers anew, with CPython's real configure. Needed when the version of one of the pins changes.

The build itself never runs configure: it takes a minute of shell scripts for answers that the pins determine.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from pathlib import Path

from imagebuild.toolchain import EMULATED, Toolchain

_DEFINE = re.compile(r"^\s*#\s*define (\w+)(?: (.*))?$")
_UNDEF = re.compile(r"^\s*#\s*undef (\w+)")


def answers(toolchain: Toolchain, tarball: Path) -> str:
    """Run configure for wasm32-wasi; answers the new text of pyconfig.answers without its comment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(tarball) as tar:
            tar.extractall(folder, filter="data")
        (source,) = folder.iterdir()
        build = folder / "build"
        build.mkdir()
        # configure asks the build Python for nothing but its version.
        python = folder / "python3.13"
        python.write_text("#!/bin/sh\necho 3.13\n", "utf-8")
        python.chmod(0o755)
        flags = " ".join([*toolchain.flags()])
        libraries = "-lwasi-emulated-signal -lwasi-emulated-getpid -lwasi-emulated-process-clocks"
        environment = {
            "CC": f"{toolchain.bin / 'clang'} {flags}",
            "CPP": f"{toolchain.bin / 'clang'} {flags} -E",
            "AR": str(toolchain.bin / "llvm-ar"),
            "RANLIB": str(toolchain.bin / "llvm-ranlib"),
            "READELF": "true",
            "LIBS": libraries,
            "CPPFLAGS": " ".join(EMULATED),
            "CONFIG_SITE": str(source / "Tools/wasm/config.site-wasm32-wasi"),
            "PKG_CONFIG": "false",
            # zlib is there (it is built later), as pkg-config would say: not empty, and no flags
            "ZLIB_CFLAGS": " ",
            "ZLIB_LIBS": " ",
        }
        command: list[str | Path] = [
            source / "configure",
            "-q",
            "--host=wasm32-unknown-wasip1",
            "--build=x86_64-pc-linux-gnu",
        ]
        command += [f"--with-build-python={python}", "--disable-test-modules", "--without-ensurepip", "--with-pymalloc"]
        toolchain.run(command, "configure", cwd=build, more=environment)
        return compared((source / "pyconfig.h.in").read_text("utf-8"), (build / "pyconfig.h").read_text("utf-8"))


def compared(template: str, made: str) -> str:
    """The lines `NAME VALUE` of what configure turned from #undef into #define."""
    lines = made.splitlines()[1:]  # the first says what made it
    found = {}
    for before, after in zip(template.splitlines(), lines, strict=True):
        wanted, got = _UNDEF.match(before), _DEFINE.match(after)
        if before != after and wanted and got:
            found[wanted[1]] = got[2] or ""
    return "".join(f"{name} {value}".rstrip() + "\n" for name, value in sorted(found.items()))
