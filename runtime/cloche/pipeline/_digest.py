"""`digest`: a short name for an item's value, to find it again in logs."""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["digest"]


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's encoded form; "" if the value has none."""
    from cloche._codec import digestible

    encoded = digestible(value)
    return "" if encoded is None else hashlib.sha256(encoded).hexdigest()[:16]
