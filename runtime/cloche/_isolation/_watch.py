"""The thread that starts worker processes and notices when one ends. It sleeps in between."""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloche._isolation._process import Process

__all__ = ["Watch"]


class Watch:
    """Runs jobs on one thread, and reaps processes as they end. The thread starts with the first job.

    A worker is started here because the kernel ends it with the *thread* that started it (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """The state without a thread: at the start, and in the child of a fork."""
        self._lock = threading.RLock()
        self._jobs: deque[tuple[Callable[[], object], Future[None]]] = deque()
        self._thread: threading.Thread | None = None
        self._wake = -1

    def run(self, job: Callable[[], object]) -> None:
        """Run a job there, and wait for it. Raises what it raises."""
        if threading.current_thread() is self._thread:
            job()
            return
        done: Future[None] = Future()
        with self._lock:
            if self._thread is None:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC)
                self._thread = threading.Thread(
                    target=self._loop, args=[self._wake], name="cloche-workers", daemon=True
                )
                self._selector = selectors.DefaultSelector()
                self._selector.register(self._wake, selectors.EVENT_READ)
                self._thread.start()
            self._jobs.append((job, done))
            os.eventfd_write(self._wake, 1)
        done.result()

    def add(self, process: Process) -> None:
        """Watch a process from now on."""
        self.run(lambda: self._selector.register(process.control, selectors.EVENT_READ, process))

    def discard(self, process: Process) -> None:
        """Watch it no more: its socket is about to be closed."""
        self.run(lambda: self._forget(process))

    def close(self) -> None:
        """End the thread. Its processes have ended."""
        if self._thread is None:
            return
        thread = self._thread
        self.run(self._stop)
        thread.join()

    def _stop(self) -> None:
        self._selector.close()
        os.close(self._wake)
        self._thread = None

    def _forget(self, process: Process) -> None:
        if process.control in self._selector.get_map():
            self._selector.unregister(process.control)

    def _loop(self, wake: int) -> None:
        while self._thread is not None:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(wake)
                    self._work()
                else:  # a worker that is ready says no more: it has ended, or is not ours any longer
                    process: Any = key.data
                    self._forget(process)
                    process.end()

    def _work(self) -> None:
        while self._jobs:
            job, done = self._jobs.popleft()
            try:
                job()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
