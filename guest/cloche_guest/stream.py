"""`Stream`: the state of one open stream, with a method for each STREAM_* message (`cloche_wire.messages`).

Both directions are pulled: an output is computed when the host wants it, and an item of input is requested when the node wants it.
Between two messages no code of the node is on the stack.
"""

from __future__ import annotations

import builtins
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.node import PLAIN, is_async_iterator, is_iterator, resolve
from cloche_guest.pump import NEED, YIELD, YIELD_NEED, AsyncOutputs, Input
from cloche_wire.messages import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloche_guest._host import Host
    from cloche_guest.loop import Loop
    from cloche_guest.node import Node

_Reply = tuple[int, Any]

END: Final = (int(Reply.END), None)
BATCH: Final = int(Reply.BATCH)
_GIVES: Final = (YIELD, YIELD_NEED)
_ATOMS: Final = frozenset({bool, int, float, complex, str, bytes})
"""Types of outputs that stay as they are."""
_BUILTINS: Final = frozenset(PLAIN)
"""`PLAIN` without numpy's array, which `boot` adds later."""
_ALONE: Final = 3
"""References to an output that nobody else has: of `_as_it_is`, of its caller, and the argument of `getrefcount`."""


class InputError(RuntimeError):
    """The host's input raised an exception whose type the guest does not have; the message names it."""


class Stream:
    """One open stream of a node. Each method returns the reply to its message.

    Args:
        node: the node.
        loop: event loop on which its coroutines run.
        host: functions of the host.
        most: the outputs that one item of a batch may have.

    Attributes:
        batch_call: number of the call of the last batch.
        in_batch: whether a batch is under way.
        failure: the failure of the item after those, as it is sent; None: it has none.
        ended: whether the last batch has ended the stream.
    """

    def __init__(self, node: Node, loop: Loop, host: Host, most: int) -> None:
        self._most = most
        self._node = node
        self._loop = loop
        self._host = host
        self.batch_call = 0
        self.in_batch = False
        self._single: list[Any] = []
        """The outputs of the first items of the last batch, as far as each has one."""
        self._several: list[list[Any]] = []
        """The outputs of the items behind them."""
        self.failure: dict[str, Any] | None = None
        self.ended = False
        self._outputs: _Outputs | AsyncOutputs | None = None
        self._whole: AsyncOutputs | None = None
        self._open_input = not node.takes_stream
        self._flushed = False
        self._process = node.process
        if node.spread:
            self._process = self._call_spread

    def open(self, *, alone: bool = False) -> _Reply:
        """STREAM_OPEN: a node that works item by item needs the first item; any other node starts.

        Args:
            alone: whether there is no input: then a node whose process can be called without an argument is a source.
        """
        node = self._node
        if node.is_source or (alone and node.can_be_alone):
            self._open_input = False
            return self._take(resolve(node.process(), self._loop))
        if node.takes_stream:
            given = Input(self._loop)
            outputs = resolve(node.process(given), self._loop)
            if is_async_iterator(outputs):
                self._outputs = self._whole = AsyncOutputs(outputs, self._loop, given)
                return self.next()
            return self._take(outputs)
        return NEED

    def feed(self, item: Any) -> _Reply:
        """STREAM_FEED: process the item that the node needed."""
        if self._whole is not None:
            return self._answer(self._whole.feed(item))
        result = self._process(item)
        if type(result) in PLAIN:
            return NEED if result is None else (YIELD_NEED, result)
        return self._take(resolve(result, self._loop))

    def next(self) -> _Reply:
        """STREAM_NEXT: go on after an output."""
        return self._answer(None if self._outputs is None else self._outputs.pull())

    def end(self) -> _Reply:
        """STREAM_END: there is no more input."""
        if self._whole is not None:
            return self._answer(self._whole.end())
        self._open_input = False
        return self._flush()

    def throw(self, type_name: str, message: str) -> _Reply:
        """STREAM_THROW: the host's input raised. A node that takes the whole input gets the exception at its ``async for``."""
        if self._whole is not None:
            return self._answer(self._whole.end(_input_error(type_name, message)))
        return END

    def batch(self, call: int, items: list[Any], end: bool) -> _Reply:
        """STREAM_BATCH: process the items one after the other, each to its last output; with `end`, flush after them.

        An exception leaves the outcomes of the items before: `fail_item` makes the reply of them.
        """
        self._single = single = []
        self._several = several = []
        self.failure = None
        self.batch_call, self.in_batch = call, True
        loop, begin_item, process = self._loop, self._host.begin_item, self._process
        is_whole = self._whole is not None
        for number, item in enumerate(items):
            begin_item(number)
            if is_whole:
                several.append(self._all_outputs(self.feed(item)))
            elif (kind := type(result := process(item))) in _ATOMS and not several:
                single.append(result)
            elif kind in PLAIN:  # as `feed`, without a reply for each item
                if kind not in _ATOMS and result is not None:
                    result = self._as_it_is(result)
                if several or result is None:
                    several.append([] if result is None else [result])
                else:
                    single.append(result)
            else:
                several.append(self._all_outputs(self._take(resolve(result, loop))))
            if self.ended:
                break
            if loop._ready or loop._scheduled:
                loop.tick()
        if end and not self.ended:
            begin_item(len(items))
            several.append(self._all_outputs(self.end()))
        self.in_batch = False
        return BATCH, [self._outcomes(), None, self.ended] if several or self.ended else [single]

    @property
    def worked_on(self) -> int:
        """The number of items of the last batch that have an outcome."""
        return len(self._single) + len(self._several)

    def outcome(self, number: int) -> list[Any]:
        """The outputs of one of them."""
        behind = number - len(self._single)
        return [self._single[number]] if behind < 0 else self._several[behind]

    def _outcomes(self) -> list[list[Any]]:
        return [[output] for output in self._single] + self._several

    def fail_item(self, failure: dict[str, Any]) -> _Reply:
        """The reply to STREAM_BATCH after an exception in the item that follows the outcomes. The stream has been closed."""
        self.failure, self.ended, self.in_batch = failure, not self.goes_on, False
        return BATCH, [self._outcomes(), failure, self.ended]

    @property
    def goes_on(self) -> bool:
        """Whether the node can work on the next item after one has failed: not if it takes the whole stream."""
        return self._open_input

    def _all_outputs(self, reply: _Reply) -> list[Any]:
        """All outputs up to the next need of an item, from the reply that has the first one. Sets `ended` at the stream's end."""
        outputs: list[Any] = []
        while True:
            kind, value = reply
            if kind in _GIVES:
                if type(value) not in _ATOMS:
                    reply = END  # holds the value no more
                    value = self._as_it_is(value)
                outputs.append(value)
                if len(outputs) > self._most:
                    raise ValueError(
                        f"more than {self._most} outputs for one item; the limit value_nodes is {self._most}"
                    )
            if kind != YIELD:
                self.ended = kind == END[0]
                return outputs
            reply = self.next()

    def _as_it_is(self, output: Any) -> Any:
        """What stands for an output in the reply, because the node may change it when it works on the next item.

        A node that gives out its own window, buffer or dict each time is no rare one. An array that nobody else has needs no copy.
        """
        kind = type(output)
        is_array = kind in PLAIN and kind not in _BUILTINS
        if is_array and getrefcount(output) <= _ALONE and output.base is None and not output.dtype.hasobject:
            return output
        try:
            return self._host.written(output)
        except Exception:  # it cannot be sent: the reply, which cannot be either, says why
            return output

    def close(self) -> None:
        """STREAM_CLOSE: close the node's generators, without flushing. After an interruption, calling this again goes on closing.

        Raises:
            BaseException: a ``finally`` block of the node raised this.
        """
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = self._whole = None

    def _take(self, result: Any) -> _Reply:
        """The reply for an awaited result of process or flush: an output, or the first output of an iterator."""
        if is_iterator(result):
            self._outputs = _Outputs(result)
        elif is_async_iterator(result):
            self._outputs = AsyncOutputs(result, self._loop)
        elif result is not None:
            return (YIELD_NEED if self._open_input else YIELD), result
        return self.next()

    def _answer(self, reply: _Reply | None) -> _Reply:
        """The given reply; None: the outputs are exhausted, so the next item is needed, or the node is flushed."""
        if reply is not None:
            return reply
        self._outputs = self._whole = None
        return NEED if self._open_input else self._flush()

    def _flush(self) -> _Reply:
        if self._flushed:
            return END
        self._flushed = True
        flush = self._node.method("flush")
        return END if flush is None else self._take(resolve(flush(), self._loop))

    def _call_spread(self, item: Any) -> Any:
        return self._node.process(*item) if type(item) is tuple else self._node.process(item)


class _Outputs:
    """Outputs of a plain iterator, pulled one at a time. None is not an output, and is skipped."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def pull(self) -> _Reply | None:
        for output in self._iterator:
            if output is not None:
                return YIELD, output
        return None

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _input_error(type_name: str, message: str) -> Exception:
    """An exception of the host's type, if that is a builtin type that can be made of a message; else an `InputError`."""
    kind = getattr(builtins, type_name.removeprefix("builtins."), None)
    if (
        isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, (StopIteration, StopAsyncIteration))
    ):
        try:
            return kind(message)
        except TypeError:
            pass  # UnicodeDecodeError and others take more arguments
    return InputError(f"{type_name}: {message}")
