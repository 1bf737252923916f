"""What the snapshot froze and every instance must have anew: seeds and start times.

``secrets``, ``uuid`` and ``os.urandom`` ask the host each time and need nothing. It runs in every new sandbox, so it takes the
shortest way: what it does not touch stays shared with the image.
"""

from __future__ import annotations

import _random
import logging
import random
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_inst: Any = random._inst  # what random.random() and the others are methods of


def seed_numpy(seed: bytes) -> None:
    """Seed numpy's legacy generator; `boot` replaces this by the shim's, which is some thirty pages cheaper."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(list(struct.unpack(f"<{len(seed) // 4}I", seed)))


numpy_seeder: Callable[[bytes], None] = seed_numpy


def thaw(seed: bytes) -> None:
    """Give this instance its own random state. `seed` is 32 bytes from the host, or empty: leave the generators alone."""
    if seed:
        _random.Random.seed(_inst, int.from_bytes(seed, "little"))  # as random.seed does, without hashing first
        _inst.gauss_next = None
        numpy_seeder(seed[::-1])  # the same algorithm as Python's: the same key would give the same numbers
    start = time.time_ns() if sys.version_info >= (3, 13) else time.time()
    logging._startTime = start  # type: ignore[attr-defined]  # what LogRecord.relativeCreated counts from
