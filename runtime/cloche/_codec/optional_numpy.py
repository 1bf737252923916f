"""numpy on the host, which is optional: imported when the first array crosses the boundary, not with `cloche`."""

from __future__ import annotations

from functools import cache

from cloche_wire.array import Array

__all__ = ["Array", "load_numpy"]


@cache
def load_numpy() -> None:
    """Import numpy if it is installed. With numpy loaded, guest arrays are decoded to numpy arrays; without it, to `Array`."""
    try:
        import numpy  # noqa: F401  # cloche_wire.arrays looks for numpy in sys.modules
    except ImportError:
        pass
