"""`AsyncOutputs`: runs a node's async iterator across several messages of a stream, in one task per stream.

Between two messages the task is suspended at a `Gate`, which later resumes it directly, without an iteration of the event loop.
Since it is one task from the first output to the last, timeouts, task groups and context variables of the node's generator work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloche_wire.messages import Reply

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncIterator, Callable, Generator

    from cloche_guest.loop import Loop

NEED: Final = (int(Reply.NEED), None)
YIELD: Final = int(Reply.YIELD)
YIELD_NEED: Final = int(Reply.YIELD_NEED)


class Gate:
    """An awaitable at which a task is suspended until the host's next message.

    A gate behaves like a future as far as `asyncio.Task` needs (``_asyncio_future_blocking``, ``add_done_callback``, ``result``,
    ``cancel``). A real future would resume the task through the loop, one iteration later.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_loop", "_value")

    _asyncio_future_blocking: bool
    _context: contextvars.Context
    _value: Any

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._callback: Callable[[Gate], None] | None = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Gate, None, Any]:
        self._asyncio_future_blocking = True
        yield self
        return self._value

    def get_loop(self) -> Loop:
        """The loop of the waiting task."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Gate], None], *, context: contextvars.Context) -> None:
        """Called by the task when it starts to wait."""
        self._callback = callback
        self._context = context

    def result(self) -> None:
        """Called by the task when it resumes; an exception raised here is raised in its coroutine."""
        if self._error is not None:
            raise self._error

    def cancel(self, msg: Any = None) -> bool:
        """Called when the task is cancelled: resume it in the loop's next iteration with CancelledError."""
        callback, self._callback = self._callback, None
        if callback is None:
            return False
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(callback, self, context=self._context)
        return True

    def open(self, value: Any = None, error: BaseException | None = None) -> None:
        """Resume the task at once with a value or an exception, and return when it suspends again."""
        callback, self._callback = self._callback, None
        if callback is not None:  # else the task was cancelled
            self._value, self._error = value, error
            self._loop.call(self._context.run, callback, self)


class Input:
    """The stream's input, over which the node's ``async for`` iterates. An item is requested only when the node wants it.

    Attributes:
        waiting: gates of the tasks that wait for an item, in order.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.waiting: deque[Gate] = deque()
        self._ended = False

    def __aiter__(self) -> Input:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        gate = Gate(self._loop)
        self.waiting.append(gate)
        try:
            return await gate
        except asyncio.CancelledError:
            if gate in self.waiting:
                self.waiting.remove(gate)
            raise

    async def aclose(self) -> None:
        """Called by the node when it wants no more items."""
        self.stop()

    def stop(self) -> None:
        """End the input after the items that tasks wait for already."""
        self._ended = True

    def give(self, item: Any) -> None:
        """Hand an item to the task that has waited longest."""
        self.waiting.popleft().open(item)

    def throw(self, error: BaseException) -> None:
        """Raise an exception at the node's ``async for``, and end the input."""
        self._ended = True
        if self.waiting:
            self.waiting.popleft().open(error=error)

    def end(self) -> None:
        """End the input: each ``async for`` over it ends."""
        self._ended = True
        while self.waiting:
            self.waiting.popleft().open(error=StopAsyncIteration())


class AsyncOutputs:
    """Outputs of a node's async iterator, pulled one at a time. None is not an output, and is skipped.

    Args:
        iterator: the node's iterator.
        loop: event loop on which the iterator runs.
        given: the input that the iterator reads, if the node takes the whole input of the stream; else None.
    """

    def __init__(self, iterator: AsyncIterator[Any], loop: Loop, given: Input | None = None) -> None:
        self._iterator = iterator
        self._loop = loop
        self._input = given
        self._task: asyncio.Task[None] | None = None
        self._gate: Gate | None = None
        self._output: Any = None
        self._closing = False

    def pull(self) -> tuple[int, Any] | None:
        """Go on until the iterator has an output or wants an item of input; None: it is exhausted.

        Raises:
            BaseException: the node raised this.
        """
        if self._task is None:
            self._task = self._loop.start(self._run())
        else:
            self._release()
        return self._outcome(self._task)

    def feed(self, item: Any) -> tuple[int, Any] | None:
        """Hand over the item of input that the iterator wants, and go on like `pull`."""
        assert self._task is not None
        assert self._input is not None
        self._release()
        self._input.give(item)
        return self._outcome(self._task)

    def end(self, error: BaseException | None = None) -> tuple[int, Any] | None:
        """End the input, or raise an error at the node's ``async for``, and go on like `pull`."""
        assert self._task is not None
        assert self._input is not None
        self._release()
        if error is None:
            self._input.end()
        else:
            self._input.throw(error)
        return self._outcome(self._task)

    def close(self) -> None:
        """Close the iterator; its ``finally`` and ``async with`` blocks run to their end.

        Raises:
            BaseException: one of these blocks raised this.
        """
        task = self._task
        self._closing = True
        if self._input is not None:
            self._input.stop()
        if task is None:
            self._loop.drive(self._aclose())
            return
        if not task.done():
            task.cancel()
            self._loop.run_until(task.done, task)
        if not task.cancelled():
            task.result()

    def _release(self) -> None:
        """Resume the task after the output that it yielded last."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.open()

    def _outcome(self, task: asyncio.Task[None]) -> tuple[int, Any] | None:
        """Run the loop until there is a reply for the host; None: the iterator is exhausted."""
        given = self._input
        if self._gate is None and not task.done():
            if given is None or not given.waiting:
                self._loop.run_until(self._has_word, task)
            else:
                self._loop.tick()  # another task may now yield an output, so that no input is needed yet
        if self._gate is not None:
            output, self._output = self._output, None
            return (YIELD_NEED if given is not None and given.waiting else YIELD), output
        if task.done():
            task.result()
            return None
        return NEED

    def _has_word(self) -> bool:
        """Whether there is a reply for the host: an output, the end, or the need for input."""
        task, given = self._task, self._input
        return (
            self._gate is not None or (task is not None and task.done()) or (given is not None and bool(given.waiting))
        )

    async def _run(self) -> None:
        try:
            async for output in self._iterator:
                if self._closing:
                    break
                if output is not None:
                    self._output = output
                    self._gate = gate = Gate(self._loop)
                    await gate
        finally:
            await self._aclose()

    async def _aclose(self) -> None:
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()
