"""`LogCalls`: calls a function of the caller's (``on_log``) with log records, on a thread of its own.

On the thread of the call, a function that blocks would hold up the guest, and whoever waits for its deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from cloche import _forks
from cloche._records import LogRecord
from cloche._requests import hold
from cloche._sandbox import report

__all__ = ["LogCalls"]

_IDLE_S: Final = 0.1
"""Seconds without a record after which the thread ends."""
_STUCK_S: Final = 0.25
"""How long a call waits at its end for one run of the function."""
_LONGEST_S: Final = 2.0
"""How long it waits for all of them."""
_LOOK_S: Final = 0.02
_MOST_WAITING: Final = 100_000
"""Records that may wait for a function that blocks. More are dropped: they would fill the memory."""


class LogCalls:
    """A queue of records, and a thread named ``cloche-log`` that calls the function with one after the other.

    The thread is started by the first record, and ends when there have been none for a while.

    Args:
        function: called with each record. What it raises is reported once, by a warning, and costs nothing else.
    """

    def __init__(self, function: Callable[[LogRecord], object]) -> None:
        self._function = function
        self._has_failed = False
        self.after_fork()
        _forks.watch(self)

    def __repr__(self) -> str:
        return str(getattr(self._function, "__qualname__", type(self._function).__qualname__))

    def after_fork(self) -> None:
        """Begin without a thread: in a new object, and in the child of a fork."""
        self._lock = threading.RLock()
        self._queue: SimpleQueue[LogRecord | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since: float | None = None

    def put(self, record: LogRecord) -> None:
        """Queue a record. Any thread may call this."""
        if self._queue.qsize() < _MOST_WAITING:
            self._queue.put(record)
            if not self._is_running:
                hold(self._lock, self._start)

    def settle(self) -> None:
        """Wait until the function has had all records so far, but not for a function that blocks: it gets the rest later."""
        if not self._is_running or self._thread is threading.current_thread():
            return
        reached = threading.Event()
        self._queue.put(reached)
        end = time.monotonic() + _LONGEST_S
        while not reached.wait(_LOOK_S):
            now, since = time.monotonic(), self._since
            if now > end or (since is not None and now - since > _STUCK_S) or not self._is_running:
                return

    @property
    def _is_running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _start(self) -> None:
        if not self._is_running:
            # first: after an interrupt during `start`, the next record must not start a second one
            self._thread = threading.Thread(target=self._run, name="cloche-log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no thread can be started: the next record tries again
                self._failed(error)

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:  # `put` looks at the thread after it has queued its record
                    if self._queue.empty():
                        self._thread = None
                        return
                continue
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._since = time.monotonic()
            try:
                self._function(item)
            except BaseException as error:  # nobody else could hear of it: this is no thread of the caller's
                self._failed(error)
            self._since = None

    def _failed(self, error: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            with suppress(Exception):
                report("the function on_log", error)
