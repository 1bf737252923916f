"""Builds the native core together with the fake engine as one program, plain or under a sanitizer."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.compiled import kept

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "runtime" / "native"
CORE_SOURCES = (
    "account",
    "core",
    "crossing",
    "differences",
    "guests",
    "handlers",
    "imports",
    "journal",
    "random",
    "redirect",
    "sampler",
    "signals",
    "stacks",
    "tape",
    "timer",
)
HARNESS_SOURCES = ("fake", "calls", "differences", "faults", "races", "sampled", "world")
SANITIZERS = ("address,undefined", "thread")
WRAPPED = ("mmap", "mprotect", "pthread_create", "pthread_cond_broadcast", "redirect_calls")
"""Functions that a case can let fail, or wait for."""
STRANGERS = ("lazy", "now")
"""When the loader fills the slots of a library that installs handlers; ``-z now`` makes them read-only as well."""


FORKING = (
    "a_fork_in_the_middle_of_calls",
    "a_deadline_survives_a_fork",
    "a_fork_as_a_call_begins_or_ends",
    "a_fork_while_others_change_handlers",
    "a_child_draws_other_random_words",
    "a_fork_leaves_samplers_to_the_parent",
    "forks_at_random_moments",
)


class Unavailable(Exception):
    """This machine cannot build the program."""


def cases() -> list[str]:
    """The names of all cases, from the sources."""
    text = "".join((HERE / f"{name}.c").read_text(encoding="utf-8") for name in HARNESS_SOURCES)
    return re.findall(r"^CASE(?:_WITHOUT_START)?\((\w+)\)", text, re.MULTILINE)


@cache
def compiler() -> tuple[str, ...]:
    """The C compiler's command: this machine's, or else the one that builds the core.

    Raises:
        Unavailable: there is none, and the pinned one cannot be fetched.
    """
    found = shutil.which(os.environ.get("CC", "gcc"))
    if found:
        return (found,)
    sys.path.insert(0, str(CORE))
    try:
        import build as core_build  # type: ignore[import-not-found]

        return (str(core_build.compiler(core_build.cache_folder())), "cc")
    except (OSError, KeyError, SystemExit, ImportError) as reason:
        raise Unavailable(f"no C compiler: {reason}") from reason
    finally:
        sys.path.remove(str(CORE))


def _options(sanitizer: str) -> list[str]:
    options = [
        "-std=c11",
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{CORE}",
        f"-I{HERE}",
    ]
    if sanitizer:
        options += [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    # threads of a sanitizer need more than the smallest stack for themselves
    if sanitizer == "thread":
        options.append("-DSLOW")  # ten times slower: fewer rounds
    return [*options, f"-DTINY_EXTRA={(256 if sanitizer else 16) << 10}"]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the compiler failed:\n{done.stderr}")


def sanitizer_works(sanitizer: str, folder: Path) -> bool:
    """Whether the compiler has that sanitizer's library, and a program with it starts here."""
    source, program = folder / "empty.c", folder / "empty"
    source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    command = [*compiler(), f"-fsanitize={sanitizer}", str(source), "-o", str(program)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    return not subprocess.run([*launcher(sanitizer), str(program)], capture_output=True, check=False).returncode


def launcher(sanitizer: str) -> list[str]:
    """What to start the program with: ThreadSanitizer of older compilers wants addresses that are not random."""
    setarch = shutil.which("setarch")
    return [setarch, platform.machine(), "-R"] if setarch and sanitizer == "thread" else []


def program(sanitizer: str = "") -> Path:
    """The program under a sanitizer.

    Raises:
        Unavailable: the compiler has no such sanitizer.
    """
    name = f"native-{sanitizer.partition(',')[0] or 'plain'}"
    command = [*compiler(), *_options(sanitizer), *WRAPPED]
    return kept(name, lambda folder: _program(folder, sanitizer), command, [CORE, HERE])


def _program(folder: Path, sanitizer: str) -> Path:
    if sanitizer == "address,undefined" and not sanitizer_works(sanitizer, folder):
        sanitizer = "undefined"  # the pinned compiler has no AddressSanitizer
    if sanitizer and not sanitizer_works(sanitizer, folder):
        raise Unavailable(f"{compiler()[0]} has no -fsanitize={sanitizer} that works here")
    made = folder / "fake_engine"
    sources = [*(CORE / f"{name}.c" for name in CORE_SOURCES), *(HERE / f"{name}.c" for name in HARNESS_SOURCES)]
    for when in STRANGERS:
        stranger = ["-shared", "-fPIC", "-Wl,-z,relro", f"-Wl,-z,{when}", str(HERE / "stranger.c")]
        _run([*compiler(), *stranger, "-o", str(folder / f"stranger_{when}.so")], folder)
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    _run([*compiler(), *_options(sanitizer), *map(str, sources), "-o", str(made), *wraps, "-lpthread", "-ldl"], folder)
    return made


def library(sanitizer: str) -> Path:
    """The core alone, as the library that Python loads."""
    command = [*compiler(), *_options(sanitizer)]
    return kept("native-library", lambda folder: _library(folder, sanitizer), command, [CORE, HERE])


def _library(folder: Path, sanitizer: str) -> Path:
    if not sanitizer_works(sanitizer, folder):
        raise Unavailable(f"{compiler()[0]} has no -fsanitize={sanitizer} that works here")
    made = folder / "libcloche.so"
    sources = [str(CORE / f"{name}.c") for name in CORE_SOURCES]
    command = [*compiler(), *_options(sanitizer), "-fPIC", "-shared", "-fvisibility=hidden", *sources]
    _run([*command, "-o", str(made), "-lpthread", "-ldl"], folder)
    return made
