"""`Node`: a loaded node, as the object that the caller holds and calls; and `NodeView`: the same, with options of its calls."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from types import EllipsisType
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, Self

from cloche import texts
from cloche._arguments import checked_method, checked_seconds, checked_shape
from cloche._html import table
from cloche._keywords import teaches
from cloche._pickles import handle
from cloche._runtime import stream as _stream
from cloche._runtime.call_options import NO_OPTIONS
from cloche._runtime.closing import Closable, Closing
from cloche._runtime.stream import StreamSession
from cloche._sandbox import Stats
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._recording import Recording
    from cloche._records import LogRecord, StreamPosition
    from cloche._runtime.call_options import CallOptions
    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.reloading import ReloadReport
    from cloche._sandbox import Sandbox, Snapshot
    from cloche.debug import Debugging
    from cloche.services import ServiceRecord
    from cloche.source import Source

__all__ = ["Node", "NodeView", "Stats"]

_PROCESS = int(Op.PROCESS)


class Node(Closable):
    """A third-party node, loaded in its own sandbox. Made by `Runtime.load`.

    A node works on one call at a time: calls from several threads wait for each other. Different nodes run in parallel.

    Attributes:
        name: the name given to `Runtime.load`, or else the entry's name.
        info: the guest's description of the entry: ``entry``, ``kind`` ("class" or "function"), ``is_streaming``, ``is_source``,
            ``is_sink``, ``methods``.
    """

    def __init__(self, calls: NodeCalls, restore: Callable[..., Node]) -> None:
        self.name = calls.name
        self.__cloche__ = calls
        self._restore = restore
        self._lock = calls.lock  # a copy: `process` is called most, and each attribute of `calls` would cost it time

    @property
    def info(self) -> dict[str, Any]:
        """The guest's description of the entry, see above."""
        return self.__cloche__.info

    @property
    def _sandbox(self) -> Sandbox:
        return self.__cloche__.sandbox

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            handle(
                f"the node {self.name!r}",
                "take its `snapshot`, which can be pickled, and `Runtime.restore` that there; or pickle its Source, Grants and "
                "Limits, and load it there",
            )
        )

    def process(self, /, *data: Any, **keywords: Any) -> Any:
        """Call the node's ``process`` (or ``aprocess``, if the node has that) and wait for the result.

        Args:
            data: the positional arguments of the node's method, usually one value.
            keywords: its keyword arguments. All names are the node's: this method has no options of its own.

        Returns:
            the value that the node returned; a coroutine is awaited in the guest. If the node is a generator, the list of all
            values that it yields.

        Raises:
            EncodeError: an argument cannot be sent; the node was not called.
            NodeRaisedError: the node raised, or returned a value that cannot be encoded; the node stays usable.
            DeadlineError: the node ran past its deadline, was interrupted, and unwound; it stays usable.
            HardDeadlineError: the node did not unwind within `Limits.grace_s` and was stopped, which breaks it.
            LimitError: the node passed another limit that ends a call. It stays usable, unless the error is a
                `BrokenInstanceError` as well.
            BrokenInstanceError: the guest trapped, exited or was stopped. Its instance is closed, and the node is broken, unless
                it was loaded with another ``on_break`` than "raise".
            ClosedError: the node had been closed, or was broken.
        """
        if keywords:
            return self.__cloche__.call(Op.CALL, [None, list(data), keywords], "arguments")
        lock, calls = self._lock, self.__cloche__  # `NodeCalls.call`, inlined: it is called most
        if lock.owned():
            return calls.call(Op.PROCESS, list(data), "data")
        try:
            try:
                if not lock.acquire(False):
                    if calls.closed:
                        raise calls.closed_error()
                    lock.wait()
                if calls.closed:
                    raise calls.closed_error()
                lock.busy = True
                kind, value = calls.sandbox.exchange(_PROCESS, data, "data")
                lock.busy = False
                if kind is not Reply.RESULT:
                    calls.sandbox.finish(kind, value, Op.PROCESS)
                lock.release()
            except BaseException:
                lock.busy = False
                if lock.owned():
                    lock.release()
                raise
        except BaseException:
            if lock.owned():
                lock.release()
            raise
        return value

    def call(self, method: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Call a public method of the node by its name, and wait for the result. All else is as for `process`.

        The method may be ``def`` or ``async def``; if it is a generator, the result is the list of all values that it yields, at
        most `Limits.value_nodes`. Inherited methods, static ones and other attributes that can be called count.

        Args:
            method: its name, without a leading underscore.
            arguments: its positional arguments.
            keywords: its keyword arguments.

        Raises:
            TypeError: `method` is not a text.
            ValueError: `method` is not the name of a public method.
            NodeRaisedError: as for `process`; with ``exc_type`` "AttributeError" if the node has no such method. The message then
                lists the methods that it has, or says that the node is a function, which has none.
            ClocheError: others as for `process`.
        """
        return self.__cloche__.invoke(checked_method(method), arguments, keywords)

    def initialize(self) -> Any:
        """Call the node's ``initialize``, if it has one. Raises as `process` does."""
        return self.__cloche__.initialize()

    def flush(self) -> Any:
        """Call the node's ``flush``, if it has one, and return its result. Raises as `process` does."""
        return self.__cloche__.call(Op.INVOKE, ["flush"], "")

    def cleanup(self) -> Any:
        """Call the node's ``cleanup``, if it has one. `close` calls it as well. Raises as `process` does."""
        return self.__cloche__.call(Op.INVOKE, ["cleanup"], "")

    def get(self, name: str) -> Any:
        """A copy of the value of the node's attribute `name`. Raises as `process` does."""
        return self.__cloche__.call(Op.GET, [name], "name")

    def stream(self, items: Iterable[Any] | None = None) -> Iterator[Any]:
        """Feed `items` one at a time, as the node asks for them, and yield each output as it is produced.

        Closing the iterator early closes the node's generators: their ``finally`` blocks run, within the deadline. The deadline
        (`Limits.deadline_s`) bounds each step into the guest, not the stream.

        Args:
            items: an iterable, which may be endless. None: there is no input. Then a ``process`` that can be called without an
                argument is called once, and makes all of the outputs; any other node gets an input without items.

        Yields:
            each value that the node yields or returns, except None; at the end the result of its ``flush``.

        Raises:
            NodeRaisedError: the node raised. The outputs before that have been yielded; the node stays usable.
            StreamLimitError: the stream passed ``stream_items`` or ``stream_s``. The node stays usable.
            BrokenInstanceError: as for `process`.
            Exception: an exception that `items` raised. The node sees it first, at its ``async for``.
        """
        return _stream.run(self._stream_session(alone=items is None), () if items is None else items)

    def resume(self, items: Iterable[Any] = ()) -> Iterator[Any]:
        """Continue the stream that was open when the node's snapshot, or its last checkpoint, was taken.

        Args:
            items: the items after the first ``stream_position.items``: the node had received those when its state was saved.
                Outputs that the node produced later than that are produced a second time.

        Yields:
            as for `stream`.

        Raises:
            ClocheError: the saved state has no open stream. Other errors as for `stream`.
        """
        return _stream.run(self._stream_session(resume=True), items)

    def _stream_session(self, *, resume: bool = False, alone: bool = False) -> StreamSession:
        return StreamSession(self.__cloche__, resume=resume, alone=alone)

    @property
    def stream_position(self) -> StreamPosition | None:
        """The position of the node's open stream; None if no stream is open."""
        return self._sandbox.position

    async def aprocess(self, /, *data: Any, **keywords: Any) -> Any:
        """As `process`, awaitable under asyncio and trio; the guest runs on a worker thread.

        Cancelling the task interrupts the node, which unwinds and stays usable. If it has not unwound after `Limits.grace_s`, it is
        stopped, which breaks it (see `broken`).
        """
        return await self._await(partial(self.process, *data, **keywords))

    async def acall(self, method: str, /, *arguments: Any, **keywords: Any) -> Any:
        """As `call`, awaitable like `aprocess`."""
        return await self._await(partial(self.call, method, *arguments, **keywords))

    async def ainitialize(self) -> Any:
        """As `initialize`, awaitable like `aprocess`."""
        return await self._await(self.initialize)

    async def aflush(self) -> Any:
        """As `flush`, awaitable like `aprocess`."""
        return await self._await(self.flush)

    async def acleanup(self) -> Any:
        """As `cleanup`, awaitable like `aprocess`."""
        return await self._await(self.cleanup)

    async def aclose(self, timeout: float | None = None) -> None:
        """As `close`, awaitable like `aprocess`."""
        from cloche._runtime import async_calls

        await async_calls.close(self.__cloche__, Closing(checked_seconds("timeout", timeout)))

    def astream(self, items: AsyncIterable[Any] | Iterable[Any] | None = None) -> AsyncIterator[Any]:
        """As `stream`, for ``async for``. To be able to leave the loop early, put the iterator into `contextlib.aclosing`.

        Args:
            items: an async iterable, or a plain one, which then runs on the event loop's thread; None: there is no input.
        """
        from cloche._runtime import async_calls

        steps = self._stream_session(alone=items is None)
        return async_calls.stream(self.__cloche__, steps, () if items is None else items)

    def aresume(self, items: AsyncIterable[Any] | Iterable[Any] = ()) -> AsyncIterator[Any]:
        """As `resume`, for ``async for``, with items as `astream` takes them."""
        from cloche._runtime import async_calls

        return async_calls.stream(self.__cloche__, self._stream_session(resume=True), items)

    async def _await(self, function: Callable[[], Any]) -> Any:
        from cloche._runtime import async_calls  # late: importing anyio takes 30 ms

        return await async_calls.call(self.__cloche__, function)

    @teaches()
    def with_options(
        self,
        *,
        deadline_s: float | EllipsisType | None = ...,
        on_log: Callable[[LogRecord], object] | EllipsisType | None = ...,
    ) -> Node:
        """This node, seen through options: calls that are made through the returned object have them.

        Both objects are the same node: they share its state, and wait for each other's calls. A view costs nothing to make and
        holds nothing of its own, so make one for each call or keep one for each kind of call; several threads may use views with
        different options at the same time. ``with_options`` of a view keeps the options that are not given anew.

        >>> import cloche
        >>> with cloche.Runtime() as runtime:
        ...     node = runtime.load(cloche.Source("def f(x): return x"))
        ...     node.with_options(deadline_s=10).process(1)
        1

        Args:
            deadline_s: seconds that each call, or step of a stream, may take, in place of `Limits.deadline_s`; None: as long as
                it takes. Loading, snapshots and `close` keep the limits of the node.
            on_log: called with each log record, printed line and warning of each call *while the call runs*: in order, each once,
                on a thread named ``cloche-log`` that all calls of the returned object share. The runtime's logger gets the records
                after the call, as ever. At most `Limits.log_records` of a call come this way, the first ones; then one more says
                how many are missing. A line that the node flushes before its end comes at once, as a record of its own. The
                function may block: that delays no deadline, and a call waits for it at its end for a quarter of a second. What
                it raises is reported once, by a RuntimeWarning. None: nothing is called.

        Returns:
            a `Node` whose ``process``, ``call``, ``initialize``, ``flush``, ``cleanup``, ``get``, ``stream``, ``resume`` and their
            awaited twins have the options. All else is as on this node.

        Raises:
            TypeError: an option has the wrong class; the message names it.
            ValueError: a number is out of range.
        """
        return NodeView(self, NO_OPTIONS.but(deadline_s=deadline_s, on_log=on_log))

    def buffer(self, shape: int | tuple[int, ...], dtype: Any = "float32") -> Any:
        """A numpy array in the guest's memory. Fill it in place and pass it, or a contiguous part, to `process` without a copy.

        The node sees the same memory: if it keeps the array, the contents change when you fill the buffer again. A buffer counts
        towards `Limits.memory_bytes` and is freed only with the node, so make it once and use it for every frame. After the node
        is closed, the buffer is an ordinary array and stays valid.

        Args:
            shape: shape of the array: a whole number, or several.
            dtype: a numpy dtype of integers or floats, except ``longdouble``.

        Raises:
            TypeError: `dtype` is a different one, or `shape` has a value that is not a whole number.
            ValueError: `shape` has a negative length, or more dimensions than numpy allows.
            EncodeError: the guest has too little memory left.
            ClosedError: the node is closed.
        """
        import numpy as np

        kind = np.dtype(dtype)
        if kind.kind not in "iuf" or kind.char == "g":
            raise TypeError(f"a buffer has integers or floats of 8 bytes at most, not {kind}")
        dims = checked_shape(shape)
        np.broadcast_to(
            np.empty((), kind), (1,) * len(dims)
        )  # raises for too many dimensions; later, a block that is never freed would be lost
        count = math.prod(dims)
        view = self.__cloche__.share(max(1, count * kind.itemsize))
        return np.frombuffer(view, kind, count).reshape(dims)

    @contextmanager
    def lease(self) -> Iterator[Self]:
        """Inside the ``with`` block, large numeric arrays that the node returns arrive as read-only views of its memory, uncopied.

        The views are valid until the block ends. After that they can still be read, but show whatever the guest has written there
        since. They never crash; they keep the guest's memory mapped even after the node is closed.

        Raises:
            ClocheError: the node has an open lease already.
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
        """A copy of the node's whole state. `Runtime.restore` makes a node of it, here or on another machine.

        Raises:
            ClosedError: the node is closed.
            ClocheError: `snapshot` was called from inside the node's own call.
        """
        return self.__cloche__.snapshot()

    def clone(self, *, name: str | None = None, reseed: bool = True) -> Node:
        """Make a second node with the same state. From then on the two are independent.

        Args:
            name: the clone's name in logs and errors; None: this node's name.
            reseed: seed the clone's random generators anew, so that the two nodes draw different numbers. With `Grants.seed`, the
                numbers are different for each clone, and the same in each run.

        Raises:
            ClocheError: as `snapshot` and `Runtime.restore`.
        """
        return self._restore(self.snapshot(), name or self.name, reseed)

    @property
    def checkpoint(self) -> Snapshot | None:
        """The state from which the node would continue if it broke now; None with ``on_break="raise"``."""
        return self._sandbox.checkpoint

    @property
    def recording(self) -> Recording:
        """A recording of the node's last calls, if it was loaded with ``record``; `Recording.save` writes it to a file.

        Raises:
            ClocheError: the node is not recorded, or is in a call of this thread.
            ClosedError: the node is closed.
        """
        return self.__cloche__.recording()

    @property
    def stats(self) -> Stats:
        """The calls, time, memory and fuel that the node has used so far."""
        stats = self._sandbox.stats()
        return stats if stats.breaks or not self.broken else replace(stats, breaks=1)

    @property
    def service_calls(self) -> tuple[ServiceRecord, ...]:
        """The last 100 calls of granted services that the node has made or tried to make, the newest last."""
        services = self._sandbox.services
        return services.records if services else ()

    @teaches()
    def reload(
        self,
        source: Source | str | os.PathLike[str],
        entry: str | None = None,
        *,
        state: Literal["replay", "new"] = "replay",
        differences: Literal["refuse", "keep"] = "refuse",
    ) -> ReloadReport:
        """Go on with other code, in a new sandbox with the node's parameters, grants, limits and options.

        This object, its views and everybody who holds them go on with the new code. Until that is loaded and compared the node is
        what it was; if anything fails before, it stays that. See docs/how-to/reload.md.

        Args:
            source: the new code, as for `Runtime.load`.
            entry: the new entry; None: as it was given to `Runtime.load`.
            state: "replay": the calls since the node was loaded are made again on the new code, with what services, files and
                clocks answered then, and so lead to its state. The node needs ``record``. "new": the new code begins anew, and the
                old one's ``cleanup`` runs.
            differences: "refuse": if the new code has given other results in these calls, or asked services or files for other
                things, the node goes on with the old code. "keep": it goes on with the new one.

        Returns:
            a `cloche.replay.ReloadReport`.

        Raises:
            ReloadError: the two differ; or the state cannot be rebuilt, because the recording does not begin with the loading of
                the node. The node is unchanged.
            ClocheError: the node is not recorded, has an open stream or lease, or was not made by `Runtime.load`. Others as for
                `Runtime.load`. The node is unchanged.
            ClosedError: the node is closed or broken.
        """
        from cloche._runtime.reloading import reload  # few programs reload

        return reload(self.__cloche__, source, entry, state, differences)

    def debug(
        self,
        *,
        port: int | None = None,
        streams: tuple[IO[bytes], Callable[[bytes], object]] | None = None,
        breakpoints: Iterable[str] = (),
        stop_on_entry: bool | None = None,
        wait: bool = True,
        paths: Mapping[str, str] | None = None,
        only_own: bool = True,
    ) -> AbstractContextManager[Debugging]:
        """Debug the node's calls in a ``with`` block: breakpoints, steps, variables, exceptions, and steps back.

        With a `port`, an editor connects and debugs (the Debug Adapter Protocol: VS Code, nvim, PyCharm). Without one, commands are
        read from this terminal, on the thread that makes the call. While the debugger is attached, calls have no deadline. The
        debugger lives in the node's own interpreter: results are the same, unless they depend on addresses or on time, but the
        node's memory is not. See docs/how-to/debug.md.

        >>> with node.debug(port=5678):  # doctest: +SKIP
        ...     node.process(data)

        Args:
            port: port of this machine where editors connect; 0: one that is free; None: the terminal, or `streams`.
            streams: in place of a port, a binary stream with an editor's messages, and a function that sends bytes to it.
            breakpoints: where to stop: "FILE:LINE", or the name of a function.
            stop_on_entry: whether to stop at the first line of the first call; None: on a terminal without `breakpoints`.
            wait: whether to wait at the beginning of the block until an editor has connected and set its breakpoints.
            paths: the name of a file in the node's tracebacks -> its path for the editor. Files that the editor has set breakpoints
                in are found by their name.
            only_own: whether to stop in the node's own code alone, not in granted packages.

        Raises:
            ClocheError: the node is being debugged already, or its sandbox is in a worker process.
            ClosedError: the node is closed.
            OSError: the port is taken.
            ValueError: one of the `breakpoints` is no place.
        """
        from cloche.debug import opened  # few programs debug

        def restore(snapshot: Snapshot) -> NodeCalls:
            return self._restore(snapshot, self.name, False, True).__cloche__

        return opened(
            self.__cloche__,
            restore,
            port=port,
            streams=streams,
            breakpoints=breakpoints,
            stop_on_entry=stop_on_entry,
            wait=wait,
            paths=paths,
            only_own=only_own,
        )

    def interrupt(self) -> bool:
        """End the call that is under way on this node. Any thread may call this at any time, a task, and a handler of a signal.

        The call raises `CallInterruptedError`, and the node stays usable: ``cloche_guest.Cancelled`` is raised in its Python code,
        wherever that is, in a sleep too, and its ``finally`` blocks run. A node that is still running `Limits.grace_s` later is
        stopped: then the call raises `HardInterruptedError`, and the node is broken (see ``on_break`` of `Runtime.load`). A step of
        a stream is a call, and its interruption ends the stream. A service with a deadline and an ``async def`` service are given
        up at once; any other service runs on the caller's own thread, so the call ends when the service returns.

        Calls that wait for their turn, and the next call, are not touched. A node that is at rest is not touched.

        Returns:
            whether a call was under way, and was told to end. A call whose arguments are still being encoded has not begun. A call
            that was about to return when it was told may still return its value.
        """
        return self.__cloche__.interrupt()

    def where(self) -> str:
        """The node's current position in its code, as a Python traceback; "" if none of its Python code is running.

        Any thread may call this at any time, also while the node computes or hangs: the host reads the interpreter's frames from
        the guest's memory, and the guest does not notice. The result is untrusted text.
        """
        frames = self.__cloche__.where()
        return "".join(["Traceback (most recent call last):\n", *map(str, frames)]) if frames else ""

    @property
    def broken(self) -> bool:
        """Whether a `BrokenInstanceError` has ended the node."""
        return self.__cloche__.broken

    def close(self, timeout: float | None = None) -> None:
        """Wait for the call under way, run the node's ``cleanup``, if it has one, and free its instance. Again: does nothing.

        If an interrupt ends `close` early, calling it again frees the instance; ``cleanup`` is not run twice. Close every node, or
        its runtime, best by ``with``. A node with a ``cleanup`` that is still open when the interpreter exits is closed then,
        within 5 seconds for all of them, with a ResourceWarning that names it; one that is collected as garbage before that is
        freed without ``cleanup``, with a ResourceWarning as well. The child of a fork does not close the nodes of its parent.

        Args:
            timeout: seconds for which the call under way is waited for; then it is interrupted (see `interrupt`), and calls that
                wait for their turn raise `ClosedError`. ``cleanup`` may take what is left of that time, and one second more.
                `Limits.deadline_s` bounds it as well. None: as long as the call takes.

        Raises:
            NodeRaisedError: ``cleanup`` raised; the instance is freed nevertheless.
            DeadlineError: ``cleanup`` took too long; the instance is freed nevertheless.
            ClocheError: `close` was called from inside the node's own call; or, with a `timeout`, the call is in a service that
                does not return. The node is not freed then, and takes no more calls; call `close` again later.
        """
        self.__cloche__.close(Closing(checked_seconds("timeout", timeout)))

    def __repr__(self) -> str:
        return f"<cloche.Node {texts.name(self.name)!r} {self._state}>"

    def _repr_html_(self) -> str:
        stats = self.stats
        rows = [
            ("state", self._state),
            ("entry", self.info["entry"]),
            ("kind", self.info["kind"]),
            ("methods", ", ".join(self.info["methods"])),
            ("calls", stats.calls),
            ("seconds", stats.seconds),
            ("memory", f"{stats.memory_bytes / 1e6:.1f} MB"),
        ]
        return table(f"Node {self.name}", rows)

    @property
    def _state(self) -> str:
        if self.__cloche__.is_parked:
            return "parked"
        return "closed" if self.__cloche__.closed else "broken" if self.broken else "ready"


class NodeView(Node):
    """Makes the calls of another `Node` object, with options. Everything else of a node is inherited, and acts on the same node.

    Args:
        node: the node, or another view of it.
        options: the options of all calls.
    """

    def __init__(self, node: Node, options: CallOptions) -> None:
        super().__init__(node.__cloche__, node._restore)  # noqa: SLF001  # of the same class
        self._node = node  # `Runtime.nodes` has the node as long as somebody holds it
        self._options = options

    @teaches()
    def with_options(
        self,
        *,
        deadline_s: float | EllipsisType | None = ...,
        on_log: Callable[[LogRecord], object] | EllipsisType | None = ...,
    ) -> Node:
        """See `Node`."""
        return NodeView(self, self._options.but(deadline_s=deadline_s, on_log=on_log))

    def process(self, /, *data: Any, **keywords: Any) -> Any:
        """See `Node`."""
        if keywords:
            return self._call(Op.CALL, [None, list(data), keywords], "arguments")
        return self._call(Op.PROCESS, list(data), "data")

    def call(self, method: str, /, *arguments: Any, **keywords: Any) -> Any:
        """See `Node`."""
        calls, name = self.__cloche__, checked_method(method)
        return calls.run_with(self._options, lambda: calls.invoke(name, arguments, keywords))

    def initialize(self) -> Any:
        """See `Node`."""
        return self.__cloche__.run_with(self._options, self.__cloche__.initialize)

    def flush(self) -> Any:
        """See `Node`."""
        return self._call(Op.INVOKE, ["flush"], "")

    def cleanup(self) -> Any:
        """See `Node`."""
        return self._call(Op.INVOKE, ["cleanup"], "")

    def get(self, name: str) -> Any:
        """See `Node`."""
        return self._call(Op.GET, [name], "name")

    def _call(self, op: Op, operands: list[Any], root: str) -> Any:
        calls = self.__cloche__
        return calls.run_with(self._options, lambda: calls.call(op, operands, root))

    def _stream_session(self, *, resume: bool = False, alone: bool = False) -> StreamSession:
        return StreamSession(self.__cloche__, resume=resume, alone=alone, options=self._options)

    def __repr__(self) -> str:
        options = str(self._options)
        return f"{super().__repr__()[:-1]}, {options}>" if options else super().__repr__()
