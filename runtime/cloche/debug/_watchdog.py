"""`Watchdog`: ends what takes too long, from a thread of its own. A guest inside one long function in C never looks up."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["Watchdog"]


class Watchdog:
    """Calls a function unless it is told in time not to. Its thread starts when it is first armed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._until = math.inf
        self._bite: Callable[[], object] = _nothing
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def arm(self, seconds: float, bite: Callable[[], object]) -> None:
        """Call `bite` after so many seconds, unless `disarm` comes first."""
        with self._changed:
            self._until, self._bite = time.monotonic() + seconds, bite
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="cloche-debug", daemon=True)
                self._thread.start()
            self._changed.notify()

    def disarm(self) -> None:
        """What was armed is not called any more."""
        self._until = math.inf  # the thread looks at it under the lock before it bites

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed, self._until = True, math.inf
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                left = self._until - time.monotonic()
                if left > 0:
                    self._changed.wait(None if math.isinf(left) else left)
                    continue
                self._until = math.inf
                self._bite()


def _nothing() -> None:
    """Bite nobody."""
