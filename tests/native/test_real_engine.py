"""The native core under AddressSanitizer and UndefinedBehaviorSanitizer, with the real engine and the real image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloche
import cloche_wire
from cloche.metering import DEFAULT_METERING

from . import build


@pytest.mark.image
def test_the_real_engine(tmp_path: Path) -> None:
    """What the fake engine cannot show: wasmtime's own stack switches, signals and unwinding on the core's stacks."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the sanitizer's library is preloaded as Linux does it")
    try:
        library = build.library("address,undefined")
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    names = ("libasan.so", "libubsan.so")
    found = [
        subprocess.run(
            [*build.compiler(), f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in names
    ]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip("the compiler has no library of AddressSanitizer to preload")
    roots = [Path(__file__).parents[2], Path(cloche.__file__).parents[1], Path(cloche_wire.__file__).parents[1]]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, roots)),
        "LD_PRELOAD": ":".join(found),
        # the engine handles faults itself, on alternate stacks of its own
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:use_sigaltstack=0",
    }
    command = [sys.executable, "-m", "tests.native.real_engine", str(library), DEFAULT_METERING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" calls\n")
    assert "ERROR: AddressSanitizer" not in done.stderr
    assert "runtime error" not in done.stderr
