"""`StreamSession`: the steps of one stream; and the loop over them for plain iterables. `async_calls` has that for async ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from cloche._requests import exclusive
from cloche._runtime.call_options import NO_OPTIONS, CallOptions
from cloche._sandbox import note_failure
from cloche.errors import BrokenInstanceError, ClocheError, StreamLimitError, name_item
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._runtime.calls import NodeCalls

__all__ = ["StreamSession", "run"]


class StreamSession:
    """One open stream of a node. Each method makes one step in the guest, and sets the attributes from its reply.

    Args:
        node: the node.
        resume: whether to continue the stream of the node's restored state.
        alone: whether a new stream has no input at all, see `Node.stream`.
        options: options of each step.

    Attributes:
        output: whether the last step produced an output.
        value: that output.
        wants: whether the node waits for an item: then `feed`, `end` or `throw` is the next step, otherwise `next`.
        ended: whether the stream has ended.
    """

    def __init__(
        self, node: NodeCalls, *, resume: bool = False, alone: bool = False, options: CallOptions = NO_OPTIONS
    ) -> None:
        self._node = node
        self._options = options
        self._alone = alone
        self._resume = resume
        self._generation = 0
        self._limits = node.sandbox.limits
        self._thrown: BaseException | None = None
        self._fed = 0
        self._outputs = 0
        self._seconds = 0.0
        self.output = False
        self.value: Any = None
        self.wants = False
        self.ended = False

    @property
    def lock(self) -> NodeLock:
        """The node's lock, which is another one once a lent node has been given back."""
        return self._node.lock

    def open(self) -> None:
        """Start the stream or, with `resume`, continue the one that is open in the node's restored state.

        Raises:
            ClocheError: the node has another open stream, or there is none to continue.
        """
        position = self._node.begin_stream(self, self._resume)
        self._generation = self._node.sandbox.generation
        if position is None:
            self._step(Op.STREAM_OPEN, [True] if self._alone else [])
        else:
            self._fed, self._outputs, self.wants = position.items, position.outputs, position.wants

    def next(self) -> None:
        """Continue the node after an output."""
        self._step(Op.STREAM_NEXT, [])

    def feed(self, item: Any) -> None:
        """Send the item for which the node waits."""
        self._fed += 1
        self._step(Op.STREAM_FEED, [item])

    def batch(self, items: list[Any], end: bool) -> tuple[Reply, Any]:
        """Send several items, and with `end` that there are no more. Returns the reply, which is still to be checked.

        Each item has the deadline for itself. Needs the node's lock.
        """
        self._check_generation()
        return self._node.exchange_batch(Op.STREAM_BATCH, [[items, end]], "items", len(items) + end)

    def end(self) -> None:
        """Tell the node that there are no more items."""
        self._step(Op.STREAM_END, [])

    def throw(self, error: Exception) -> None:
        """Raise the error of `items` at the node's ``async for``. When the stream has ended, `error` is raised in the host."""
        self._thrown = error
        self._step(Op.STREAM_THROW, [type(error).__name__, str(error)])

    def close(self) -> None:
        """Close the stream. If it has not ended, the node's generators are closed, and their ``finally`` blocks run."""
        if self._node.end_stream(self, self.ended or self._is_lost, self._options):
            self.ended = True

    @property
    def _is_lost(self) -> bool:
        """Whether the instance with this stream has broken, and the node continues in another one."""
        return self._generation != self._node.sandbox.generation

    def _check_generation(self) -> None:
        if self._is_lost:
            self.ended = True
            raise ClocheError(
                f"node {self._node.name!r} broke and was brought back: this stream has ended, see Node.resume"
            )

    @exclusive
    def _step(self, op: Op, operands: list[Any]) -> None:
        self._check_generation()
        try:
            if self._options is NO_OPTIONS and self._limits.stream_s is None:
                kind, value = self._node.exchange(op, operands, "item")  # as `_exchange` would, but with one frame less
            else:
                kind, value = self._node.run_with(self._options, partial(self._exchange, op, operands))
            self._take(kind, value, op)
        except ClocheError as error:
            if error is self._thrown:  # an error of the items: another node's, if they are that node's stream
                raise
            name_item(error, self._fed - 1 if self._fed else None)
            if isinstance(error, BrokenInstanceError):
                self.ended = True
            raise

    def _exchange(self, op: Op, operands: list[Any]) -> tuple[Reply, Any]:
        if self._limits.stream_s is None:
            return self._node.exchange(op, operands, "item")
        return self._timed(op, operands, self._limits.stream_s)

    def _take(self, kind: Reply, value: Any, op: Op) -> None:
        self.output = kind is Reply.YIELD or kind is Reply.YIELD_NEED
        self.wants = kind is Reply.NEED or kind is Reply.YIELD_NEED
        self.value = value
        if self.output:
            self._outputs += 1
            allowed = self._limits.stream_items
            if allowed is not None and self._outputs > allowed:
                raise self._passed("stream_items", allowed, self._outputs, f"gave {self._outputs} outputs")
        if self.output or self.wants:
            return
        self.ended = True
        if self._thrown is not None:
            raise self._thrown
        if kind is not Reply.END:
            self._node.sandbox.finish(kind, value, op)

    def _timed(self, op: Op, operands: list[Any], allowed: float) -> tuple[Reply, Any]:
        """One step, unless the stream has used up ``stream_s``. The check is made between steps, where the node stays usable."""
        seconds = self._seconds
        if seconds >= allowed:
            raise self._passed("stream_s", allowed, seconds, f"ran {seconds:.3f} s")
        began = time.perf_counter()
        given = self._options.deadline_s
        deadline_s = self._limits.deadline_s if given is ... else given
        try:
            within = allowed - seconds if deadline_s is None else None  # with a deadline, each step is bounded already
            return self._node.exchange(op, operands, "item", within=within)
        finally:
            self._seconds += time.perf_counter() - began

    def _passed(self, limit: str, value: float, reached: float, text: str) -> StreamLimitError:
        node = self._node.name
        message = (
            f"node {node!r} {text} in one stream (Limits.{limit}={value}); the stream is closed, the node is usable"
        )
        error = StreamLimitError(message, limit=limit, value=value, reached=reached, node=node)
        note_failure(self._node.sandbox, error)
        watch = self._node.sandbox.watch
        if watch is not None:
            watch.explained(error)
        return error


def run(steps: StreamSession, items: Iterable[Any]) -> Iterator[Any]:
    """Run a stream and yield its outputs. An item is taken from `items` only when the node waits for one."""
    try:
        try:
            yield from _outputs(steps, items)
        finally:
            steps.close()
    finally:
        steps.close()  # again: an interrupt may have prevented the first call


def _outputs(steps: StreamSession, items: Iterable[Any]) -> Iterator[Any]:
    """The loop of `run`, in a function of its own: an interrupt at a loop's end is not covered by a ``try`` around it."""
    source = iter(items)
    steps.open()
    while not steps.ended:
        if steps.output:
            yield steps.value
        if steps.wants:
            _feed(steps, source)
        else:
            steps.next()


def _feed(steps: StreamSession, source: Iterator[Any]) -> None:
    """Send the next item, the end of the items, or the error that `source` raised."""
    try:
        item = next(source)
    except StopIteration:
        steps.end()
    except Exception as error:
        steps.throw(error)
    else:
        steps.feed(item)
