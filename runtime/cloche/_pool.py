"""A fixed number of twins of one node, each on a thread of its own, and the jobs that they share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloche.errors import ClosedError

if TYPE_CHECKING:
    from cloche._node import Node

__all__ = ["Pool"]

Progress = Callable[[int], None]


class Pool:
    """Runs ``process`` on many items in parallel. Made by `Runtime.pool`.

    Each worker holds a clone of one pristine node. A worker whose node breaks (deadline, trap, exit) gets a new clone, in a few
    hundred microseconds; the item that broke it is reported by the exception of its own future and is never tried again.

    Args:
        clone: makes a pristine node.
        size: workers, that is, items that run at once.
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
        if size < 1:
            raise ValueError(f"size is {size}: a pool has at least one worker")
        self.size = size
        self._clone = clone
        self._reset = reset
        self._max_calls = 1 if reset else max_calls
        self._max_age_s = max_age_s
        self._executor = ThreadPoolExecutor(size, "cloche-pool")
        self._idle: deque[_Worker] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self.replaced = 0
        """Nodes replaced so far, for whatever reason."""
        for _ in range(min(warm, size)):
            self._idle.append(_Worker(clone()))

    def submit(self, *data: Any) -> Future[Any]:
        """Run one item; the future gives what `Node.process` gives, or raises what it raises. First come, first served."""
        if self._closed:
            raise ClosedError("the pool is closed")
        return self._executor.submit(self._run, data)

    def map(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """Yield the results in the order of `items`, which are taken a few ahead only: endless ones are fine.

        Args:
            items: one argument each.
            progress: called with the number of results so far, after each.

        Raises:
            ClocheError: what the next item in order raised; the iteration ends there and the items behind it are cancelled.
        """
        window: deque[Future[Any]] = deque()
        source = iter(items)
        done = 0
        try:
            while self._fill(window, source) or window:
                yield window.popleft().result()
                done += 1
                if progress is not None:
                    progress(done)
        finally:
            for future in window:
                future.cancel()

    def imap_unordered(self, items: Iterable[Any], *, progress: Progress | None = None) -> Iterator[Any]:
        """As `map`, in the order in which the items finish."""
        window: deque[Future[Any]] = deque()
        source = iter(items)
        done = 0
        try:
            while self._fill(window, source) or window:
                finished, pending = wait(window, return_when=FIRST_COMPLETED)
                window = deque(pending)
                for future in finished:
                    yield future.result()
                    done += 1
                    if progress is not None:
                        progress(done)
        finally:
            for future in window:
                future.cancel()

    async def asubmit(self, *data: Any) -> Any:
        """As `submit`, awaited under asyncio or trio. Cancelling gives up an item that has not begun; one that has goes on."""
        import anyio.to_thread  # 30 ms: only who awaits pays

        future = self.submit(*data)
        try:
            return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
        finally:
            future.cancel()

    async def amap(self, items: Iterable[Any]) -> AsyncIterator[Any]:
        """As `map`, for ``async for``."""
        import anyio.to_thread

        results = self.map(items)
        end = object()
        try:
            while (result := await anyio.to_thread.run_sync(next, results, end)) is not end:
                yield result
        finally:
            results.close()  # type: ignore[attr-defined]  # map is a generator

    def close(self, *, cancel: bool = False) -> None:
        """Wait for the items under way and those that wait, then close every node. Again: nothing.

        Args:
            cancel: give up the items that have not begun.
        """
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=cancel)
        while self._idle:
            self._idle.pop().node.close()

    def _fill(self, window: deque[Future[Any]], source: Iterator[Any]) -> bool:
        """Keep every worker busy and one more item ready for each; whether anything was added."""
        added = False
        while len(window) < 2 * self.size:
            try:
                item = next(source)
            except StopIteration:
                break
            window.append(self.submit(item))
            added = True
        return added

    def _run(self, data: tuple[Any, ...]) -> Any:
        worker = self._take()
        try:
            return worker.node.process(*data)
        finally:
            worker.calls += 1
            self._give_back(worker)

    def _take(self) -> _Worker:
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker(self._clone())

    def _give_back(self, worker: _Worker) -> None:
        old = self._max_age_s is not None and time.monotonic() - worker.made > self._max_age_s
        worn = self._max_calls is not None and worker.calls >= self._max_calls
        if not (worker.node.broken or old or worn):
            self._idle.append(worker)
            return
        with self._lock:
            self.replaced += 1
        worker.node._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        return f"<cloche.Pool of {self.size} {'closed' if self._closed else 'open'}>"


class _Worker:
    """A node and what it has done."""

    __slots__ = ("calls", "made", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.calls = 0
        self.made = time.monotonic()
