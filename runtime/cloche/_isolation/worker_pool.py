"""`WorkerPool`: the worker processes of one `Runtime`. Chooses the process for each new node, and starts and ends processes."""

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
from cloche._isolation.remote_instance import (
    RecordedRemoteInstance,
    RemoteInstance,
    WatchedRecordedRemoteInstance,
    WatchedRemoteInstance,
)
from cloche._isolation.worker_process import Opening, Process
from cloche.errors import BrokenInstanceError, ClocheError, ClosedError

if TYPE_CHECKING:
    from cloche._records import LogRecord
    from cloche._requests import RequestHandler
    from cloche._sandbox import Recorder, Snapshot
    from cloche._wasm import CallState, Image
    from cloche.isolation import WorkerInfo
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["WorkerPool"]

_MOST_BY_DEFAULT: Final = 4


class WorkerPool:
    """Opens instances in worker processes. Thread-safe.

    Args:
        image: the guest image that the workers run.
        metering: how the guests' time is bounded.
        count: the largest number of processes; "each": one for each node; None: the number of processors, but 4 at most.
        tell: called with one line of text for a step that takes long, and for each missing confinement.

    Raises:
        ClocheError: the system is not Linux.
        ValueError: `count` is something else.
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
        self._lock = threading.RLock()  # reentrant: the garbage collector may close an instance while it is held
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
        *,
        watched: bool = False,
        recorder: Recorder | None = None,
    ) -> RemoteInstance:
        """Open an instance in the worker with the fewest nodes.

        Args:
            limits: see `Instance`, as for the others.
            host: see there.
            on_records: see there.
            snapshot: see there.
            handlers: see there.
            watched: whether to make a `Watched` one.
            recorder: records the node; None: it is not recorded.
        """
        kind: Callable[..., RemoteInstance] = WatchedRemoteInstance if watched else RemoteInstance
        if recorder is not None:
            kind = partial(WatchedRecordedRemoteInstance if watched else RecordedRemoteInstance, recorder)
        try:
            return self._open(kind, limits, host, on_records, snapshot, handlers)
        except BrokenInstanceError:  # the worker died, perhaps because of another node: try another worker
            return self._open(kind, limits, host, on_records, snapshot, handlers)

    def _open(
        self,
        kind: Callable[..., RemoteInstance],
        limits: Limits,
        host: CallState,
        on_records: Any,
        snapshot: Snapshot | None,
        handlers: Sequence[RequestHandler],
    ) -> RemoteInstance:
        opening = Opening()  # counts towards the worker's load until this call has ended
        process = self._take(opening)
        if limits.memory_bytes < process.image_bytes:
            raise ValueError(
                f"Limits.memory_bytes is {limits.memory_bytes}: the interpreter alone takes {process.image_bytes}, give more"
            )
        on_close = self._drop if self._count == "each" else None
        try:
            return kind(process, limits, host, on_records, snapshot, handlers, on_close)
        except BaseException:
            if on_close is not None:
                self._drop(process)
            raise

    def _take(self, opening: Opening) -> Process:
        """The process for the next node; a new one is started if there are few enough."""
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
        for ended in dead:  # without the lock, for which the reaper's thread may be waiting: a deadlock
            self._drop(ended)
        process.ready()
        return process

    def _drop(self, process: Process) -> None:
        """Close a process that has ended, or whose only node is closed."""
        process.close()
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)

    @property
    def info(self) -> tuple[WorkerInfo, ...]:
        """The processes that have started and are alive."""
        with self._lock:
            return tuple(process.info for process in self._processes if process.is_up and not process.dead)

    def end_starts(self) -> None:
        """Refuse to start processes from now on, and end those that are starting; threads that wait for them get a ClosedError."""
        with self._lock:
            self._closed = True
            starting = [process for process in self._processes if not process.is_up]
        for process in starting:  # without the lock, see `_take`
            self._drop(process)

    def close(self) -> None:
        """End all processes, also those that are starting or hang. Calling it again does nothing."""
        with self._lock:
            self._closed = True
        _end(self._processes, self._reaper)
        self._end.detach()

    def start_over(self) -> None:
        """Called in the child of a fork: forget the processes, which are the parent's. Nodes that are loaded here get new ones."""
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
    """Call `WorkerPool.start_over` if the pool still exists. A weak reference, because `os` never drops what is registered."""
    workers = reference()
    if workers is not None:
        workers.start_over()
