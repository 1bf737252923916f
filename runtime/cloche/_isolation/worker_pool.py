"""The worker processes of one `Runtime`: which one a node goes to, and the thread that starts and watches them."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cloche._isolation.reaper import ProcessReaper
from cloche._isolation.remote_instance import RemoteInstance
from cloche._isolation.worker_process import Opening, Process
from cloche.errors import BrokenInstanceError, ClocheError, ClosedError

if TYPE_CHECKING:
    from cloche._records import LogRecord
    from cloche._requests import RequestHandler
    from cloche._sandbox import Snapshot
    from cloche._wasm import CallState, Image
    from cloche.isolation import WorkerInfo
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["WorkerPool"]

_MOST_BY_DEFAULT: Final = 4


class WorkerPool:
    """Makes instances, as an engine does in the host's own process. Thread-safe.

    Args:
        image: what the workers run.
        metering: how the guests' time is bounded.
        count: at most so many processes; "each": one for each node; None: as many as there are processors, up to 4.
        tell: told in a line what takes long, and what is missing.

    Raises:
        ClocheError: not on Linux.
    """

    def __init__(
        self, image: Image, metering: Metering, count: int | Literal["each"] | None, tell: Callable[[str], None]
    ) -> None:
        if sys.platform != "linux":
            raise ClocheError(f"isolation='process' needs Linux, not {sys.platform}")
        if count != "each" and count is not None and (type(count) is not int or count < 1):
            raise ValueError(f"workers is {count!r}: give a number from 1, 'each' or None")
        self.metering: Metering = metering
        self._image = image
        self._count = count if count is not None else min(_MOST_BY_DEFAULT, os.cpu_count() or 1)
        self._tell = tell
        self._lock = threading.RLock()  # the collector may close an instance wherever it likes
        self._processes: list[Process] = []
        self._reaper = ProcessReaper()
        self._closed = False
        self._end = weakref.finalize(self, _end, self._processes, self._reaper)
        os.register_at_fork(after_in_child=partial(_start_over_in_child, weakref.ref(self)))

    def open(
        self,
        limits: Limits,
        host: CallState,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        handlers: Sequence[RequestHandler] = (),
    ) -> RemoteInstance:
        """A new instance, in the worker with the fewest. The arguments are those of `Instance`."""
        try:
            return self._open(limits, host, on_records, snapshot, handlers)
        except BrokenInstanceError:  # its worker had died, or dies of another node just now
            return self._open(limits, host, on_records, snapshot, handlers)

    def _open(
        self,
        limits: Limits,
        host: CallState,
        on_records: Any,
        snapshot: Snapshot | None,
        handlers: Sequence[RequestHandler],
    ) -> RemoteInstance:
        opening = Opening()  # counts for the worker's load until this call is over, in whatever way
        process = self._take(opening)
        if limits.memory_bytes < process.image_bytes:
            raise ValueError(
                f"Limits.memory_bytes is {limits.memory_bytes}: the interpreter alone takes {process.image_bytes}, give more"
            )
        on_close = self._drop if self._count == "each" else None
        try:
            return RemoteInstance(process, limits, host, on_records, snapshot, handlers, on_close)
        except BaseException:
            if on_close is not None:
                self._drop(process)
            raise

    def _take(self, opening: Opening) -> Process:
        """The process for the next node, started if need be."""
        with self._lock:
            if self._closed:
                raise ClosedError("the runtime is closed")
            dead = [process for process in self._processes if process.dead]
            alive = [process for process in self._processes if not process.dead]
            least = min(alive, key=lambda process: process.load, default=None)
            may_grow = self._count == "each" or len(alive) < self._count
            if least is None or (least.load and may_grow):
                process = Process(self._image, self.metering, self._tell, self._reaper)
                self._processes.append(process)
            else:
                process = least
            process.opening.add(opening)
        for ended in dead:  # without the lock: the thread that reaps may be waiting for it
            self._drop(ended)
        process.ready()
        return process

    def _drop(self, process: Process) -> None:
        """End a process whose only node is gone, or that has ended."""
        process.close()
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)

    @property
    def info(self) -> tuple[WorkerInfo, ...]:
        """The processes that live and are ready."""
        with self._lock:
            return tuple(process.info for process in self._processes if process.is_up and not process.dead)

    def end_starts(self) -> None:
        """Start no process any more, and end those that are not ready yet: whoever waits for one hears of it."""
        with self._lock:
            self._closed = True
            starting = [process for process in self._processes if not process.is_up]
        for process in starting:  # without the lock, as above
            self._drop(process)

    def close(self) -> None:
        """End all processes, also those that start or hang. Again: nothing."""
        with self._lock:
            self._closed = True
        _end(self._processes, self._reaper)
        self._end.detach()

    def start_over(self) -> None:
        """In the child of a fork: the processes are the parent's; nodes loaded here get new ones."""
        self._lock = threading.RLock()
        for process in self._processes:
            process.forget()
        self._processes.clear()
        self._reaper.start_over()


def _end(processes: list[Process], reaper: ProcessReaper) -> None:
    for process in list(processes):
        process.close()
        with suppress(ValueError):  # another thread was faster
            processes.remove(process)
    reaper.close()


def _start_over_in_child(reference: weakref.ref[WorkerPool]) -> None:
    """`WorkerPool.start_over`, if the pool still lives: what is registered with `os` must not keep it alive."""
    workers = reference()
    if workers is not None:
        workers.start_over()
