"""`ProcessReaper`: the thread that starts worker processes, reaps those that end, and checks regularly what each uses."""

from __future__ import annotations

import selectors
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Protocol

from cloche._isolation.descriptors import Socket, connected
from cloche._wasm import no_thread
from cloche.errors import ClosedError

__all__ = ["CHECK_S", "ProcessReaper", "Watched"]

CHECK_S: Final = 0.5
"""Seconds between two checks of the processes, if there are any."""


class Watched(Protocol):
    """What the reaper needs of a worker process.

    Attributes:
        control: the host's end of a socket, which becomes readable when the process ends.
    """

    control: Socket

    def end(self) -> object:
        """The process has ended: reap it."""

    def check(self) -> None:
        """Kill the process if it uses more than it may. Called every `CHECK_S`."""


class ProcessReaper:
    """Runs jobs on one thread, and reaps processes as they end. The thread starts with the first job.

    A worker is started here because the kernel ends it with the *thread* that started it (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self) -> None:
        self._wake: tuple[Socket, Socket] | None = None
        self._selector: selectors.BaseSelector | None = None
        self.start_over()

    def start_over(self) -> None:
        """Set the state without a thread: for a new reaper, and for one in the child of a fork."""
        self._lock = threading.RLock()
        self._jobs: deque[tuple[Callable[[], object], Future[None]]] = deque()
        self._owner: threading.Thread | None = None
        self._closed = False
        self._release()

    def run(self, job: Callable[[], object]) -> None:
        """Run a job on the thread and wait for it. Exceptions of the job are raised.

        Raises:
            ClosedError: the reaper is closed.
            OSError: no descriptor is left for the thread's selector or socket.
            ClocheError: the system starts no more threads.
        """
        if threading.current_thread() is self._owner:
            job()
            return
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise ClosedError("the runtime is closed")
            if self._wake is None:
                self._wake = connected()
            if self._selector is None:  # here and not in the thread: the caller gets an OSError
                self._selector = selectors.DefaultSelector()
            self._jobs.append((job, done))
            if self._owner is None:
                # after an interrupt here, the next job starts a second thread; `_loop` lets only the first one stay
                thread = threading.Thread(target=self._loop, args=[self._wake[1]], name="cloche-workers", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    self._jobs.clear()
                    raise no_thread("to start worker processes", error) from error
            self._wake[0].send(b"\0")
        done.result()

    def add(self, process: Watched) -> None:
        """Begin to watch a process."""
        self.run(lambda: self._watched().register(process.control, selectors.EVENT_READ, process))

    def discard(self, process: Watched) -> None:
        """Stop watching a process, whose socket is about to be closed."""
        if self._owner is not None and not self._closed:
            self.run(lambda: self._forget(process))

    def close(self) -> None:
        """End the thread. All processes must have ended. Calling it again does nothing."""
        with self._lock:
            owner = self._owner
            if owner is None:
                self._closed = True
                self._release()
                return
        if not self._closed:
            self.run(self._stop)
        if owner is not threading.current_thread():
            owner.join()
        self._release()

    def _stop(self) -> None:
        self._closed = True

    def _release(self) -> None:
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        for end in self._wake or ():
            end.close()
        self._wake = None

    def _watched(self) -> selectors.BaseSelector:
        assert self._selector is not None  # `run` makes it before it starts the thread
        return self._selector

    def _forget(self, process: Watched) -> None:
        for key in list(self._watched().get_map().values()):
            if key.data is process:  # not found by its socket: an interrupted `Process.close` may have closed that
                self._watched().unregister(key.fileobj)

    def _loop(self, wake: Socket) -> None:
        with self._lock:
            if self._owner is not None or self._closed:
                return
            self._owner = threading.current_thread()
            selector = self._watched()
            selector.register(wake, selectors.EVENT_READ)
        while not self._closed:
            ready = selector.select(CHECK_S if len(selector.get_map()) > 1 else None)
            for key, _ in ready:
                if key.data is None:
                    wake.recv(1)
                else:  # a started worker sends nothing: readable means that it has ended
                    process: Any = key.data
                    self._forget(process)
                    process.end()
            self._work()
            if not ready and not self._closed:
                for key in list(selector.get_map().values()):
                    if key.data is not None:
                        key.data.check()

    def _work(self) -> None:
        while self._jobs:
            job, done = self._jobs.popleft()
            try:
                job()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
