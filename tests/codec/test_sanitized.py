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

TREE = Path(__file__).parents[2]
LEFT_OUT = (
    "tests/codec/test_fuzz.py",  # runs itself under the sanitizer
    "tests/codec/test_cost.py",  # of Python code alone
    "tests/codec/test_floods.py",
    "tests/codec/test_sanitized.py",
    "tests/files/test_descriptors.py",  # need the image
    "tests/files/test_handler.py",
)


@pytest.mark.slow
def test_no_test_of_the_codec_breaks_a_rule_of_c() -> None:
    """A read beyond the end of a block goes unnoticed without it."""
    try:
        added = build.address_sanitizer()
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    roots = [TREE, Path(cloche.__file__).parents[1], Path(cloche_wire.__file__).parents[1]]
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
    command += ["tests/codec", "tests/files", *(f"--ignore={name}" for name in LEFT_OUT)]
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sanitizer_is_there() -> None:
    """What the tests around this one run is built with a sanitizer, or else they would prove less than they say."""
    if build.sanitizers() == "" and sys.platform == "linux":
        pytest.skip("the compiler has no sanitizer")
    assert "undefined" in build.sanitizers()
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        assert "address" in build.sanitizers()
