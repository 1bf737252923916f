"""A fixed number of twins of one node, each on a thread of its own, and the jobs that they share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloche import _forks
from cloche._requests import is_inside
from cloche.errors import ClocheError, ClosedError

if TYPE_CHECKING:
    from cloche._runtime.node import Node

__all__ = ["Pool"]

Progress = Callable[[int], None]


class Pool:
    """Runs ``process`` on many items in parallel. Made by `Runtime.pool`.

    Each worker holds a clone of one pristine node. A worker whose node breaks (deadline, trap, exit) gets a new clone, in a few
    hundred microseconds; the item that broke it is reported by the exception of its own future and is never tried again.

    Args:
        clone: makes a pristine node.
        size: workers, that is, items that run at once; 1 or more.
        warm: clones made at once rather than at a worker's first item.
        reset: give each item a pristine node, so that nothing crosses from one item to the next.
        max_calls: items after which a worker's node is replaced; None: never.
        max_age_s: seconds after which it is replaced; None: never.
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
        """Nodes replaced so far, for whatever reason."""
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
        """The state without threads: at the start, and in the child of a fork, to which the items under way do not belong."""
        self._executor = ThreadPoolExecutor(self.size, "cloche-pool")
        self._lock = threading.Lock()
        self._under_way: set[_Worker] = set()

    def submit(self, *data: Any) -> Future[Any]:
        """Run one item; the future gives what `Node.process` gives, or raises what it raises. First come, first served.

        If a node has to be made for the item, and that fails, the future raises what `Runtime.restore` raised.

        Raises:
            ClosedError: the pool is closed.
            ClocheError: no thread can be started.
        """
        if self._closed:
            raise ClosedError("the pool is closed")
        try:
            return self._executor.submit(self._run, data)
        except RecursionError:  # the caller's own: a RuntimeError, too
            raise
        except RuntimeError as error:
            if self._closed:  # in this moment, by another thread
                raise ClosedError("the pool is closed") from error
            raise ClocheError(f"the pool cannot run the item: {error}") from error

    def map(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """Yield the results in the order of `items`, which are taken a few ahead only: endless ones are fine.

        Args:
            items: one argument each.
            progress: called with the number of results so far, after each.

        Raises:
            ClocheError: what the next item in order raised, with its index as ``item``; the iteration ends there and the items
                behind it are cancelled.
        """
        return self._results(items, progress, _next_in_order)

    def imap_unordered(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """As `map`, in the order in which the items finish."""
        return self._results(items, progress, _next_to_finish)

    async def asubmit(self, *data: Any) -> Any:
        """As `submit`, awaited under asyncio or trio. Cancelling gives up an item that has not begun; one that has goes on."""
        from cloche._runtime.async_calls import settled  # anyio takes 30 ms to import: only a caller that awaits pays

        future = self.submit(*data)
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
        """Wait for the items under way and those that wait, then close every node.

        Calling it again does nothing, or goes on where an interrupt had ended it.

        Args:
            cancel: give up the items that have not begun.

        Raises:
            ExceptionGroup: what the failed ``cleanup``s raised, be it a single one; the nodes are closed all the same.
            ClocheError: it was called from inside one of its own items; nothing is closed.
        """
        if is_inside([worker.node.__cloche__.lock for worker in list(self._under_way)]):
            raise ClocheError("the pool cannot be closed from inside one of its own items")
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=cancel)
        failures: list[Exception] = []
        for worker in list(self._idle):  # each stays in the list until it is closed: see above, interrupt
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
        """Not part of `_results`: interrupts at the end of a loop get past the ``try`` around it."""
        done = 0
        while self._fill(window, source) or window:
            for job in take(window):
                try:
                    result = job.result()
                except BaseException:
                    job.future.cancel()  # an interrupt: it may not have begun
                    raise
                yield result
                done += 1
                if progress is not None:
                    progress(done)

    def _fill(self, window: deque[_Job], source: Iterator[tuple[int, Any]]) -> bool:
        """Keep every worker busy and one more item ready for each; whether anything was added."""
        added = False
        while len(window) < 2 * self.size:
            try:
                index, item = next(source)
            except StopIteration:
                break
            window.append(_Job(index, self.submit(item)))
            added = True
        return added

    def _run(self, data: tuple[Any, ...]) -> Any:
        worker = self._take()
        try:
            self._under_way.add(worker)
            return worker.node.process(*data)
        finally:
            self._under_way.discard(worker)
            worker.calls += 1
            self._give_back(worker)

    def _take(self) -> _Worker:
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # another item has taken it
                break
            if not worker.node.broken:  # while it was idle: in the child of a fork, a worker process is the parent's
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
    """An item of a map, under way."""

    index: int
    future: Future[Any]

    def result(self) -> Any:
        """Wait for it."""
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
    """All that have finished by now, one at least."""
    finished, _ = wait([job.future for job in window], return_when=FIRST_COMPLETED)
    jobs = list(window)
    window.clear()
    window.extend(job for job in jobs if job.future not in finished)
    return [job for job in jobs if job.future in finished]


async def _awaited(results: Iterator[Any]) -> AsyncIterator[Any]:
    """Each of them waited for on a worker thread, which does not count among those that all of the event loop's code shares."""
    import anyio.to_thread

    end, limiter = object(), anyio.CapacityLimiter(1)
    try:
        while (result := await anyio.to_thread.run_sync(next, results, end, limiter=limiter)) is not end:
            yield result
    finally:
        results.close()  # type: ignore[attr-defined]  # a generator


class _Worker:
    """A node and what it has done."""

    __slots__ = ("calls", "made", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.calls = 0
        self.made = time.monotonic()
