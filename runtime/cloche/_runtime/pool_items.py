"""`PoolItem` and `PoolFuture`: one item of a pool, from its submission to its end; and the clock that ends those that are late.

A future is never in the state RUNNING of `concurrent.futures`, in which it could not be cancelled: it stays pending until it is
done. `PoolFuture.running` says whether its item runs, and `PoolFuture.cancel` interrupts the node of an item that does.

Three parties may want a waiting item: a thread of the pool that begins it, a caller that cancels it, and the clock that ends it.
Whoever acquires `PoolItem.claim` first has it. Locks serve as such flags because acquiring one is a single step in C, which no
interrupt can cut in two.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar, copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloche import _forks
from cloche._requests import hold
from cloche._wasm import no_thread
from cloche.errors import ClocheError, PoolTimeoutError

if TYPE_CHECKING:
    from cloche._runtime.loans import Loan
    from cloche._runtime.node import Node

__all__ = ["HELD", "PoolFuture", "PoolItem", "Slot", "clock"]

HELD: ContextVar[tuple[PoolItem, ...]] = ContextVar("cloche_held", default=())
"""The items whose nodes the current code holds, by `Pool.acquire`."""
_AGAIN_S: Final = 0.005
"""Seconds between two attempts to end an item."""


class Slot:
    """A place for one node.

    Attributes:
        node: the node; None: it is still to be made.
        calls: number of items that the node has processed.
        made: time of `time.monotonic` at which the node was made.
    """

    __slots__ = ("calls", "made", "node")

    def __init__(self) -> None:
        self.node: Node | None = None
        self.calls = 0
        self.made = 0.0

    def fill(self, node: Node) -> None:
        """Put a new node in."""
        self.node, self.calls, self.made = node, 0, time.monotonic()


class Workers(Protocol):
    """The part of `PoolWorkers` that an item depends on."""

    @property
    def size(self) -> int:
        """Number of slots."""

    @property
    def has_free_slot(self) -> bool:
        """Whether an item could begin now."""

    def leave(self, item: PoolItem, outcome: str) -> None:
        """End an item that has not begun, and count it as an item with that outcome. The caller has the item's claim."""


class PoolFuture(Future[Any]):
    """The result of an item of a pool. Unlike other futures it can be cancelled while its item runs: that interrupts the node.

    Args:
        item: the item.
    """

    def __init__(self, item: PoolItem) -> None:
        super().__init__()
        self._item = item

    def cancel(self) -> bool:
        """Cancel the item. One that waits never begins; the node of one that runs is interrupted, as by `Node.interrupt`.

        The future is cancelled at once. Its node takes the next item as soon as it has unwound, or has been replaced.

        Returns:
            whether the future is cancelled now; False: it has a result or an exception already.
        """
        if not super().cancel():
            return False
        self._item.on_cancel()
        return True

    def running(self) -> bool:
        """Whether the item has begun and not ended."""
        return self._item.slot is not None and not self.done()


class PoolItem:
    """An item of a pool: work that waits for a node, or has one.

    Args:
        workers: the pool's workers.
        work: called with the node, on a thread of the pool; None: the node itself is wanted, see `Pool.acquire`.
        wait_s: seconds that the item may wait for a node; None: as long as it takes.

    Attributes:
        workers: the argument of that name.
        work: the argument of that name.
        future: the result of `work`, or the node that is wanted.
        context: the caller's context, in which `work` is called.
        claim: taken by the first that begins, cancels or ends the waiting item.
        admitted: held until there is room for the item in the pool's queue.
        returned: taken by the first that gives a node back, see `Pool.acquire`.
        slot: where the item runs; None: it has not begun.
        submitted: time of `time.monotonic` at which it was submitted.
        is_stopping: whether its node is to be interrupted as soon as it can be.
        loan: the calls of the node's holder, see `Pool.acquire`; None: there is none.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "_notified",
        "_wait_s",
        "admitted",
        "claim",
        "context",
        "future",
        "is_stopping",
        "loan",
        "returned",
        "slot",
        "submitted",
        "work",
        "workers",
    )

    def __init__(self, workers: Workers, work: Callable[[Node], Any] | None, wait_s: float | None) -> None:
        self.workers = workers
        self.work = work
        self._wait_s = wait_s
        self.future = PoolFuture(self)
        self.context = copy_context()
        self.slot: Slot | None = None
        self.submitted = time.monotonic()
        self.is_stopping = False
        self.loan: Loan | None = None
        self.claim, self.returned, self._notified = threading.Lock(), threading.Lock(), threading.Lock()
        self.admitted, self._end = threading.Lock(), threading.Lock()
        self.admitted.acquire()
        self._end.acquire()
        if wait_s is not None:
            clock.call(self.submitted + wait_s, self)

    def on_cancel(self) -> None:
        """The future has been cancelled: take the item out of the queue, or interrupt its node."""
        self._notify()
        if self.claim.acquire(False):
            self.workers.leave(self, "cancelled")
        else:
            self.stop()

    def stop(self) -> None:
        """Interrupt the item's node, now and again until the item has ended: an interrupt before the guest runs has no effect."""
        self.is_stopping = True
        self.on_time()

    def on_time(self) -> None:
        """Do what is due: end an item that has waited too long, or interrupt the node of one that is stopping."""
        if self.has_ended:
            return
        if self.is_stopping:
            if self.slot is not None and self.slot.node is not None:
                self.slot.node.__cloche__.interrupt(None if self.work is None else self)
            clock.call(time.monotonic() + _AGAIN_S, self)
        elif self.slot is None and self._wait_s is not None:
            waited = time.monotonic() - self.submitted
            if waited < self._wait_s or self.workers.has_free_slot:  # a thread of the pool is about to begin an item
                clock.call(time.monotonic() + _AGAIN_S, self)
            elif self.claim.acquire(False):
                self.settle(error=self.too_late(waited))
                self.workers.leave(self, "timed_out")

    def too_late(self, waited: float) -> PoolTimeoutError:
        """The error for an item that found no free node in time."""
        assert self._wait_s is not None  # otherwise no item is too late
        return PoolTimeoutError(
            f"no node of the pool of {self.workers.size} was free within {self._wait_s} s (acquire_timeout_s={self._wait_s})",
            limit="acquire_timeout_s",
            value=self._wait_s,
            reached=waited,
        )

    def begin(self, work: Callable[[Node], Any], node: Node) -> Any:
        """Call `work` with the node, which is this item's from now on: from here on an interrupt hits no other call.

        Raises:
            ClocheError: the future was cancelled before.
        """
        if self.future.cancelled():
            raise ClocheError("the item was cancelled before it began")
        return work(node)

    def settle(self, result: Any = None, error: BaseException | None = None) -> bool:
        """Set the future. Returns whether it was still pending."""
        try:
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)
        except InvalidStateError:  # it was cancelled
            self._notify()
            return False
        return True

    def end(self) -> None:
        """Mark the item as ended: its node is given back, or it will never have one."""
        with suppress(RuntimeError):  # it is marked already
            self._end.release()

    @property
    def has_ended(self) -> bool:
        """Whether `end` was called."""
        return not self._end.locked()

    def wait(self, seconds: float | None) -> bool:
        """Wait until the item has ended, at most so many seconds. Returns whether it has."""
        if self._end.acquire(timeout=-1 if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX)):
            self._end.release()
        return self.has_ended

    def _notify(self) -> None:
        """Wake those that wait for several futures (`concurrent.futures.wait`): `Future.cancel` does not do so itself."""
        if self._notified.acquire(False):
            self.future.set_running_or_notify_cancel()


class _Clock:
    """One thread of the process, which calls `PoolItem.on_time` at given times. It is started at first use, and is a daemon."""

    def __init__(self) -> None:
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Start without a thread: in a new process, and in the child of a fork."""
        self._lock = threading.RLock()
        self._new: SimpleQueue[tuple[float, int, weakref.ref[PoolItem]]] = SimpleQueue()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def call(self, when: float, item: PoolItem) -> None:
        """Call ``item.on_time()`` at that time of `time.monotonic`, unless the item is no longer referenced then.

        Raises:
            ClocheError: no thread can be started.
        """
        if self._thread is None:
            hold(self._lock, self._start)
        self._new.put((when, next(self._numbers), weakref.ref(item)))

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, args=(self._new,), name="cloche-pool-clock", daemon=True)
        try:
            thread.start()
        except RecursionError:  # a RuntimeError as well, but of the caller's stack
            raise
        except RuntimeError as error:
            raise no_thread("to keep the time of the pool", error) from error
        self._thread = thread

    def _run(self, new: SimpleQueue[tuple[float, int, weakref.ref[PoolItem]]]) -> None:
        due: list[tuple[float, int, weakref.ref[PoolItem]]] = []
        while True:
            with suppress(Empty):
                seconds = max(0.0, due[0][0] - time.monotonic()) if due else None
                heapq.heappush(due, new.get(timeout=None if seconds is None else min(seconds, threading.TIMEOUT_MAX)))
            while due and due[0][0] <= time.monotonic():
                item = heapq.heappop(due)[2]()
                if item is not None:
                    with suppress(ClocheError):
                        item.on_time()
                del item


clock: Final = _Clock()
"""The clock of this process."""
