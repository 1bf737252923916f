"""Without Ray, nothing asks for it but `cloche.ray`, which says what to install. These run in every tier."""

from __future__ import annotations

import os
import subprocess
import sys


def run(program: str) -> str:
    """What a program prints in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.check_output([sys.executable, "-c", program], env=environment, text=True, timeout=300)


def test_nothing_imports_ray() -> None:
    """Pipelines and clusters neither: Ray takes half a second, and may be missing."""
    program = "import sys, cloche, cloche.pipeline, cloche.cluster; cloche.Runtime; print('ray' in sys.modules, 'cloche.ray' in sys.modules)"
    assert run(program) == "False False\n"


def test_cloche_ray_says_what_is_missing() -> None:
    """In one line."""
    program = (
        "import sys; sys.modules['ray'] = None\ntry:\n import cloche.ray\nexcept ImportError as error:\n print(error)"
    )
    assert run(program) == "cloche.ray needs Ray: pip install 'cloche[ray]'\n"
