"""The build's own modules live below wasm/, outside of every package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).parents[2]
sys.path.insert(0, str(TREE / "wasm"))


@pytest.fixture(scope="session")
def abi() -> dict[str, Any]:
    """The names of cloche_wire/abi.py."""
    from imagebuild.driver import load_abi

    return load_abi(TREE / "guest/cloche_wire")
