"""The awaitable forms of a node's calls, under asyncio and trio. The guest runs on a worker thread; cancelling interrupts it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from cloche._requests import ASYNC_PORTAL, is_nested
from cloche._runtime.loop_portal import trio_token
from cloche.errors import CallInterruptedError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.closing import Closing
    from cloche._runtime.stream import StreamSession

__all__ = ["call", "close", "ended", "on_a_thread", "settled", "stream"]

T = TypeVar("T")
_MOST_THREADS = 40
"""Nodes that run at the same time on one event loop, at most."""
_AGAIN_S = 0.005
"""Seconds between two attempts to interrupt a call whose task was cancelled."""


class _Token:
    """Identifies one call, so that cancelling its task interrupts that call and no other one on the same node."""

    __slots__ = ("begun", "cancelled", "ended")

    def __init__(self) -> None:
        self.cancelled = self.begun = self.ended = False


_limiters: RunVar[anyio.CapacityLimiter] = RunVar("cloche_limiter")
_queues: RunVar[WeakKeyDictionary[NodeCalls, anyio.Lock]] = RunVar("cloche_queues")


async def call(node: NodeCalls, function: Callable[[], T]) -> T:
    """Run `function`, which calls the node, on a worker thread of this event loop.

    Calls of one node queue on the event loop, so that together they occupy one of its worker threads instead of all. A call from
    inside another node's call skips the queue and gets a thread of its own. In the queue it could wait for a call that waits for
    a thread, while the outer call occupies the last one. `NodeLock` refuses it if it would wait forever.

    If the awaiting task is cancelled while the guest runs, the guest is interrupted: the node unwinds and stays usable, or is
    stopped after `Limits.grace_s`, which breaks it. If the call still queues, or has just ended, the node is not touched.
    """
    if is_nested():
        return await _run(node, function, anyio.CapacityLimiter(math.inf))
    queue = _queue(node)
    try:
        queue.acquire_nowait()  # not `async with`: its extra checkpoint would cost a turn of the event loop
    except anyio.WouldBlock:
        await queue.acquire()
    try:
        return await _run(node, function, _limiter())
    finally:
        queue.release()


def _limiter() -> anyio.CapacityLimiter:
    """Bounds the threads of this event loop on which nodes run. The loop's default limiter stays free for the caller's own use."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MOST_THREADS)
        _limiters.set(limiter)
        return limiter


async def close(node: NodeCalls, closing: Closing) -> None:
    """Close the node on a worker thread. It queues behind the calls that were made before, but no longer than `closing` says."""
    if is_nested() or closing.left_s is None:
        await call(node, partial(node.close, closing))
        return
    queue, has_queued = _queue(node), False
    with anyio.move_on_after(closing.left_s):
        await queue.acquire()
        has_queued = True
    try:
        await on_a_thread(partial(node.close, closing))
    finally:
        if has_queued:
            queue.release()


def _queue(node: NodeCalls) -> anyio.Lock:
    """The lock for which the calls of this node queue on this event loop."""
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
        token.begun = True  # before the check: else a cancellation between the two is lost
        if token.cancelled:
            raise CallInterruptedError(f"the call on node {node.name!r} was cancelled before it began", node=node.name)
        return function()

    def work() -> T:
        try:
            result: T = node.in_turn(token, lambda: token.cancelled, begin)
            return result
        finally:
            token.ended = True

    async with _portal(node):
        try:
            # not shielded: asyncio's Task.cancel() ignores anyio's shields
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
        except anyio.get_cancelled_exc_class():
            token.cancelled = True
            with anyio.CancelScope(shield=True):
                while token.begun and not token.ended:  # repeated: an interrupt before the guest runs has no effect
                    node.interrupt(token)
                    await anyio.sleep(_AGAIN_S)
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # raised below: the portal would wrap it in a group
            failure = error
    raise failure


class _Ends(Protocol):
    @property
    def has_ended(self) -> bool:
        """Whether it has."""


async def ended(item: _Ends) -> None:
    """Wait until an item has ended whose future was cancelled: its node unwinds. Cancelling the task does not end the wait."""
    with anyio.CancelScope(shield=True):
        while not item.has_ended:
            await anyio.sleep(_AGAIN_S)


async def on_a_thread(function: Callable[[], T]) -> T:
    """Run `function` on a worker thread that counts against no limit of the event loop. Cancelling the task does not end it."""
    outcome: list[T] = []
    with anyio.CancelScope(shield=True):
        outcome.append(await anyio.to_thread.run_sync(function, limiter=anyio.CapacityLimiter(1)))
    return outcome[0]


async def settled(future: Future[Any]) -> None:
    """Wait on the event loop until a future is done."""
    event = anyio.Event()
    wake = _waker(event.set)
    future.add_done_callback(lambda _: wake())
    await event.wait()


def _waker(function: Callable[[], object]) -> Callable[[], None]:
    """A function that schedules `function` on this event loop. Any thread may call it; after the loop's end it does nothing."""
    soon: Callable[[Callable[[], object]], object]
    token = trio_token()
    if token is not None:
        soon = token.run_sync_soon
    else:
        import asyncio

        soon = asyncio.get_running_loop().call_soon_threadsafe

    def wake() -> None:
        with suppress(RuntimeError):
            soon(function)

    return wake


@asynccontextmanager
async def _portal(node: NodeCalls) -> AsyncIterator[None]:
    """Inside the ``with`` block, ``async def`` services of the node run on this event loop."""
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
    """As `stream.run`, with items from an async iterable, or from a plain one, which runs on the event loop's thread."""
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
            with anyio.CancelScope(shield=True):  # the generators' finally blocks run even if this task is cancelled
                await call(node, steps.close)
