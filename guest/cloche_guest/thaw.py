"""What the snapshot froze and every instance must have anew: seeds and start times.

``secrets``, ``uuid`` and ``os.urandom`` ask the host each time and need nothing.
"""

from __future__ import annotations

import logging
import random
import struct
import sys
import time


def thaw(seed: bytes) -> None:
    """Give this instance its own random state. `seed` is 32 bytes from the host; empty: change nothing."""
    if not seed:
        return
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(list(struct.unpack(f"<{len(seed) // 4}I", seed)))
    # What LogRecord.relativeCreated counts from.
    logging._startTime = time.time_ns() if sys.version_info >= (3, 13) else time.time()  # type: ignore[attr-defined]
