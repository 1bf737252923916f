"""What a run needs to be awaited, under asyncio and trio: threads for its waits, and a bridge from async iterables to a thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.to_thread

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
    if not isinstance(items, AsyncIterable):
        return items
    trio = sys.modules.get("trio")
    try:
        token = trio.lowlevel.current_trio_token()  # type: ignore[union-attr]  # None raises AttributeError
    except (AttributeError, RuntimeError):  # trio is not imported, or does not run here
        return _AsyncioBridge(aiter(items), asyncio.get_running_loop())
    return _TrioBridge(aiter(items), trio, token)


async def _next(items: AsyncIterator[Any]) -> list[Any]:
    """The next item in a list, which is empty at the end: StopAsyncIteration cannot leave a task."""
    try:
        return [await anext(items)]
    except StopAsyncIteration:
        return []


def _only(found: list[Any]) -> Any:
    """The one item of what `_next` has found.

    Raises:
        StopIteration: there is none.
    """
    if not found:
        raise StopIteration
    return found[0]


class _AsyncioBridge:
    def __init__(self, items: AsyncIterator[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._items = items
        self._loop = loop
        self._future: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        coroutine = _next(self._items)
        try:
            self._future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            if self._closed:
                self._future.cancel()
            found: list[Any] = self._future.result()
        except CancelledError:
            if not self._closed:
                raise ClocheError("the input was cancelled") from None
            raise StopIteration from None
        except RuntimeError:
            coroutine.close()
            if self._loop.is_closed():
                raise StopIteration from None
            raise
        return _only(found)

    def close(self) -> None:
        """Take no more items, and end the wait for the next one."""
        self._closed = True
        if self._future is not None:
            self._future.cancel()


class _TrioBridge:
    def __init__(self, items: AsyncIterator[Any], trio: Any, token: Any) -> None:
        self._items = items
        self._trio = trio
        self._token = token
        self._scope: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    async def _next(self) -> list[Any]:
        self._scope = self._trio.CancelScope()
        if self._closed:
            return []
        found: list[Any] = []
        with self._scope:  # a cancellation ends the block, and there is no item
            found += await _next(self._items)
        return found

    def __next__(self) -> Any:
        try:
            found: list[Any] = self._trio.from_thread.run(self._next, trio_token=self._token)
        except self._trio.RunFinishedError:
            raise StopIteration from None
        return _only(found)

    def close(self) -> None:
        """Take no more items, and end the wait for the next one."""
        self._closed = True
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
