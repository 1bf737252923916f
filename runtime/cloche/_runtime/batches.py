"""Batches: several items of an open stream in one crossing, with an outcome for each of them.

A crossing costs as much as some twenty small items. What an item costs beyond it is its own: encoding, the node's work, decoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cloche._requests import exclusive
from cloche.errors import BrokenInstanceError, ClocheError, EncodeError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._runtime.calls import NodeCalls
    from cloche._runtime.stream import StreamSession

__all__ = ["BatchResult", "Batches"]

_LISTS: Final = frozenset({list})
_BATCH: Final = Reply.BATCH


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        outcomes: for each item that was worked on, in order, the list of its outputs, or its error. If the batch ended the input,
            one more has what the node gave then (its last outputs, and what ``flush`` returned). An item that failed may end the
            batch: the items behind the last outcome have not been begun.
        ended: whether the node wants no more items.
    """

    outcomes: list[list[Any] | Exception] = field(hash=False)
    ended: bool = False


class Batches:
    """Sends batches to one node, whose stream is open and wants an item.

    Args:
        node: the node.
        stream: its open stream.
    """

    def __init__(self, node: NodeCalls, stream: StreamSession) -> None:
        self._node = node
        self._stream = stream
        self.lock: NodeLock = node.lock

    @exclusive
    def send(self, items: list[Any], end: bool = False) -> BatchResult:
        """Have the node work on the items, one after the other.

        Args:
            items: the items.
            end: whether the input ends behind them.

        Raises:
            EncodeError: an item cannot be sent. The guest was not entered; with one item, the error's path begins there.
            BrokenInstanceError: the sandbox broke. What the node has made of the items before is lost with it.
            ClosedError: the node is closed.
        """
        try:
            kind, value = self._stream.batch(items, end)
        except EncodeError as error:
            if isinstance(error, BrokenInstanceError) or len(items) != 1:
                raise
            raise _of_item(error) from error.__cause__
        if kind is _BATCH and type(value) is list and len(value) == 1:  # no `match`: it takes as long as three items
            (outputs,) = value
            if type(outputs) is list and len(outputs) == len(items) and not end:
                return BatchResult([[output] for output in outputs])
        elif kind is _BATCH and type(value) is list and len(value) == 3:
            outcomes, failure, ended = value
            if type(outcomes) is list and type(ended) is bool and set(map(type, outcomes)) <= _LISTS:
                most = len(items) + end
                if failure is None and (len(outcomes) == most or (ended and len(outcomes) < most)):
                    return BatchResult(outcomes, ended)
                if type(failure) is dict and len(outcomes) < most:
                    return BatchResult([*outcomes, self._error(failure)], ended)
        if kind is Reply.FAILURE:
            return self._taken_apart(value, len(items) + end)
        return self._node.sandbox.finish(kind, value, Op.STREAM_BATCH)

    def _taken_apart(self, failure: Any, most: int) -> BatchResult:
        """Take the outcomes one by one, because they cannot be sent together: one has no form on the wire, or all are too large."""
        outcomes: list[list[Any] | Exception] = []
        first = self._error(failure, Op.STREAM_TAKE)  # under the number of its call; perhaps no item has failed
        call = self._node.sandbox.stats().calls
        while len(outcomes) <= most:
            kind, value = self._node.exchange(Op.STREAM_TAKE, [call, len(outcomes)], "")
            if kind is Reply.FAILURE and len(outcomes) < most:
                outcomes.append(self._error(value))
            elif kind is Reply.RESULT and type(value) is list and len(outcomes) < most:
                outcomes.append(value)
            elif kind is Reply.RESULT and type(value) is bool:
                return BatchResult(outcomes, value)
            elif kind is Reply.RESULT and value is None and not outcomes:  # interrupted before the batch began
                first.recording = self._error(failure).recording
                return BatchResult([first], False)
            else:
                break
        return self._node.sandbox.finish(Reply.BATCH, None, Op.STREAM_TAKE)

    def _error(self, failure: Any, op: Op = Op.STREAM_BATCH) -> ClocheError:
        """The error of an item, from its failure.

        Args:
            failure: the failure.
            op: STREAM_TAKE: what failed is the batch's reply. A recorded node leaves no file for it.

        Raises:
            BrokenInstanceError: the failure is malformed.
        """
        try:
            self._node.sandbox.finish(Reply.FAILURE, failure, op)
        except BrokenInstanceError:
            raise
        except ClocheError as error:
            return error


def _of_item(error: EncodeError) -> EncodeError:
    """The error for a batch of one item, with a path that begins at the item."""
    path = error.path.replace("items[0][0]", "item", 1)
    named = EncodeError(
        str(error).removeprefix(f"{error.path}: "), path, limit=error.limit, value=error.value, reached=error.reached
    )
    named.recording = error.recording
    named.__notes__ = getattr(error, "__notes__", [])
    return named
