"""`Pool`: clones of one node that share a queue of items. Its workers are in `pool_workers`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from cloche._arguments import checked_method, checked_seconds
from cloche._html import table
from cloche._keywords import teaches
from cloche._pickles import handle
from cloche._requests import ASYNC_PORTAL
from cloche._runtime.call_options import NO_OPTIONS, CallOptions
from cloche._runtime.loans import Loan
from cloche._runtime.loop_portal import LoopPortal
from cloche._runtime.node import Node, NodeView
from cloche._runtime.pool_items import HELD, PoolFuture, PoolItem
from cloche._runtime.pool_workers import PoolStats, PoolWorkers
from cloche.errors import ClocheError, ClosedError, name_item

if TYPE_CHECKING:
    from cloche._records import LogRecord

__all__ = ["Pool"]

Progress = Callable[[int], None]


class Pool:
    """Runs ``process`` on many items in parallel. Made by `Runtime.pool`.

    Each item runs on a clone of one pristine node, on a thread of the pool. If the clone breaks (hard deadline, trap, exit), it is
    replaced, in a few hundred microseconds. The future of the item that broke it raises the error; the item is not tried again.

    Args:
        workers: the pool's nodes, threads and queue.
        options: options of all calls that are made through this object.
        queue_timeout_s: see `with_options`.
        acquire_timeout_s: see `with_options`.
    """

    def __init__(
        self,
        workers: PoolWorkers,
        options: CallOptions = NO_OPTIONS,
        queue_timeout_s: float | None = None,
        acquire_timeout_s: float | None = None,
    ) -> None:
        self._workers = workers
        self._options = options
        self._queue_timeout_s = queue_timeout_s
        self._acquire_timeout_s = acquire_timeout_s

    @property
    def size(self) -> int:
        """Number of items that can run at the same time."""
        return self._workers.size

    @property
    def replaced(self) -> int:
        """Number of nodes that have been replaced so far: broken, old or used up."""
        return self._workers.replaced

    @property
    def stats(self) -> PoolStats:
        """What the pool has done so far, and what it does now."""
        return self._workers.stats()

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle("a Pool", "make one in the other process, with `Runtime.pool`"))

    @teaches()
    def with_options(
        self,
        *,
        deadline_s: float | EllipsisType | None = ...,
        on_log: Callable[[LogRecord], object] | EllipsisType | None = ...,
        queue_timeout_s: float | EllipsisType | None = ...,
        acquire_timeout_s: float | EllipsisType | None = ...,
    ) -> Pool:
        """This pool, seen through options: items that are submitted through the returned object have them.

        Both objects are the same pool. ``with_options`` of the returned object keeps the options that are not given anew.

        Args:
            deadline_s: as for `Node.with_options`.
            on_log: as for `Node.with_options`. Items run at the same time, so their records are mixed; the function is called with
                one after the other.
            queue_timeout_s: seconds for which `submit` waits for room in a full queue (``max_queue`` of `Runtime.pool`) before it
                raises; 0: do not wait; None: as long as it takes.
            acquire_timeout_s: seconds that an item may wait for a node, from its submission; None: as long as it takes.

        Raises:
            TypeError: an option has the wrong class; the message names it.
            ValueError: a number is out of range.
        """
        if queue_timeout_s is not ... and queue_timeout_s is not None and not self._workers.is_bounded:
            raise ValueError("queue_timeout_s is for a pool with max_queue: a queue without a bound has room at once")
        return Pool(
            self._workers,
            self._options.but(deadline_s=deadline_s, on_log=on_log),
            self._queue_timeout_s if queue_timeout_s is ... else checked_seconds("queue_timeout_s", queue_timeout_s),
            self._acquire_timeout_s
            if acquire_timeout_s is ...
            else checked_seconds("acquire_timeout_s", acquire_timeout_s),
        )

    def submit(self, /, *data: Any, **keywords: Any) -> PoolFuture:
        """Queue one item. Items begin in the order in which they were submitted, in a copy of their caller's context.

        Args:
            data: the positional arguments of `Node.process`.
            keywords: its keyword arguments.

        Returns:
            a future with the result of `Node.process`, or its exception. If a node has to be made for the item and that fails, the
            future has the exception of `Runtime.restore`; if no node was free within ``acquire_timeout_s``, a `PoolTimeoutError`.
            Cancelling the future of an item that runs interrupts its node.

        Raises:
            ClosedError: the pool is closed.
            PoolTimeoutError: the queue was full for ``queue_timeout_s``.
            ClocheError: no thread can be started.
        """
        return self._submit(lambda node: node.process(*data, **keywords)).future

    def _lent(self, item: PoolItem, node: Node) -> Node:
        """The node for its holder, for whom it is closed once the item has ended."""
        item.loan = Loan(node.__cloche__)
        return self._seen(Node(item.loan, node._restore))  # noqa: SLF001  # of the same node

    def _seen(self, node: Node) -> Node:
        return node if self._options is NO_OPTIONS else NodeView(node, self._options)

    def _submit(self, work: Callable[[Node], Any] | None, *, may_block: bool = True) -> PoolItem:
        chosen = work
        if work is not None and self._options is not NO_OPTIONS:
            given = work

            def chosen(node: Node) -> Any:
                return given(self._seen(node))

        item = PoolItem(self._workers, chosen, self._acquire_timeout_s)
        self._workers.submit(item, self._queue_timeout_s, may_block=may_block)
        return item

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

    def call(self, method: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Run one item that calls another public method than ``process``, and wait for its result.

        Which of the nodes gets it is left to chance, so what it changes there is seen by some of the later items and not by others.

        Args:
            method: as for `Node.call`.
            arguments: its positional arguments.
            keywords: its keyword arguments.

        Raises:
            ClocheError: as for `Node.call`, and as `submit` and its future.
        """
        name = checked_method(method)
        item = self._submit(lambda node: node.call(name, *arguments, **keywords))
        try:
            return item.future.result()
        finally:
            item.future.cancel()

    @contextmanager
    def acquire(self) -> Iterator[Node]:
        """Have one of the nodes for yourself inside the ``with`` block, for several calls in a row, or for a stream.

        It waits for its turn like an item, for ``acquire_timeout_s`` at most. After the block the node goes back to the pool: for
        you it is closed then, with its views, and what you have left open (a stream, a lease) is closed. With ``reset=True`` it is
        replaced, as after an item; so is a node that has broken, that you have closed, or that you have made a `Node.buffer` in.

        Raises:
            PoolTimeoutError: no node was free in time.
            ClosedError: the pool is closed.
            ClocheError: as for the future of `submit`, if a node has to be made.
        """
        item, held = self._submit(None), HELD.get()
        try:
            try:
                node = item.future.result()
                HELD.set((*held, item))
                yield self._lent(item, node)
            finally:
                HELD.set(held)
                self._workers.release(item)
        finally:
            HELD.set(held)
            self._workers.release(item)  # again: an interrupt may have prevented the first one

    @asynccontextmanager
    async def aacquire(self) -> AsyncIterator[Node]:
        """As `acquire`, for ``async with`` under asyncio or trio. Waiting for a node holds no thread."""
        from cloche._runtime.async_calls import on_a_thread, settled  # late: importing anyio takes 30 ms

        item, held = self._submit(None, may_block=False), HELD.get()
        try:
            await settled(item.future)
            HELD.set((*held, item))
            yield self._lent(item, item.future.result())
        finally:
            HELD.set(held)
            if item.loan is not None and item.loan.has_stream:
                await on_a_thread(item.loan.end)  # it calls the node
            self._workers.release(item)

    async def asubmit(self, /, *data: Any, **keywords: Any) -> Any:
        """As `submit`, and wait for the result, under asyncio or trio. Waiting holds no thread of the event loop.

        Cancelling the task cancels the item. If it runs, its node is interrupted, and the task ends when the node has unwound.
        ``async def`` services of the node run on this event loop.
        """
        return await self._await(lambda node: node.process(*data, **keywords))

    async def acall(self, method: str, /, *arguments: Any, **keywords: Any) -> Any:
        """As `call`, awaitable like `asubmit`."""
        name = checked_method(method)
        return await self._await(lambda node: node.call(name, *arguments, **keywords))

    async def _await(self, work: Callable[[Node], Any]) -> Any:
        from cloche._runtime.async_calls import ended, settled  # late: importing anyio takes 30 ms

        with self._on_this_loop():
            item = self._submit(work, may_block=False)
        try:
            await settled(item.future)
            return item.future.result()
        finally:
            if item.future.cancel():
                await ended(item)

    @contextmanager
    def _on_this_loop(self) -> Iterator[None]:
        """Inside the ``with`` block, items are submitted whose ``async def`` services run on the current event loop."""
        if not self._workers.has_async:
            yield
            return
        before = ASYNC_PORTAL.set(LoopPortal())
        try:
            yield
        finally:
            ASYNC_PORTAL.reset(before)

    def amap(self, items: Iterable[Any], *, progress: Progress | None = None) -> AsyncIterator[Any]:
        """As `map`, for ``async for``."""
        return self._awaited(self.map(items, progress=progress))

    def aimap_unordered(self, items: Iterable[Any], *, progress: Progress | None = None) -> AsyncIterator[Any]:
        """As `imap_unordered`, for ``async for``."""
        return self._awaited(self.imap_unordered(items, progress=progress))

    async def _awaited(self, results: Iterator[Any]) -> AsyncIterator[Any]:
        """Wait for each result on a worker thread that counts against no limit of the event loop."""
        import anyio.to_thread

        end, limiter = object(), anyio.CapacityLimiter(1)
        portal = LoopPortal() if self._workers.has_async else None

        def step() -> Any:
            ASYNC_PORTAL.set(portal)  # in the copied context of this step, in which items are submitted
            return next(results, end)

        try:
            while (result := await anyio.to_thread.run_sync(step, limiter=limiter)) is not end:
                yield result
        finally:
            results.close()  # type: ignore[attr-defined]  # a generator

    def close(self, timeout: float | None = None, *, cancel: bool = False) -> None:
        """Wait for the items under way and in the queue, then close every node.

        Calling `close` again does nothing; if an interrupt ended the first attempt, the next one continues it.

        Args:
            timeout: seconds for which the items are waited for; then those that wait are cancelled, and those that run are
                interrupted, as by `Node.close`. The ``cleanup``s together may take what is left of that time, and one second more.
                None: as long as the items take.
            cancel: cancel the items that have not begun, at once.

        Raises:
            ExceptionGroup: the errors of one or more ``cleanup``s that raised; the nodes are closed nevertheless. With a `timeout`,
                one of a node in a service that does not return: that node stays open, and is closed by the next `close`.
            ClocheError: `close` was called from inside one of the pool's own items; nothing is closed.
        """
        self._workers.close(cancel=cancel, timeout_s=checked_seconds("timeout", timeout))

    async def aclose(self, timeout: float | None = None, *, cancel: bool = False) -> None:
        """As `close`, awaitable under asyncio and trio: the event loop goes on meanwhile. Cancelling the task does not end it."""
        from cloche._runtime.async_calls import on_a_thread

        await on_a_thread(partial(self.close, timeout, cancel=cancel))

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(cancel=kind is not None)

    def __repr__(self) -> str:
        options = f", {self._options}" if str(self._options) else ""
        return f"<cloche.Pool of {self.size} {'closed' if self._workers.is_closed else 'open'}{options}>"

    def _repr_html_(self) -> str:
        stats = self.stats
        rows = [("state", "closed" if self._workers.is_closed else "open")]
        return table("Pool", [*rows, *((one.name, getattr(stats, one.name)) for one in fields(stats))])


@dataclass(frozen=True, slots=True)
class _Job:
    """An item of `map` that has been submitted, with its index."""

    index: int
    future: PoolFuture

    def result(self) -> Any:
        """Wait for the item, and return its result. Its errors get its index as ``item``."""
        try:
            return self.future.result()
        except CancelledError:
            closed = ClosedError("the pool was closed before this item began")
            name_item(closed, self.index)
            raise closed from None
        except ClocheError as error:
            name_item(error, self.index)
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
