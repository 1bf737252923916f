"""Builds the native core with a pinned compiler from PyPI: neither a C compiler nor headers have to be on the machine.

    python runtime/native/build.py [--out FILE] [--target TRIPLE]

Without --out the core goes to the cache, where the host library of this checkout finds it. The compiler is unpacked in the
cache once.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1] / "wasm")]

from inputs import core_digest

from imagebuild import fetch
from imagebuild.inputs import cache_folder
from imagebuild.pins import Pins

SOURCES = (
    "core.c",
    "crossing.c",
    "guests.c",
    "handlers.c",
    "imports.c",
    "random.c",
    "redirect.c",
    "signals.c",
    "stacks.c",
    "timer.c",
)
FLAGS = (
    "-std=c11",
    "-O2",
    "-g0",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-sanitize=all",
)
LIBRARY = "libcloche.dylib" if sys.platform == "darwin" else "libcloche.so"
# glibc 2.17 is what the oldest Linux wheels promise (manylinux2014)
TARGETS = {
    ("linux", "x86_64"): "x86_64-linux-gnu.2.17",
    ("linux", "aarch64"): "aarch64-linux-gnu.2.17",
    ("darwin", "x86_64"): "x86_64-macos",
    ("darwin", "arm64"): "aarch64-macos",
}


def say(text: str) -> None:
    print(f"core: {text}", file=sys.stderr, flush=True)


def compiler(cache: Path) -> Path:
    """The compiler's program, unpacked in the cache; downloaded if need be."""
    pin = Pins.load(FOLDER / "pins.toml")[f"ziglang-{platform.machine()}"]
    home = cache / "compilers" / f"ziglang-{pin.sha256[:16]}"
    program = home / "ziglang" / "zig"
    if not program.exists():
        say("fetching the pinned C compiler (100 MB, once)")
        fetch.fetch([pin], cache / "downloads")
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as draft:
            with zipfile.ZipFile(cache / "downloads" / pin.filename) as wheel:
                wheel.extractall(draft)
            unpacked = Path(draft) / "ziglang" / "zig"
            unpacked.chmod(unpacked.stat().st_mode | stat.S_IXUSR)
            shutil.rmtree(home, ignore_errors=True)
            (Path(draft) / "ziglang").rename(_made(home) / "ziglang")
    return program


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compile_core(cache: Path, target: str, out: Path) -> None:
    """Compile the core for a target; the file appears whole or not at all."""
    zig = compiler(cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as draft:
        made = Path(draft) / out.name
        command = [str(zig), "cc", "-target", target, *FLAGS, "-o", str(made), *SOURCES]
        if "macos" not in target:
            command += ["-lpthread", "-ldl", "-Wl,-z,noexecstack"]
        environment = os.environ | {
            "ZIG_GLOBAL_CACHE_DIR": str(_made(cache / "compilers" / "zig-cache")),
            "ZIG_LOCAL_CACHE_DIR": draft,
        }
        done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"core: the compiler failed:\n{done.stderr}")
        made.replace(out)


def build(target: str | None = None, out: Path | None = None) -> Path:
    """Build the core, or find it built. Returns the library's path."""
    cache = cache_folder()
    here = TARGETS.get((sys.platform, platform.machine()))
    if target is None and here is None:
        raise SystemExit(f"core: no core is built for {sys.platform} on {platform.machine()}")
    path = out or cache / "native" / core_digest(FOLDER) / LIBRARY
    if out is None and path.exists():
        return path
    _made(cache)
    with (cache / "native.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process builds, the others find it built
        if out is not None or not path.exists():
            say("compiling the native core")
            compile_core(cache, target or here or "", path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where to put the library")
    parser.add_argument("--target", help=f"what to compile for: {', '.join(TARGETS.values())}, x86_64-linux-musl ...")
    options = parser.parse_args()
    print(build(options.target, options.out))


if __name__ == "__main__":
    main()
