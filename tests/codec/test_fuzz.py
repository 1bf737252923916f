"""The fuzzer, for a bounded time. At length: ``python -m tests.codec.fuzz --frames 10000000``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cloche
import cloche_wire

from . import fuzz
from .native import build


@pytest.fixture
def frames(thorough: bool) -> int:
    """Frames to throw."""
    return 40_000 if thorough else 4_000


def test_no_frame_does_harm(native_module: Any, frames: int) -> None:
    """A new seed every time; a finding prints its frame."""
    seed = int.from_bytes(os.urandom(4))
    done, passed = fuzz.run(native_module, seed, frames, None)
    assert done == frames
    assert passed > frames // 20, "the frames are too broken to test what lies behind the validator"


def test_no_frame_breaks_a_rule_of_c(frames: int) -> None:
    """The same under AddressSanitizer and UndefinedBehaviorSanitizer, in a process of its own."""
    try:
        added = build.address_sanitizer()
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    roots = [Path(__file__).parents[2], Path(cloche.__file__).parents[1], Path(cloche_wire.__file__).parents[1]]
    environment = {**os.environ, **added, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    command = [sys.executable, "-m", "tests.codec.fuzz", "--frames", str(frames // 4)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{frames // 4} frames" in done.stdout
