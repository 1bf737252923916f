"""Objects that only guests understand: pickled in one, carried by the host as bytes, unpickled in another.

Both guests must have been granted it. Unpickling runs code that the other node chose, so it happens nowhere but in a sandbox.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from typing import Any

from cloche_wire.tagged import Opaque

granted = False
"""Whether this guest may send and receive such objects; `grant` sets it, once."""


def grant(modules: list[str]) -> None:
    """Allow it. Classes and functions of the node's own `modules` travel with their code: the other guest lacks them."""
    global granted
    granted = True
    cloudpickle = importlib.import_module("cloudpickle")
    for name in modules:
        if name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])


def seal(value: Any, refusal: TypeError) -> Opaque:
    """The object as bytes.

    Raises:
        TypeError: `refusal`, if it cannot be pickled either.
    """
    try:
        data: bytes = importlib.import_module("cloudpickle").dumps(value)
    except Exception as exc:
        raise TypeError(f"{refusal}; nor can it be pickled as an opaque value: {type(exc).__name__}: {exc}") from exc
    return Opaque(_digest(data), data)


def unseal(value: Opaque) -> Any:
    """The object again, or the bytes as they are where nothing was granted: such a node can only pass them on.

    Raises:
        ValueError: the bytes were changed on their way, or they cannot be unpickled here.
    """
    if not granted:
        return value
    if value.digest != _digest(value.data):
        raise ValueError("an opaque value was changed on its way")
    try:
        return importlib.import_module("pickle").loads(value.data)
    except Exception as exc:
        raise ValueError(f"an opaque value cannot be unpickled here: {type(exc).__name__}: {exc}") from exc


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
