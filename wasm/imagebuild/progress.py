"""Progress as plain lines with the seconds since the start, on stderr: fit for a terminal and for a CI log."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO


class Progress:
    def __init__(self, out: TextIO = sys.stderr, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._start = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                print(f"[image {self.seconds:6.1f} s] {text}", file=self._out, flush=True)
