"""Awaitable twins of a node's calls, under asyncio and trio. The guest runs on a worker thread; cancelling stops it."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from cloche._requests import ASYNC_PORTAL, is_nested
from cloche._sandbox import Cancelled

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.stream import StreamSession

__all__ = ["call", "settled", "stream"]

T = TypeVar("T")
_AGAIN_S = 0.005


class _Token:
    """Stands for one call: an interrupt ends that call and no other one on the same node."""

    __slots__ = ("begun", "cancelled", "ended")

    def __init__(self) -> None:
        self.cancelled = self.begun = self.ended = False


_queues: RunVar[WeakKeyDictionary[NodeCalls, anyio.Lock]] = RunVar("cloche_queues")


async def call(node: NodeCalls, function: Callable[[], T]) -> T:
    """Run `function`, which calls the node, on a worker thread.

    Calls of one node wait for each other on the event loop, so that together they hold one of its worker threads and not all. A
    call from inside another node's call goes past that queue, on a thread of its own: else it could wait for calls that wait
    for worker threads, which calls like the one around it hold. `NodeLock` refuses it if it would wait for ever.

    When the awaiting task is cancelled, the guest is stopped at once if it is under way, which breaks the node; a call that
    still waited for its turn, or had just ended, leaves it usable: `Node.broken` tells.
    """
    if is_nested():
        return await _run(node, function, anyio.CapacityLimiter(math.inf))
    queue = _queue(node)
    try:
        queue.acquire_nowait()  # without a checkpoint: the thread is one
    except anyio.WouldBlock:
        await queue.acquire()
    try:
        return await _run(node, function, None)
    finally:
        queue.release()


def _queue(node: NodeCalls) -> anyio.Lock:
    """The calls of the node that wait on this event loop."""
    try:
        queues = _queues.get()
    except LookupError:
        queues = WeakKeyDictionary()
        _queues.set(queues)
    queue = queues.get(node)
    if queue is None:
        queue = queues[node] = anyio.Lock()
    return queue


async def _run(node: NodeCalls, function: Callable[[], T], limiter: anyio.CapacityLimiter | None) -> T:
    token = _Token()

    def begin() -> T:
        token.begun = True  # first: either we see that we are cancelled, or who cancels sees that we have begun
        if token.cancelled:
            raise Cancelled(
                f"the call on node {node.name!r} was cancelled before it began", node=node.name, begun=False
            )
        return function()

    def work() -> T:
        try:
            result: T = node.in_turn(token, lambda: token.cancelled, begin)
            return result
        finally:
            token.ended = True

    async with _portal(node):
        try:
            # abandoned rather than shielded: asyncio's own Task.cancel() knows no shields
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
        except anyio.get_cancelled_exc_class():
            token.cancelled = True
            with anyio.CancelScope(shield=True):
                while token.begun and not token.ended:  # again: the worker may have been between two steps
                    node.interrupt(token)
                    await anyio.sleep(_AGAIN_S)
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # raised outside the portal, which would wrap it
            failure = error
    raise failure


async def settled(future: Future[Any]) -> None:
    """Wait until a future is done, without a thread that waits."""
    event = anyio.Event()
    wake = _waker(event.set)
    future.add_done_callback(lambda _: wake())
    await event.wait()


def _waker(function: Callable[[], object]) -> Callable[[], None]:
    """Have `function` called on this event loop, from any thread; once the loop has ended, it does nothing."""
    soon: Callable[[Callable[[], object]], object]
    trio = sys.modules.get("trio")
    try:
        soon = trio.lowlevel.current_trio_token().run_sync_soon  # type: ignore[union-attr]  # None: see below
    except (AttributeError, RuntimeError):  # no trio, or not inside of it
        import asyncio

        soon = asyncio.get_running_loop().call_soon_threadsafe

    def wake() -> None:
        with suppress(RuntimeError):
            soon(function)

    return wake


@asynccontextmanager
async def _portal(node: NodeCalls) -> AsyncIterator[None]:
    """In the block, the node's ``async def`` services run on this event loop."""
    if not node.has_async_services:
        yield
        return
    from anyio.from_thread import BlockingPortal

    async with BlockingPortal() as portal:
        before = ASYNC_PORTAL.set(portal)
        try:
            yield
        finally:
            ASYNC_PORTAL.reset(before)


async def stream(
    node: NodeCalls, steps: StreamSession, items: AsyncIterable[Any] | Iterable[Any]
) -> AsyncIterator[Any]:
    """As `stream.run`, with items from an async or plain iterable; a plain one is asked on the event loop's thread."""
    asource = aiter(items) if isinstance(items, AsyncIterable) else None
    source = iter(()) if isinstance(items, AsyncIterable) else iter(items)
    try:
        await call(node, steps.open)
        while not steps.ended:
            if steps.output:
                yield steps.value
            if not steps.wants:
                await call(node, steps.next)
                continue
            try:
                item = await anext(asource) if asource is not None else next(source)
            except (StopIteration, StopAsyncIteration):
                await call(node, steps.end)
            except Exception as error:
                thrown = error
                await call(node, lambda error=thrown: steps.throw(error))  # type: ignore[misc]  # bound now, not later
            else:
                await call(node, lambda item=item: steps.feed(item))  # type: ignore[misc]  # bound now, not later
    finally:
        if steps.ended:
            steps.close()
        else:
            with anyio.CancelScope(
                shield=True
            ):  # the node's finally blocks run, within the deadline, though we are cancelled
                await call(node, steps.close)
