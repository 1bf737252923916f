"""Locks between processes, for a program that has one. Stands in for the C module of that name."""

from __future__ import annotations

import errno
import time
from typing import Any

from cloche_refusal import NETWORK, PROCESSES, refusing

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
_MAX = 2**31 - 1
flags = {"HAVE_SEM_OPEN": 1, "HAVE_SEM_TIMEDWAIT": 1, "HAVE_FD_TRANSFER": 0}


def sem_unlink(name: str, /) -> None:
    """Does nothing: nobody else could find a semaphore by its name."""


recv = send = closesocket = refusing("multiprocessing", NETWORK)


class SemLock:
    """A semaphore, or a lock that its holder can take again."""

    SEM_VALUE_MAX = _MAX

    def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:
        if kind not in (RECURSIVE_MUTEX, SEMAPHORE):
            raise ValueError("unrecognized kind")
        self.kind, self.maxvalue, self.name, self.handle = kind, maxvalue, name, 0
        self._value, self._held = value, 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock. To wait for ever, which natively another process could end, is an error."""
        if self.kind == RECURSIVE_MUTEX and self._held:
            self._held += 1
            return True
        if self._value > 0:
            self._value -= 1
            self._held += 1
            return True
        if not block:
            return False
        if timeout is None:
            raise OSError(errno.EDEADLK, f"would wait for ever: {PROCESSES}")
        time.sleep(max(0.0, timeout))
        return False

    def release(self) -> None:
        """Give the lock back."""
        if self.kind == RECURSIVE_MUTEX:
            if not self._held:
                raise AssertionError("attempt to release recursive lock not owned by thread")
            self._held -= 1
            self._value += not self._held
            return
        if self._value >= self.maxvalue:
            raise ValueError("semaphore or lock released too many times")
        self._held -= 1
        self._value += 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: Any) -> None:
        self.release()

    def _count(self) -> int:
        return self._held

    def _is_mine(self) -> bool:
        return self._held > 0

    def _get_value(self) -> int:
        return self._value

    def _is_zero(self) -> bool:
        return self._value == 0

    def _after_fork(self) -> None:
        self._held = 0

    _rebuild = refusing("SemLock", PROCESSES)
