"""Bundles as they go from host to host: packed here and not by Ray.

So values that cannot be sent are found where they are made, and the driver can keep a bundle without making the values anew. Arrays
stay apart in it: each host reads them where the object store of its machine has them.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from ray import cloudpickle

__all__ = ["packed", "unpacked"]


def packed(value: Any) -> list[Any]:
    """A value as buffers, those of arrays apart, so that Ray takes and gives them without a copy."""
    apart: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=apart.append)
    return [pickle.PickleBuffer(data), *apart]


def unpacked(packed: Sequence[Any]) -> Any:
    return pickle.loads(packed[0], buffers=packed[1:])
