"""What a run needs to be awaited, under asyncio and trio: threads for its waits, and a bridge from async iterables to a thread."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from cloche._runtime.loop_portal import LoopPortal
from cloche.errors import ClocheError

__all__ = ["feedable", "in_thread"]

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a thread that nobody else on the event loop waits for. A cancelled task does not wait for its end."""
    return await anyio.to_thread.run_sync(
        function, *arguments, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
    )


def feedable(items: AsyncIterable[Any] | Iterable[Any]) -> Iterable[Any]:
    """Items as another thread can take them; those of an async iterable are awaited on this event loop."""
    return _Bridge(aiter(items)) if isinstance(items, AsyncIterable) else items


async def _next(items: AsyncIterator[Any]) -> list[Any]:
    """The next item in a list, which is empty at the end: StopAsyncIteration cannot leave a task."""
    try:
        return [await anext(items)]
    except StopAsyncIteration:
        return []


class _Bridge:
    """The items of an async iterator, each awaited on the event loop on which this was made."""

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self._items = items
        self._portal = LoopPortal()
        self._future: Future[list[Any]] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            self._future = future = self._portal.start_task_soon(_next, self._items)
        except RuntimeError:  # the loop has ended
            raise StopIteration from None
        if self._closed:
            future.cancel()
        try:
            found = future.result()
        except CancelledError:
            if not self._closed:
                raise ClocheError("the input was cancelled") from None
            raise StopIteration from None
        if not found:
            raise StopIteration
        return found[0]

    def close(self) -> None:
        """Take no more items, and end the wait for the next one."""
        self._closed = True
        if self._future is not None:
            self._future.cancel()
