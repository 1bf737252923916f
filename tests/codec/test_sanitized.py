"""The tests of the guest's C once more under AddressSanitizer, which has to be loaded before Python: in a process of its own.

Without it they run under UndefinedBehaviorSanitizer alone, which needs nothing of the process (native/build.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloche
import cloche_wire

from .native import build

HERE = Path(__file__).parent
FOLDERS = (HERE, HERE.parent / "files")
FEW = (HERE / "test_refusals.py", HERE / "test_limits.py", HERE / "test_no_memory.py", FOLDERS[1] / "test_paths.py")
LEFT_OUT = (
    HERE / "test_fuzz.py",  # runs itself under the sanitizer
    HERE / "test_cost.py",  # of Python code alone
    HERE / "test_floods.py",
    HERE / "test_sanitized.py",
    FOLDERS[1] / "test_descriptors.py",  # need the image
    FOLDERS[1] / "test_handler.py",
)


@pytest.mark.timeout(1200)  # half a minute of one processor; on a busy machine many times that
def test_no_test_of_the_codec_breaks_a_rule_of_c(thorough: bool) -> None:
    """A read beyond the end of a block goes unnoticed without it. Without --all, those that have the most frames of their own."""
    try:
        added = build.address_sanitizer()
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    roots = [HERE.parents[1], Path(cloche.__file__).parents[1], Path(cloche_wire.__file__).parents[1]]
    environment = {**os.environ, **added, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        "not image",
        "--tb=short",
    ]
    command += ["--all", *map(str, FOLDERS)] if thorough else [*map(str, FEW)]
    command += [f"--ignore={path}" for path in LEFT_OUT]
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sanitizer_is_there() -> None:
    """What the tests around this one run is built with a sanitizer, or else they would prove less than they say."""
    try:
        build.compiler()
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    if build.sanitizers() == "" and sys.platform == "linux":
        pytest.skip("the compiler has no sanitizer")
    assert "undefined" in build.sanitizers()
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        assert "address" in build.sanitizers()
