"""Objects that are pickled in one guest, carried by the host as bytes, and unpickled in another guest.

Both guests need the grant. Unpickling runs code that the other node has chosen, so it happens only inside a sandbox.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from typing import Any

from cloche_guest import Interrupted
from cloche_guest.failure import as_text
from cloche_wire.tagged import Opaque

granted = False
"""Whether this guest may send and receive such objects; `grant` sets it, once."""


def grant(modules: list[str]) -> None:
    """Allow this guest to send and receive such objects.

    Args:
        modules: names of the node's own modules. Their classes and functions are pickled with their code, which the other guest
            lacks.
    """
    global granted
    granted = True
    cloudpickle = importlib.import_module("cloudpickle")
    for name in modules:
        if name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])


def seal(value: Any, refusal: TypeError) -> Opaque:
    """Pickle an object.

    Args:
        value: the object.
        refusal: why the object cannot be sent as a plain value.

    Raises:
        TypeError: the object cannot be pickled either; the message begins with that of `refusal`.
    """
    try:
        data: bytes = importlib.import_module("cloudpickle").dumps(value)
    except Interrupted:
        raise
    except BaseException as exc:  # code of the node, which can raise SystemExit as well
        raise TypeError(
            f"{refusal}; nor can it be pickled as an opaque value: {type(exc).__name__}: {as_text(exc)}"
        ) from exc
    return Opaque(_digest(data), data)


def unseal(value: Opaque) -> Any:
    """Unpickle an object. Without the grant the `Opaque` itself is returned, which the node can only pass on.

    Raises:
        ValueError: the bytes were changed on their way, or cannot be unpickled here.
    """
    if not granted:
        return value
    if value.digest != _digest(value.data):
        raise ValueError("an opaque value was changed on its way")
    try:
        return importlib.import_module("pickle").loads(value.data)
    except Interrupted:
        raise
    except BaseException as exc:  # code of the sender
        raise ValueError(f"an opaque value cannot be unpickled here: {type(exc).__name__}: {as_text(exc)}") from exc


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
