"""The steps of one stream, and the loop that takes them for a plain iterable. `_async` has the loop for async callers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._node import Node

__all__ = ["Steps", "run"]


class Steps:
    """One open stream of a node. Each method is one step into the guest, and leaves its answer here.

    Attributes:
        output: whether `value` is an output of the node.
        value: that output.
        wants: whether the node asks for the next item (`feed`, `end` or `throw`); if not, `next` goes on.
        ended: whether the stream is over.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._thrown: BaseException | None = None
        self._opened = False
        self.output = False
        self.value: Any = None
        self.wants = False
        self.ended = False

    def open(self) -> None:
        """Start.

        Raises:
            ClocheError: the node has another stream open.
        """
        self._node._begin_stream()
        self._opened = True
        self._step(Op.STREAM_OPEN, [])

    def next(self) -> None:
        """Let the node go on after an output."""
        self._step(Op.STREAM_NEXT, [])

    def feed(self, item: Any) -> None:
        """Give the item that the node asked for."""
        self._step(Op.STREAM_FEED, [item])

    def end(self) -> None:
        """Tell the node that there are no more items."""
        self._step(Op.STREAM_END, [])

    def throw(self, error: Exception) -> None:
        """Raise what the host's items raised at the node's ``async for``; `error` itself is raised when the stream ends."""
        self._thrown = error
        self._step(Op.STREAM_THROW, [type(error).__name__, str(error)])

    def close(self) -> None:
        """Give up the stream: unless it has ended, the node's generators are closed and their finally blocks run."""
        if self._opened:
            self._opened = False
            self._node._end_stream(self.ended)
            self.ended = True

    def _step(self, op: Op, operands: list[Any]) -> None:
        kind, value = self._node._exchange(op, operands, "item")
        self.output = kind is Reply.YIELD or kind is Reply.YIELD_NEED
        self.wants = kind is Reply.NEED or kind is Reply.YIELD_NEED
        self.value = value
        if self.output or self.wants:
            return
        self.ended = True
        if self._thrown is not None:
            raise self._thrown
        if kind is not Reply.END:
            self._node._finish(kind, value, op)


def run(steps: Steps, items: Iterable[Any]) -> Iterator[Any]:
    """Take the steps, with items from a plain iterable, which is asked for an item only when the node asks."""
    try:
        source = iter(items)
        steps.open()
        while not steps.ended:
            if steps.output:
                yield steps.value
            if not steps.wants:
                steps.next()
                continue
            try:
                item = next(source)
            except StopIteration:
                steps.end()
            except Exception as error:
                steps.throw(error)
            else:
                steps.feed(item)
    finally:
        steps.close()
