"""A loaded node: what the caller holds, and calls like an object."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from cloche._arguments import checked_shape
from cloche._records import StreamPosition
from cloche._requests.node_lock import NodeLock, exclusive
from cloche._runtime import stream as _stream
from cloche._runtime.stream import StreamSession, advanced
from cloche._sandbox.failures import read_failure
from cloche._sandbox.snapshot import Snapshot
from cloche._sandbox.termination import interruption, name_limit
from cloche.errors import ClocheError, ClosedError, NodeLoadError, NodeRaisedError, ProtocolError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._isolation.remote_instance import RemoteInstance
    from cloche._sandbox.instance import Instance
    from cloche.services import ServiceRecord

__all__ = ["Node", "Stats", "raise_failure"]


_PROCESS = int(Op.PROCESS)


@dataclass(frozen=True, slots=True)
class Stats:
    """What a node has used so far.

    Attributes:
        calls: calls into the guest, loading and the steps of streams included.
        seconds: wall time spent in the guest: its own marshaling included, the host's not.
        memory_bytes: linear memory that the guest has now, the interpreter included; 0 once closed.
        dropped_records: log records that were over a limit, or were no log records.
        fuel: WebAssembly instructions burned, under ``metering="fuel"``; else 0. The same calls burn the same, in every run.
        last_fuel: those of the last call.
        breaks: instances that the node has lost.
        restarts: how often it was brought back after that (see ``on_break`` of `Runtime.load`).
    """

    calls: int
    seconds: float
    memory_bytes: int
    dropped_records: int
    fuel: int = 0
    last_fuel: int = 0
    breaks: int = 0
    restarts: int = 0


def raise_failure(value: Any, node: str, op: Op = Op.PROCESS) -> NoReturn:
    """Raise what a guest reported. What was under way decides which error it is, whatever the guest says.

    Raises:
        NodeLoadError: the node was being loaded.
        NodeRaisedError: it was called.
        ProtocolError: it is not a failure; the instance has to be closed.
    """
    kind = NodeLoadError if op is Op.LOAD else NodeRaisedError
    try:
        failure = read_failure(value, loading=op is Op.LOAD)
    except ValueError as error:
        raise ProtocolError(f"node {node!r} sent a malformed failure: {error}", node=node) from None
    raise kind(failure, node)


class Node:
    """A third-party node, alive in its own sandbox. Made by `Runtime.load`.

    One call at a time: calls from several threads wait for each other; different nodes run in parallel.

    Attributes:
        name: as given to `Runtime.load`, or the entry's name.
        info: what the guest says of the entry: ``entry``, ``kind`` ("class" or "function"), ``is_streaming``, ``is_source``,
            ``is_sink``, ``methods``.
    """

    def __init__(
        self,
        instance: Instance | RemoteInstance,
        info: dict[str, Any],
        restore: Callable[[Snapshot, str, bool], Node],
        stream: StreamPosition | None = None,
        lock: NodeLock | None = None,
    ) -> None:
        self.name = instance.name
        self.info = info
        self._restore = restore
        self._instance = instance
        self._services = instance.services
        self._lock = lock or NodeLock(self.name)
        self._lock.name = self.name
        if self._services is not None:
            self._services.lock = self._lock
        self._token: object = None
        self._streaming: StreamSession | None = None
        self._position = stream
        self._generation = 0  # instances that the node has had before this one
        self._closed = False

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
        lock = self._lock  # as _call does, but this is the one that is timed in microseconds
        if lock.owned():
            return self._call(Op.PROCESS, list(data), "data")
        try:
            try:
                if not lock.acquire(False):
                    lock.wait()
                if self._closed:
                    raise self._closed_error()
                lock.busy = True
                kind, value = self._instance.exchange(_PROCESS, data, "data")
                lock.busy = False
                if kind is not Reply.RESULT:
                    self._finish(kind, value, Op.PROCESS)
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
        return self._call(Op.INVOKE, ["initialize"], "")

    def flush(self) -> Any:
        """Call the node's ``flush``, if it has one, and return what it gives. Raises as `process` does."""
        return self._call(Op.INVOKE, ["flush"], "")

    def cleanup(self) -> Any:
        """Call the node's ``cleanup``, if it has one. `close` does it too. Raises as `process` does."""
        return self._call(Op.INVOKE, ["cleanup"], "")

    def get(self, name: str) -> Any:
        """The value of the node's attribute `name`, copied out. Raises as `process` does."""
        return self._call(Op.GET, [name], "name")

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
        return _stream.run(StreamSession(self), items)

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
        return _stream.run(StreamSession(self, resume=True), items)

    @property
    def stream_position(self) -> StreamPosition | None:
        """Where the stream is that the node has open; None: it has none."""
        return self._position

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

        return async_calls.stream(self, StreamSession(self), items)

    def aresume(self, items: AsyncIterable[Any] | Iterable[Any] = ()) -> AsyncIterator[Any]:
        """As `resume`, for ``async for``, with items as `astream` takes them."""
        from cloche._runtime import async_calls

        return async_calls.stream(self, StreamSession(self, resume=True), items)

    async def _await(self, function: Callable[[], Any]) -> Any:
        from cloche._runtime import async_calls  # anyio takes 30 ms to import: only who awaits pays

        return await async_calls.call(self, function)

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
        view = self._lock.run(self._share, max(1, count * kind.itemsize))
        return np.frombuffer(view, kind, count).reshape(dims)

    def _share(self, size: int) -> memoryview:
        self._check_free()
        return self._instance.share(size)

    @contextmanager
    def lease(self) -> Iterator[Self]:
        """In the block, large numeric arrays that the node returns arrive as read-only views of its memory, without a copy.

        They are valid until the block ends. Kept longer they stay readable, but show whatever the guest has put there since;
        they never crash, and keep the guest's memory mapped even if the node is closed.

        Raises:
            ClocheError: a lease is open already.
            ClosedError: the node is closed.
        """
        self._lock.run(self._open_lease)
        try:
            yield self
        finally:
            self._instance.lease = False

    def _open_lease(self) -> None:
        if self._closed or self._instance.closed:
            raise self._closed_error()
        if self._instance.lease:
            raise ClocheError(f"node {self.name!r} has a lease open: close it first")
        self._instance.lease = True

    @exclusive
    def snapshot(self) -> Snapshot:
        """The node's whole state, copied out: restore it here or on another machine with `Runtime.restore`.

        Raises:
            ClosedError: the node is closed.
            ClocheError: it was called from inside the node's own call.
        """
        self._check_free()
        return self._instance.snapshot(self.info, self._position)

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
        return None

    @property
    def stats(self) -> Stats:
        """What the node has used so far."""
        instance = self._instance
        return Stats(
            instance.calls,
            instance.guest_seconds,
            instance.memory_bytes,
            instance.dropped_records,
            instance.fuel,
            instance.last_fuel,
            int(self.broken),
        )

    @property
    def service_calls(self) -> tuple[ServiceRecord, ...]:
        """The last calls that the node has made, or tried to make, of services it was granted; 100 at most, the newest last."""
        return self._services.records if self._services else ()

    def where(self) -> str:
        """Where the node is just now, as Python would print a traceback; "" if no Python code of it runs.

        Any thread may ask, at any time, also while the node computes or hangs: the host reads the interpreter's frames from the
        guest's memory, and the guest does not notice. What it says is untrusted text.
        """
        frames = self._instance.where()
        return "".join(["Traceback (most recent call last):\n", *map(str, frames)]) if frames else ""

    @property
    def broken(self) -> bool:
        """Whether a `BrokenInstanceError` has ended the node."""
        return self._instance.closed and not self._closed

    def close(self) -> None:
        """Run the node's ``cleanup``, if it has one, and free its instance. Calling it again does nothing.

        If it is interrupted, calling it again frees the instance; ``cleanup`` is not run twice.

        Raises:
            NodeRaisedError: cleanup raised; the instance is freed all the same.
            ClocheError: it was called from inside the node's own call.
        """
        if self._lock.is_lost:  # in the child of a fork: the call under way is the parent's
            self._closed = True
        else:
            self._lock.run(self._close)

    def _close(self) -> None:
        if self._closed and self._instance.closed:
            return
        if self._busy:
            raise ClocheError(f"node {self.name!r} cannot be closed from inside its own call")
        try:
            if not (self._closed or self._instance.closed) and "cleanup" in self.info["methods"]:
                self.cleanup()
        finally:
            self._closed = True  # an interrupt from here on leaves the rest to the next `close`
            self._instance.close(keep=True)

    @exclusive
    def _discard(self) -> None:
        """Free the instance without running ``cleanup``: its state is not wanted any more."""
        self._closed = True
        self._instance.close(keep=True)

    @property
    def _busy(self) -> bool:
        """Whether a call of the guest is under way, for the thread that holds the lock."""
        return self._lock.busy

    def _in_turn(self, token: object, given_up: Callable[[], bool], function: Callable[[], Any]) -> Any:
        """Wait for the node, unless the call is given up, and call `function`; meanwhile `_interrupt(token)` stops what runs."""

        def work() -> Any:
            self._token = token
            try:
                return function()
            finally:
                self._token = None

        return self._lock.run_unless(given_up, work)

    def _interrupt(self, token: object) -> None:
        """Have the guest stop if it works for `token`. Called from another thread."""
        instance = self._instance
        serial = instance.serial  # first: if the token is still the same after that, it is this call's, or its next
        if self._token is token and self._busy:
            instance.cancel(serial)

    @exclusive
    def _exchange(self, op: Op, operands: list[Any], root: str, *, within: float | None = None) -> tuple[Reply, Any]:
        """One message, and the answer; `within` bounds its seconds further than ``deadline_s`` does."""
        self._check_free()
        lock, instance = self._lock, self._instance
        lock.busy = True
        if within is not None:
            instance.limit_next_calls(within, "stream_s")
        try:
            kind, value = instance.exchange(op, operands, root)
            if op >= Op.STREAM_OPEN:
                self._position = advanced(self._position, op, kind)
            return kind, value
        finally:
            lock.busy = False
            if within is not None:
                instance.limit_next_calls(None)

    def _check_free(self) -> None:
        if self._busy:
            raise ClocheError(f"node {self.name!r} was called from inside its own call")
        if self._closed or self._instance.closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"node {self.name!r} is closed")

    @exclusive
    def _call(self, op: Op, operands: list[Any], root: str) -> Any:
        kind, value = self._exchange(op, operands, root)
        if kind is not Reply.RESULT:
            self._finish(kind, value, op)
        return value

    def _finish(self, kind: Reply, value: Any, op: Op) -> NoReturn:
        """Raise what a reply other than the expected one means.

        Under the lock: it asks how the call has ended, and may close the instance.
        """
        instance = self._instance
        try:
            if kind is Reply.FAILURE:
                raise_failure(value, self.name, op)
            raise ProtocolError(f"node {self.name!r}: {kind.name} is no answer to {op.name}")
        except ProtocolError as error:
            raise instance.fail(error) from None
        except NodeRaisedError as error:
            name_limit(error, instance.limits, instance.memory_bytes)
            if instance.told is None:
                raise
            raised = interruption(error, instance.told, instance.usage(), instance.limits)
            if raised is error:
                raise
        raise raised

    @exclusive
    def _begin_stream(self, steps: StreamSession, resume: bool) -> StreamPosition | None:
        """Open a stream; where it goes on, if it is not a new one."""
        if self._streaming is not None:
            raise ClocheError(f"node {self.name!r} has a stream open: exhaust or close it before the next one")
        if resume and self._position is None:
            raise ClocheError(f"node {self.name!r} has no stream to resume: begin one with stream()")
        if self._position is not None and not resume:  # it came with the state that the node was restored from
            self._call(Op.STREAM_CLOSE, [], "")
        self._streaming = steps
        return self._position

    def _end_stream(self, ended: bool) -> None:
        """The stream is over; unless the guest has said so itself, its generators are closed."""
        self._streaming = None
        if not (ended or self._closed or self._instance.closed):
            self._call(Op.STREAM_CLOSE, [], "")

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
        state = "closed" if self._closed else "broken" if self.broken else "ready"
        return f"<cloche.Node {self.name!r} {state}>"
