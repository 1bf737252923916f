"""A loaded node: what the caller holds, and calls like an object."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloche._arguments import checked_shape
from cloche._runtime import stream as _stream
from cloche._runtime.stream import StreamSession
from cloche._sandbox import Stats
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._records import StreamPosition
    from cloche._runtime.calls import NodeCalls
    from cloche._sandbox import Snapshot
    from cloche.services import ServiceRecord

__all__ = ["Node", "Stats"]

_PROCESS = int(Op.PROCESS)


class Node:
    """A third-party node, alive in its own sandbox. Made by `Runtime.load`.

    One call at a time: calls from several threads wait for each other; different nodes run in parallel.

    Attributes:
        name: as given to `Runtime.load`, or the entry's name.
        info: what the guest says of the entry: ``entry``, ``kind`` ("class" or "function"), ``is_streaming``, ``is_source``,
            ``is_sink``, ``methods``.
    """

    def __init__(self, calls: NodeCalls, restore: Callable[[Snapshot, str, bool], Node]) -> None:
        self.name = calls.name
        self.info = calls.info
        self.__cloche__ = calls
        self._restore = restore
        # kept here as well for `process`, which is timed in microseconds
        self._lock = calls.lock
        self._sandbox = calls.sandbox

    def process(self, *data: Any) -> Any:
        """Call the node's ``process`` (``aprocess`` where it has one) and wait for the result.

        Args:
            data: usually one value; several for a node that takes several.

        Returns:
            what the node returned, awaited in the guest. A node that yields gives the list of all it yields.

        Raises:
            EncodeError: `data` cannot be sent; the node was not called.
            NodeRaisedError: the node raised, or returned what cannot be encoded; it stays usable.
            DeadlineError: it ran too long and unwound when it was told; it stays usable. A `HardDeadlineError`: it did not, and
                was stopped, which breaks it as below.
            LimitError: another limit that ends a call was passed; unless it is a `BrokenInstanceError`, too, it stays usable.
            BrokenInstanceError: a trap, an exit, no memory; the instance is closed, and the node broken, unless it was loaded
                with another ``on_break``.
            ClosedError: it was closed or broken before.
        """
        lock = self._lock  # as `NodeCalls.call` does, but this is the one that is timed in microseconds
        if lock.owned():
            return self.__cloche__.call(Op.PROCESS, list(data), "data")
        try:
            try:
                if not lock.acquire(False):
                    lock.wait()
                if self.__cloche__.closed:
                    raise self.__cloche__.closed_error()
                lock.busy = True
                kind, value = self._sandbox.exchange(_PROCESS, data, "data")
                lock.busy = False
                if kind is not Reply.RESULT:
                    self._sandbox.finish(kind, value, Op.PROCESS)
                lock.release()
            except BaseException:
                if lock.owned():
                    lock.release()
                raise
        except BaseException:
            if lock.owned():
                lock.release()
            raise
        return value

    def initialize(self) -> Any:
        """Call the node's ``initialize``, if it has one. Raises as `process` does."""
        return self.__cloche__.initialize()

    def flush(self) -> Any:
        """Call the node's ``flush``, if it has one, and return what it gives. Raises as `process` does."""
        return self.__cloche__.call(Op.INVOKE, ["flush"], "")

    def cleanup(self) -> Any:
        """Call the node's ``cleanup``, if it has one. `close` does it too. Raises as `process` does."""
        return self.__cloche__.call(Op.INVOKE, ["cleanup"], "")

    def get(self, name: str) -> Any:
        """The value of the node's attribute `name`, copied out. Raises as `process` does."""
        return self.__cloche__.call(Op.GET, [name], "name")

    def stream(self, items: Iterable[Any] = ()) -> Iterator[Any]:
        """Feed `items` one at a time, as the node asks for them, and yield each output as it is produced.

        Closing the iterator early closes the node's generators: their ``finally`` blocks run, within the deadline. Each
        step into the guest has the whole deadline for itself.

        Args:
            items: any iterable, also an endless one; none for a node that is a source.

        Yields:
            what the node yields or returns, None left out; at the end what its ``flush`` gives.

        Raises:
            NodeRaisedError: after the outputs that came before it. The node stays usable.
            StreamLimitError: the stream passed ``stream_items`` or ``stream_s``. The node stays usable.
            BrokenInstanceError: as in `process`.
            Exception: what `items` itself raises, once the node has seen it at its ``async for``.
        """
        return _stream.run(StreamSession(self.__cloche__), items)

    def resume(self, items: Iterable[Any] = ()) -> Iterator[Any]:
        """Go on with the stream that was open when the node's snapshot, or its last checkpoint, was taken.

        Args:
            items: those that follow the first ``stream_position.items``, which the node was given before that. Outputs that it
                gave after that come a second time.

        Yields:
            as `stream`.

        Raises:
            ClocheError: no such stream is open. Otherwise as `stream`.
        """
        return _stream.run(StreamSession(self.__cloche__, resume=True), items)

    @property
    def stream_position(self) -> StreamPosition | None:
        """Where the stream is that the node has open; None: it has none."""
        return self._sandbox.position

    async def aprocess(self, *data: Any) -> Any:
        """As `process`, awaitable under asyncio and trio; the guest runs on a worker thread.

        Cancelling the task tells the node to stop: it unwinds and stays usable. One that has not within `Limits.grace_s` is
        stopped, which breaks it: `broken` tells.
        """
        return await self._await(partial(self.process, *data))

    async def ainitialize(self) -> Any:
        """As `initialize`, awaitable like `aprocess`."""
        return await self._await(self.initialize)

    async def aflush(self) -> Any:
        """As `flush`, awaitable like `aprocess`."""
        return await self._await(self.flush)

    async def acleanup(self) -> Any:
        """As `cleanup`, awaitable like `aprocess`."""
        return await self._await(self.cleanup)

    async def aclose(self) -> None:
        """As `close`, awaitable like `aprocess`."""
        await self._await(self.close)

    def astream(self, items: AsyncIterable[Any] | Iterable[Any] = ()) -> AsyncIterator[Any]:
        """As `stream`, for ``async for``; `items` may be an async iterable. Leave it early through `contextlib.aclosing`.

        A plain iterable is asked for its items on the event loop's thread.
        """
        from cloche._runtime import async_calls

        return async_calls.stream(self.__cloche__, StreamSession(self.__cloche__), items)

    def aresume(self, items: AsyncIterable[Any] | Iterable[Any] = ()) -> AsyncIterator[Any]:
        """As `resume`, for ``async for``, with items as `astream` takes them."""
        from cloche._runtime import async_calls

        return async_calls.stream(self.__cloche__, StreamSession(self.__cloche__, resume=True), items)

    async def _await(self, function: Callable[[], Any]) -> Any:
        from cloche._runtime import async_calls  # anyio takes 30 ms to import: only who awaits pays

        return await async_calls.call(self.__cloche__, function)

    def buffer(self, shape: int | tuple[int, ...], dtype: Any = "float32") -> Any:
        """A numpy array that *is* guest memory: fill it in place and pass it, or a contiguous part, to `process` without a copy.

        The node sees the same memory, so what it keeps of it changes when you fill it again. The buffer lives as long as the
        node and counts for its ``memory_bytes``: make it once and use it for every frame. After the node is closed it keeps its
        memory, and is an ordinary array.

        Args:
            shape: of the array: a whole number, or several.
            dtype: a numpy dtype of integers or floats, but for ``longdouble``.

        Raises:
            TypeError: `dtype` is another, or `shape` no whole numbers.
            ValueError: `shape` has a negative length, or more dimensions than numpy allows.
            EncodeError: the guest has not so much memory left.
            ClosedError: the node is closed.
        """
        import numpy as np

        kind = np.dtype(dtype)
        if kind.kind not in "iuf" or kind.char == "g":
            raise TypeError(f"a buffer has integers or floats of 8 bytes at most, not {kind}")
        dims = checked_shape(shape)
        np.broadcast_to(
            np.empty((), kind), (1,) * len(dims)
        )  # raises for too many, before the guest gives a block for good
        count = math.prod(dims)
        view = self.__cloche__.share(max(1, count * kind.itemsize))
        return np.frombuffer(view, kind, count).reshape(dims)

    @contextmanager
    def lease(self) -> Iterator[Self]:
        """In the block, large numeric arrays that the node returns arrive as read-only views of its memory, without a copy.

        They are valid until the block ends. Kept longer they stay readable, but show whatever the guest has put there since;
        they never crash, and keep the guest's memory mapped even if the node is closed.

        Raises:
            ClocheError: a lease is open already.
            ClosedError: the node is closed.
        """
        holder = object()
        try:
            try:
                self.__cloche__.open_lease(holder)
                yield self
            finally:
                self.__cloche__.end_lease(holder)
        finally:
            self.__cloche__.end_lease(holder)  # again: an interrupt may have come before the first one had ended

    def snapshot(self) -> Snapshot:
        """The node's whole state, copied out: restore it here or on another machine with `Runtime.restore`.

        Raises:
            ClosedError: the node is closed.
            ClocheError: it was called from inside the node's own call.
        """
        return self.__cloche__.snapshot()

    def clone(self, *, name: str | None = None, reseed: bool = True) -> Node:
        """A second node with the same state, which evolves alone. Raises as `snapshot` and `Runtime.restore` do.

        Args:
            name: for logs and errors; None: this node's.
            reseed: seed its random generators anew, so that the two draw different numbers; with `Grants.seed` the same ones
                for the same clone each time.
        """
        return self._restore(self.snapshot(), name or self.name, reseed)

    @property
    def checkpoint(self) -> Snapshot | None:
        """The state that the node would go on from if it broke now; None with ``on_break="raise"``."""
        return self._sandbox.checkpoint

    @property
    def stats(self) -> Stats:
        """What the node has used so far."""
        stats = self._sandbox.stats()
        return stats if stats.breaks or not self.broken else replace(stats, breaks=1)

    @property
    def service_calls(self) -> tuple[ServiceRecord, ...]:
        """The last calls that the node has made, or tried to make, of services it was granted; 100 at most, the newest last."""
        services = self._sandbox.services
        return services.records if services else ()

    def where(self) -> str:
        """Where the node is just now, as Python would print a traceback; "" if no Python code of it runs.

        Any thread may ask, at any time, also while the node computes or hangs: the host reads the interpreter's frames from the
        guest's memory, and the guest does not notice. What it says is untrusted text.
        """
        frames = self._sandbox.where()
        return "".join(["Traceback (most recent call last):\n", *map(str, frames)]) if frames else ""

    @property
    def broken(self) -> bool:
        """Whether a `BrokenInstanceError` has ended the node."""
        return self.__cloche__.broken

    def close(self) -> None:
        """Run the node's ``cleanup``, if it has one, and free its instance. Calling it again does nothing.

        If it is interrupted, calling it again frees the instance; ``cleanup`` is not run twice.

        Raises:
            NodeRaisedError: cleanup raised; the instance is freed all the same.
            ClocheError: it was called from inside the node's own call.
        """
        self.__cloche__.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self.__cloche__.closed else "broken" if self.broken else "ready"
        return f"<cloche.Node {self.name!r} {state}>"
