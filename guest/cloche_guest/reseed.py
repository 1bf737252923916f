"""Renews what a snapshot has frozen, but each instance must have of its own: random states and the start time.

``secrets``, ``uuid`` and ``os.urandom`` take random bytes from the host each time and need no renewal. `reseed` runs in every new
instance, so it writes to as few memory pages as possible: a page that is not written to stays shared with the image.
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

_inst: Any = random._inst  # the generator behind random.random() and the other functions of the module


def seed_numpy(seed: bytes) -> None:
    """Seed numpy's legacy generator. The image uses a C function instead (see `boot`), which writes to some thirty pages less."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(list(struct.unpack(f"<{len(seed) // 4}I", seed)))


numpy_seeder: Callable[[bytes], None] = seed_numpy


def reseed(seed: bytes) -> None:
    """Give this instance a random state and a start time of its own.

    Args:
        seed: 32 random bytes from the host; empty: the generators keep their state.
    """
    if seed:
        _random.Random.seed(_inst, int.from_bytes(seed, "little"))  # `random.seed` would hash the seed first
        _inst.gauss_next = None
        # reversed, because numpy uses Python's algorithm: the same seed would give both the same numbers
        numpy_seeder(seed[::-1])
    start = time.time_ns() if sys.version_info >= (3, 13) else time.time()
    logging._startTime = start  # type: ignore[attr-defined]  # the start of LogRecord.relativeCreated
