"""The native core against a fake engine, under sanitizers: every case of the C sources beside this file, in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from . import build

OPTIONS = {
    # the core's guests are freed by the cases themselves: LeakSanitizer needs ptrace, which containers refuse
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
SECONDS = 100
"""A case that takes longer hangs."""


@pytest.fixture(scope="module")
def program() -> Callable[[str], Path]:
    """The program under a sanitizer, compiled by its first use."""
    made: dict[str, Path | build.Unavailable] = {}

    def get(sanitizer: str) -> Path:
        if sanitizer not in made:
            try:
                made[sanitizer] = build.program(sanitizer)
            except build.Unavailable as reason:
                made[sanitizer] = reason
        found = made[sanitizer]
        if isinstance(found, build.Unavailable):
            pytest.skip(str(found))
        return found

    return get


RUNS = [
    pytest.param(case, sanitizer, id=f"{case}-{name}")
    for case in build.cases()
    for sanitizer, name in zip(build.SANITIZERS, ("asan", "tsan"), strict=True)
    if not (sanitizer == "thread" and case in build.FORKING)  # it follows no fork of a process with several threads
]


@pytest.mark.sampled
@pytest.mark.parametrize(("case", "sanitizer"), RUNS)
def test_case(program: Callable[[str], Path], sanitizer: str, case: str) -> None:
    """The case's name says what it promises."""
    if case in build.FORKING:
        sanitizer = "undefined"  # a child finds the locks of AddressSanitizer's own allocator as they were (gcc 12)
    command = [*build.launcher(sanitizer), str(program(sanitizer)), case]
    done = subprocess.run(
        command, env={**os.environ, **OPTIONS}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"


def test_the_program_fails_when_a_case_does(program: Callable[[str], Path]) -> None:
    """Or else all of the above would mean nothing."""
    command = [str(program("address,undefined")), "print", "u"]
    done = subprocess.run(command, env={**os.environ, **OPTIONS}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is 3, not 0" in done.stderr
