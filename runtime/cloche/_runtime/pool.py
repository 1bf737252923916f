"""`Pool`: clones of one node, each on a thread of its own, that share a queue of items."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from cloche import _forks
from cloche._pickles import handle
from cloche._requests import is_inside
from cloche.errors import ClocheError, ClosedError

if TYPE_CHECKING:
    from cloche._runtime.node import Node

__all__ = ["Pool"]

Progress = Callable[[int], None]


class Pool:
    """Runs ``process`` on many items in parallel. Made by `Runtime.pool`.

    A pool has no `Node.call`: which of the clones would get it is left to chance. Let ``process`` choose among several things to do
    by an argument.

    Each worker is a thread with a clone of one pristine node. If the clone breaks (hard deadline, trap, exit), the worker gets a
    new one, in a few hundred microseconds. The future of the item that broke it raises the error; the item is not tried again.

    Args:
        clone: function that makes a pristine node.
        size: number of workers, and so of items that are processed at the same time; 1 or more.
        warm: number of clones that are made by the constructor; a worker makes the others at its first item.
        reset: process every item on a pristine node, so that nothing can pass from one item to another.
        max_calls: number of items after which a worker's node is replaced; None: never.
        max_age_s: seconds after which a worker's node is replaced; None: never.
    """

    def __init__(
        self,
        clone: Callable[[], Node],
        size: int,
        *,
        warm: int = 0,
        reset: bool = False,
        max_calls: int | None = None,
        max_age_s: float | None = None,
    ) -> None:
        self.size = size
        self._clone = clone
        self._reset = reset
        self._max_calls = 1 if reset else max_calls
        self._max_age_s = max_age_s
        self._idle: deque[_Worker] = deque()
        self._closed = False
        self.after_fork()
        _forks.watch(self)
        self.replaced = 0
        """Number of nodes that have been replaced so far: broken, old or used up."""
        try:
            for _ in range(min(warm, size)):
                self._idle.append(_Worker(clone()))
        except BaseException as error:
            try:
                self.close(cancel=True)
            except ExceptionGroup as failed:
                error.add_note(f"and of the clones that were made already: {failed}")
            raise

    def after_fork(self) -> None:
        """Set the state of a pool without threads: of a new one, and of one in the child of a fork, which has no other threads."""
        self._executor = ThreadPoolExecutor(self.size, "cloche-pool")
        self._lock = threading.Lock()
        self._under_way: set[_Worker] = set()

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle("a Pool", "make one in the other process, with `Runtime.pool`"))

    def submit(self, /, *data: Any, **keywords: Any) -> Future[Any]:
        """Queue one item. Items begin in the order in which they were submitted.

        Args:
            data: the positional arguments of `Node.process`.
            keywords: its keyword arguments.

        Returns:
            a future with the result of `Node.process`, or its exception. If a node has to be made for the item and that fails, the
            future has the exception of `Runtime.restore`.

        Raises:
            ClosedError: the pool is closed.
            ClocheError: no thread can be started.
        """
        if self._closed:
            raise ClosedError("the pool is closed")
        try:
            return self._executor.submit(self._run, data, keywords)
        except RecursionError:  # a RuntimeError as well, but not the executor's: the caller's stack is full
            raise
        except RuntimeError as error:
            if self._closed:  # by another thread, after the check
                raise ClosedError("the pool is closed") from error
            raise ClocheError(f"the pool cannot run the item: {error}") from error

    def map(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """Process all `items`, and yield the results in their order.

        Args:
            items: an iterable, which may be endless: only ``2 * size`` of its items are taken ahead of the results. Each is the
                one argument of `Node.process`.
            progress: called after each result, with the number of results so far.

        Raises:
            ClocheError: the error of an item, whose index is in the attribute ``item``. The iteration ends there, and the items
                after it are cancelled.
        """
        return self._results(items, progress, _next_in_order)

    def imap_unordered(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """As `map`, but yield the results in the order in which the items finish."""
        return self._results(items, progress, _next_to_finish)

    async def asubmit(self, /, *data: Any, **keywords: Any) -> Any:
        """As `submit`, awaited under asyncio or trio. Cancelling cancels an item that has not begun; one under way runs on."""
        from cloche._runtime.async_calls import settled  # late: importing anyio takes 30 ms

        future = self.submit(*data, **keywords)
        try:
            await settled(future)
            return future.result()
        finally:
            future.cancel()

    def amap(self, items: Iterable[Any], *, progress: Progress | None = None) -> AsyncIterator[Any]:
        """As `map`, for ``async for``."""
        return _awaited(self.map(items, progress=progress))

    def aimap_unordered(self, items: Iterable[Any], *, progress: Progress | None = None) -> AsyncIterator[Any]:
        """As `imap_unordered`, for ``async for``."""
        return _awaited(self.imap_unordered(items, progress=progress))

    def close(self, *, cancel: bool = False) -> None:
        """Wait for the items under way and in the queue, then close every node.

        Calling `close` again does nothing; if an interrupt ended the first attempt, the next one continues it.

        Args:
            cancel: cancel the items that have not begun.

        Raises:
            ExceptionGroup: the errors of one or more ``cleanup``s that raised; the nodes are closed nevertheless.
            ClocheError: `close` was called from inside one of the pool's own items; nothing is closed.
        """
        if is_inside([worker.node.__cloche__.lock for worker in list(self._under_way)]):
            raise ClocheError("the pool cannot be closed from inside one of its own items")
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=cancel)
        failures: list[Exception] = []
        for worker in list(self._idle):  # removed only when closed, so that a next `close` finds it
            try:
                worker.node.close()
            except Exception as error:
                failures.append(error)
            if worker.node.__cloche__.closed and worker in self._idle:
                self._idle.remove(worker)
        if failures:
            raise ExceptionGroup("not all nodes of the pool could be closed cleanly", failures)

    def _results(self, items: Iterable[Any], progress: Progress | None, take: _Take) -> Iterator[Any]:
        window: deque[_Job] = deque()
        try:
            yield from self._outcomes(window, enumerate(items), progress, take)
        finally:
            for job in window:
                job.future.cancel()

    def _outcomes(
        self, window: deque[_Job], source: Iterator[tuple[int, Any]], progress: Progress | None, take: _Take
    ) -> Iterator[Any]:
        """The loop of `_results`, in a function of its own: an interrupt at a loop's end is not covered by a ``try`` around it."""
        done = 0
        while self._fill(window, source) or window:
            for job in take(window):
                try:
                    result = job.result()
                except BaseException:
                    job.future.cancel()  # after an interrupt: an item that has not begun shall not run
                    raise
                yield result
                done += 1
                if progress is not None:
                    progress(done)

    def _fill(self, window: deque[_Job], source: Iterator[tuple[int, Any]]) -> bool:
        """Submit items until there are two for each worker, one under way and one waiting. Returns whether any was submitted."""
        added = False
        while len(window) < 2 * self.size:
            try:
                index, item = next(source)
            except StopIteration:
                break
            window.append(_Job(index, self.submit(item)))
            added = True
        return added

    def _run(self, data: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        worker = self._take()
        try:
            self._under_way.add(worker)
            return worker.node.process(*data, **keywords)
        finally:
            self._under_way.discard(worker)
            worker.calls += 1
            self._give_back(worker)

    def _take(self) -> _Worker:
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not worker.node.broken:  # after a fork, the node of a parent's worker process counts as broken
                return worker
        return _Worker(self._clone())

    def _give_back(self, worker: _Worker) -> None:
        old = self._max_age_s is not None and time.monotonic() - worker.made > self._max_age_s
        worn = self._max_calls is not None and worker.calls >= self._max_calls
        if not (worker.node.broken or old or worn):
            self._idle.append(worker)
            return
        with self._lock:
            self.replaced += 1
        worker.node.__cloche__.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        return f"<cloche.Pool of {self.size} {'closed' if self._closed else 'open'}>"


@dataclass(frozen=True, slots=True)
class _Job:
    """An item of `map` that has been submitted, with its index."""

    index: int
    future: Future[Any]

    def result(self) -> Any:
        """Wait for the item, and return its result. Its errors get its index as ``item``."""
        try:
            return self.future.result()
        except CancelledError:
            error: ClocheError = ClosedError("the pool was closed before this item began")
            error.item = self.index
            raise error from None
        except ClocheError as error:
            error.item = self.index
            raise


_Take = Callable[[deque[_Job]], Iterable[_Job]]


def _next_in_order(window: deque[_Job]) -> list[_Job]:
    return [window.popleft()]


def _next_to_finish(window: deque[_Job]) -> list[_Job]:
    """Wait until at least one job has finished; take all that have."""
    finished, _ = wait([job.future for job in window], return_when=FIRST_COMPLETED)
    jobs = list(window)
    window.clear()
    window.extend(job for job in jobs if job.future not in finished)
    return [job for job in jobs if job.future in finished]


async def _awaited(results: Iterator[Any]) -> AsyncIterator[Any]:
    """Wait for each result on a worker thread with a limiter of its own: the event loop's shared threads stay free for others."""
    import anyio.to_thread

    end, limiter = object(), anyio.CapacityLimiter(1)
    try:
        while (result := await anyio.to_thread.run_sync(next, results, end, limiter=limiter)) is not end:
            yield result
    finally:
        results.close()  # type: ignore[attr-defined]  # a generator


class _Worker:
    """A worker's node, when it was made, and the number of items that it has processed."""

    __slots__ = ("calls", "made", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.calls = 0
        self.made = time.monotonic()
