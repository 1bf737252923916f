"""`LoopPortal`: starts coroutines on the event loop of the task that made it, from any thread. Under asyncio and trio.

Unlike `anyio.from_thread.BlockingPortal` it needs no block that it is open in, so it can outlive a step of an async generator.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any

__all__ = ["LoopPortal", "trio_token"]


def trio_token() -> Any:
    """The token of the trio loop that runs on this thread; None if there is none."""
    trio = sys.modules.get("trio")
    try:
        return trio.lowlevel.current_trio_token()  # type: ignore[union-attr]  # None raises AttributeError
    except (AttributeError, RuntimeError):  # trio is not imported, or does not run here
        return None


class LoopPortal:
    """Must be made on the event loop's thread, where the loop runs."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._begin: Callable[[Callable[[], Awaitable[Any]], Future[Any], Context], None]
        token = trio_token()
        if token is not None:
            self._begin = partial(_begin_in_trio, token)
        else:
            import asyncio

            self._begin = partial(_begin_in_asyncio, asyncio.get_running_loop())

    def start_task_soon(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Future[Any]:
        """Start a coroutine, in a copy of the caller's context. Cancelling the returned future cancels the coroutine.

        Raises:
            RuntimeError: the loop has ended, or this is its own thread, which must not wait for it.
        """
        if threading.get_ident() == self._thread:
            raise RuntimeError("called on the event loop's own thread")
        future: Future[Any] = Future()
        self._begin(partial(function, *arguments), future, copy_context())
        return future


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    with suppress(InvalidStateError):  # it was cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _begin_in_asyncio(loop: Any, function: Callable[[], Awaitable[Any]], future: Future[Any], context: Context) -> None:
    def begin() -> None:
        if future.cancelled():
            return
        task = loop.create_task(function())

        def finished(_: object) -> None:
            if task.cancelled():
                future.cancel()
            else:
                error = task.exception()
                _settle(future, None if error is not None else task.result(), error)

        def cancel(_: object) -> None:
            if future.cancelled():
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(finished)
        future.add_done_callback(cancel)

    loop.call_soon_threadsafe(begin, context=context)


def _begin_in_trio(token: Any, function: Callable[[], Awaitable[Any]], future: Future[Any], context: Context) -> None:
    import trio

    async def run() -> None:
        with trio.CancelScope() as scope:

            def cancel(_: object) -> None:
                if future.cancelled():
                    with suppress(trio.RunFinishedError):
                        token.run_sync_soon(scope.cancel)

            future.add_done_callback(cancel)
            try:
                result = await function()
            except Exception as error:
                _settle(future, None, error)
            else:
                _settle(future, result, None)
        future.cancel()  # if the scope was cancelled; otherwise it is done

    token.run_sync_soon(partial(trio.lowlevel.spawn_system_task, run, context=context))
