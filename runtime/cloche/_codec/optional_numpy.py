"""numpy on the host: optional, and loaded only when a guest sends the first array."""

from __future__ import annotations

from functools import cache

from cloche_wire.array import Array

__all__ = ["Array", "load_numpy"]


@cache
def load_numpy() -> None:
    """Import numpy if it is installed, so that arrays arrive as numpy's; without it they arrive as `Array`."""
    try:
        import numpy  # noqa: F401  # cloche_wire.arrays finds it in sys.modules
    except ImportError:
        pass
