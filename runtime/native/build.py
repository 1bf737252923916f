"""Builds the native core with a pinned compiler from PyPI, so that the machine needs neither a C compiler nor headers.

    python runtime/native/build.py [--out FILE] [--target TRIPLE]

Without --out the library goes to the cache, where this checkout's package `cloche` looks for it. The compiler is unpacked into the
cache by the first build.
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
    "account.c",
    "core.c",
    "crossing.c",
    "differences.c",
    "guests.c",
    "handlers.c",
    "imports.c",
    "journal.c",
    "random.c",
    "redirect.c",
    "sampler.c",
    "signals.c",
    "stacks.c",
    "tape.c",
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
# a newer glibc than 2.17 would break the promise of the wheels' platform tag, manylinux_2_17 (PLATFORMS in hatch_build.py)
TARGETS = {
    ("linux", "x86_64"): "x86_64-linux-gnu.2.17",
    ("linux", "aarch64"): "aarch64-linux-gnu.2.17",
    ("darwin", "x86_64"): "x86_64-macos",
    ("darwin", "arm64"): "aarch64-macos",
}


def say(text: str) -> None:
    print(f"core: {text}", file=sys.stderr, flush=True)


def compiler(cache: Path) -> Path:
    """Path of the compiler's program in the cache, downloaded and unpacked there if missing.

    Args:
        cache: the cache's folder.
    """
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
    """Compile the core. The library's file appears whole or not at all.

    Args:
        cache: the cache's folder, for the compiler.
        target: the compiler's name of the platform, such as a value of `TARGETS`.
        out: path of the library.
    """
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
    """Build the core, unless the cache already has it.

    Args:
        target: the compiler's name of the platform; None for this machine.
        out: path of the library; None for the cache.

    Returns:
        the library's path.
    """
    cache = cache_folder()
    here = TARGETS.get((sys.platform, platform.machine()))
    if target is None and here is None:
        raise SystemExit(f"core: no core is built for {sys.platform} on {platform.machine()}")
    path = out or cache / "native" / core_digest(FOLDER) / LIBRARY
    if out is None and path.exists():
        return path
    _made(cache)
    with (cache / "native.lock").open("w") as lock:
        # without the lock processes that start together would all compile
        fcntl.flock(lock, fcntl.LOCK_EX)
        if out is not None or not path.exists():
            say("compiling the native core")
            compile_core(cache, target or here or "", path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="path of the library; the cache if not given")
    parser.add_argument(
        "--target", help=f"platform to compile for: {', '.join(TARGETS.values())}, x86_64-linux-musl ..."
    )
    options = parser.parse_args()
    print(build(options.target, options.out))


if __name__ == "__main__":
    main()
