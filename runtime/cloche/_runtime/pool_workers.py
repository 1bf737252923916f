"""`PoolWorkers`: the nodes, threads and queue of a pool. `Pool` is its public face.

A pool of size n has n slots; each holds a node once one has been needed. Items wait in a queue; a thread of the pool takes a free
slot and the first item, makes a node if the slot has none, and runs the item. An item of `Pool.acquire` is granted the node
instead, and gives it back later.

Only the pool's own threads take and free slots, and no interrupt (Ctrl-C, a signal handler) reaches those. Callers only append to a
deque, in one step, and then wake a thread; so an interrupt in a caller loses no slot and no item.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Final

from cloche import _forks
from cloche._html import table
from cloche._requests import hold, is_inside
from cloche._runtime.closing import LATE_S, Closing
from cloche._runtime.pool_items import HELD, PoolItem, Slot
from cloche._wasm import no_thread
from cloche.errors import ClocheError, ClosedError, PoolTimeoutError

if TYPE_CHECKING:
    from cloche._runtime.node import Node
    from cloche._runtime.tracing import PoolTrace

__all__ = ["PoolStats", "PoolWorkers"]

_SLICE_S: Final = 0.1
"""Seconds after which a caller that waits for room in the queue looks itself whether there is some."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool has done so far, and what it does now.

    Attributes:
        size: number of items that can run at the same time.
        idle: how many more could run now.
        busy: items that run now, with the nodes that `Pool.acquire` has handed out.
        queued: items that wait for a node.
        done: items that have ended with a result.
        failed: items that have ended with an exception.
        cancelled: items that were cancelled, before or after they had begun.
        timed_out: items that waited longer than ``acquire_timeout_s``.
        replaced: nodes that have been replaced: broken, old or used up.
        mean_wait_s: mean time for which an item has waited for a node; 0.0 if none has begun.
        mean_run_s: mean time for which an item has run; 0.0 if none has ended.
    """

    size: int
    idle: int
    busy: int
    queued: int
    done: int
    failed: int
    cancelled: int
    timed_out: int
    replaced: int
    mean_wait_s: float
    mean_run_s: float

    def _repr_html_(self) -> str:
        return table("PoolStats", ((each.name, getattr(self, each.name)) for each in fields(self)))


class PoolWorkers:
    """See `Runtime.pool`, which describes the arguments.

    Args:
        clone: function that makes a pristine node.
        size: number of slots; 1 or more.
        warm: number of nodes that are made by the constructor.
        max_calls: number of items after which a node is replaced; None: never.
        max_age_s: seconds after which a node is replaced; None: never.
        max_queue: number of items that may wait; None: any number.
        has_async: whether a service of the nodes is an ``async def`` function.

    Attributes:
        replaced: number of nodes that have been replaced so far.
        trace: follows the items for the runtime's telemetry; None: it has none.
        is_closed: whether the pool is closed, or being closed.
        has_async: the argument of that name.
    """

    def __init__(
        self,
        clone: Callable[[], Node],
        size: int,
        *,
        warm: int = 0,
        max_calls: int | None = None,
        max_age_s: float | None = None,
        max_queue: int | None = None,
        has_async: bool = False,
    ) -> None:
        self._size = size
        self.has_async = has_async
        self._clone = clone
        self._max_calls = max_calls
        self._max_age_s = max_age_s
        self._max_queue = math.inf if max_queue is None else max_queue
        self._slots = [Slot() for _ in range(size)]
        self.is_closed = False
        self.trace: PoolTrace | None = None
        self._counts = dict.fromkeys(("done", "failed", "cancelled", "timed_out"), 0)
        self.replaced = self._begun = 0
        self._waited_s = self._ran_s = 0.0
        self.after_fork()
        _forks.watch(self)
        try:
            for slot in self._slots[:warm]:
                slot.fill(clone())
        except BaseException as error:
            try:
                self.close(cancel=True)
            except ExceptionGroup as failed:
                error.add_note(f"and of the clones that were made already: {failed}")
            raise

    def after_fork(self) -> None:
        """Set the state of a pool without threads: of a new one, and of one in the child of a fork, which has no other threads."""
        self._executor = ThreadPoolExecutor(self.size, "cloche-pool")
        self._lock = threading.RLock()
        self._queue: deque[PoolItem] = deque()
        self._returned: deque[PoolItem] = deque()
        self._items: set[PoolItem] = set()
        self._busy: set[Slot] = set()
        for slot in self._slots:
            if slot.node is not None and (slot.node.broken or slot.node.__cloche__.lock.is_lost):
                slot.node = None  # it is in a call of the parent, or in a worker process of the parent's
        self._free = deque(sorted(self._slots, key=lambda slot: slot.node is not None))

    @property
    def size(self) -> int:
        """Number of slots."""
        return self._size

    @property
    def has_free_slot(self) -> bool:
        """Whether an item could begin now."""
        return bool(self._free)

    def submit(self, item: PoolItem, queue_timeout_s: float | None, *, may_block: bool) -> None:
        """Append an item to the queue.

        Args:
            item: the item.
            queue_timeout_s: seconds to wait for room in the queue; None: as long as it takes.
            may_block: False: do not wait for room in the queue, because the caller awaits the item's end in any case.

        Raises:
            ClosedError: the pool is closed.
            PoolTimeoutError: there was no room in the queue in time.
            ClocheError: no thread can be started.
        """
        if self.is_closed:
            raise ClosedError("the pool is closed")
        try:
            self._items.add(item)
            self._queue.append(item)
            if self.is_closed:  # by another thread, after the check: `close` may have missed the item
                raise ClosedError("the pool is closed")
            self._wake()
            if may_block and self._max_queue != math.inf:
                self._wait_for_room(item, queue_timeout_s)
        except BaseException:  # the caller gets no future: the item must not begin any more
            item.future.cancel()
            raise

    def _wake(self) -> None:
        """Have a thread look at the queue."""
        try:
            self._executor.submit(self._serve)
        except RecursionError:  # a RuntimeError as well, but not the executor's: the caller's stack is full
            raise
        except RuntimeError as error:
            if self.is_closed:
                raise ClosedError("the pool is closed") from error
            raise no_thread("to run the item", error) from error

    def _wait_for_room(self, item: PoolItem, seconds: float | None) -> None:
        """Wait until an item is among the first `max_queue` of the queue, or has left it."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        while self._is_too_far(item):
            left = until - time.monotonic()
            if left <= 0 and not self.has_free_slot:
                raise PoolTimeoutError(
                    f"the pool's queue was full for {seconds} s (max_queue={self._max_queue}, queue_timeout_s={seconds})",
                    limit="queue_timeout_s",
                    value=seconds or 0.0,
                    reached=seconds or 0.0,
                )
            if item.admitted.acquire(timeout=max(0.001, min(left, _SLICE_S))):
                return

    def _is_too_far(self, item: PoolItem) -> bool:
        try:
            return self._queue.index(item) >= self._max_queue
        except (
            ValueError,
            RuntimeError,
        ):  # it is in the queue no more; or the queue has just changed, and is looked at again
            return item.admitted.locked() and not item.claim.locked()

    def _admit(self) -> None:
        """Let the submitters go on whose items are among the first `max_queue` now."""
        if self._max_queue == math.inf:
            return
        try:
            for index in range(int(self._max_queue) - 1, -1, -1):
                if index >= len(self._queue):
                    continue
                admitted = self._queue[index].admitted
                if not admitted.locked():
                    break
                admitted.release()
        except (IndexError, RuntimeError):  # the queue has changed: who changed it admits as well
            pass

    def leave(self, item: PoolItem, outcome: str) -> None:
        """End an item that has not begun. The caller has its claim."""
        try:
            self._queue.remove(item)
        except (ValueError, IndexError):  # a thread has just taken it out, and sees that it is claimed
            pass
        hold(self._lock, self._count, outcome)
        if self.trace is not None:
            self.trace.ended(outcome, None)
        self._over(item)

    def release(self, item: PoolItem) -> None:
        """Give back the node that the item was granted. Calling it again does nothing."""
        if item.future.cancel():  # it was not granted yet
            return
        if item.slot is not None and not item.returned.locked():
            if item.loan is not None:
                item.loan.end()
            self._returned.append(item)
            try:
                self._wake()
            except ClocheError:
                if self.is_closed:
                    self._take_back()

    def _serve(self) -> None:
        """Run items as long as there are a free slot and an item. Called on a thread of the pool."""
        while True:
            self._take_back()
            try:
                slot = self._free.pop()
            except IndexError:
                return
            try:
                item = self._queue.popleft()
            except IndexError:
                self._free.append(slot)
                if not self._queue:  # otherwise: appended since, by a caller whose thread has found no free slot
                    return
                continue
            self._admit()
            if item.claim.acquire(False):
                self._run(item, slot)
            else:
                self._free.append(slot)
            del item

    def _run(self, item: PoolItem, slot: Slot) -> None:
        """Run one item, or hand out the node that it wants. Nothing that the item raises is raised here."""
        began = time.monotonic()
        result, failure = None, None
        self._busy.add(slot)
        try:
            item.slot = slot
            if slot.node is None or slot.node.__cloche__.sandbox.closed:
                slot.fill(self._clone())
            node, work = slot.node, item.work
            assert node is not None  # it was filled
            if work is None:
                if item.settle(node):
                    return  # the slot comes back by `release`
            else:
                calls = node.__cloche__
                result = item.context.run(calls.in_turn, item, item.future.cancelled, partial(item.begin, work, node))
        except BaseException as error:
            failure = error
        self._give_back(slot)  # before the future is set: who waits for it sees the pool as it is then
        outcome = "cancelled" if item.future.cancelled() else "done" if failure is None else "failed"
        with self._lock:
            self._begun += 1
            self._waited_s += began - item.submitted
            self._ran_s += time.monotonic() - began
            self._count(outcome)
        if self.trace is not None:
            self.trace.ended(outcome, began - item.submitted)
        item.settle(result, failure)
        failure = None  # its traceback has this frame
        self._over(item)

    def _take_back(self) -> None:
        """Free the slots whose nodes have been returned."""
        while self._returned:
            try:
                item = self._returned.popleft()
            except IndexError:
                return
            if item.returned.acquire(False):
                assert item.slot is not None  # it was granted one
                self._give_back(item.slot, is_spent=item.loan is not None and item.loan.is_spent)
                self._over(item)

    def _give_back(self, slot: Slot, *, is_spent: bool = False) -> None:
        """Free a slot. Its node is replaced if it has broken, is closed (`Runtime.nodes` has it, too), old or used up."""
        node = slot.node
        slot.calls += 1
        old = self._max_age_s is not None and time.monotonic() - slot.made > self._max_age_s
        worn = self._max_calls is not None and slot.calls >= self._max_calls
        if node is not None and (node.__cloche__.sandbox.closed or old or worn or is_spent):
            with self._lock:
                self.replaced += 1
            slot.node = None
            node.__cloche__.discard()
        self._busy.discard(slot)
        if slot.node is None:
            self._free.appendleft(slot)
        else:
            self._free.append(slot)

    def _count(self, outcome: str) -> None:
        self._counts[outcome] += 1

    def _over(self, item: PoolItem) -> None:
        self._items.discard(item)
        item.end()

    @property
    def is_bounded(self) -> bool:
        """Whether a submitter may have to wait for room in the queue."""
        return self._max_queue != math.inf

    def stats(self) -> PoolStats:
        """See `Pool.stats`."""
        return hold(self._lock, self._stats)

    def _stats(self) -> PoolStats:
        begun = self._begun
        busy = len(self._busy)  # not what `_free` lacks: a thread that finds no item takes a slot for a moment
        return PoolStats(
            size=self.size,
            idle=self.size - busy,
            busy=busy,
            queued=sum(not item.claim.locked() for item in list(self._queue)),
            replaced=self.replaced,
            mean_wait_s=self._waited_s / begun if begun else 0.0,
            mean_run_s=self._ran_s / begun if begun else 0.0,
            **self._counts,
        )

    def close(self, *, cancel: bool = False, timeout_s: float | None = None) -> None:
        """See `Pool.close`."""
        closing = Closing(timeout_s)
        busy = [item.slot.node for item in list(self._items) if item.slot is not None and item.slot.node is not None]
        if is_inside([node.__cloche__.lock for node in busy]):
            raise ClocheError("the pool cannot be closed from inside one of its own items")
        if any(item in self._items for item in HELD.get()):
            raise ClocheError(
                "the pool cannot be closed while this code holds one of its nodes: leave the block of `acquire` first"
            )
        self.is_closed = True
        if cancel:
            for item in list(self._queue):
                item.future.cancel()
        if not all(item.wait(closing.left_s) for item in list(self._items)):
            self._stop(closing)
        failures: list[Exception] = []
        for slot in self._slots:
            node = slot.node
            if node is None:
                continue
            try:
                node.__cloche__.close(closing)
            except Exception as error:
                failures.append(error)
            if node.__cloche__.sandbox.closed:  # otherwise an interrupt came, and the next `close` finds it here
                slot.node = None
        self._executor.shutdown(wait=not self._items)
        if failures:
            raise ExceptionGroup("not all nodes of the pool could be closed cleanly", failures)

    def _stop(self, closing: Closing) -> None:
        """Cancel the items that wait, interrupt those that run, and wait until these have ended or are seen to be stuck."""
        for item in list(self._queue):
            item.future.cancel()
        items = list(self._items)
        for item in items:
            item.stop()
        for item in items:
            if item.work is None:  # its holder may keep it for ever; closing the node ends the call that it makes
                continue
            slot = item.slot
            grace_s = slot.node.__cloche__.sandbox.limits.grace_s if slot is not None and slot.node is not None else 0.0
            item.wait(max(0.0, grace_s + LATE_S - closing.late_s))
