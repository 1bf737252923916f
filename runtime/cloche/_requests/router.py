"""`RequestRouter`: passes a guest's requests to their handlers. A running guest makes a request through the import `call`.

One router per instance that has grants. A request goes through the same checks as a reply before its values are used: the range
check, the image's validator, the budgets of `Limits`, the strict decoder. The answer is written into a block that the guest's
allocator provides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cloche._codec import REFUSED, refusal
from cloche._wasm import NoRoomError
from cloche.errors import EncodeError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._codec import Codec
    from cloche._wasm import Memory
    from cloche.limits import Limits

__all__ = [
    "FramedRequestRouter",
    "GuestRequestRouter",
    "Operation",
    "RequestHandler",
    "RequestRefused",
    "RequestRouter",
]

T = TypeVar("T")

ENOSYS: Final = abi.WASI_ENOSYS
"""WASI's errno for "function not supported" (wasi_snapshot_preview1): no handler answers this request."""

_ANY_NODES: Final = (1 << 32) - 1

Operation = Callable[[list[Any]], Any]
"""Performs one kind of request: takes the operands, which are untrusted, and returns the value to answer, or raises
`RequestRefused`."""


class RequestRefused(Exception):
    """A handler refuses a request. The guest raises the failure in the code that made the request.

    Args:
        failure: an errno of WASI, or ``[name of a builtin exception, message]``.
    """

    def __init__(self, failure: int | list[str]) -> None:
        super().__init__(failure)
        self.failure = failure


class RequestHandler(Protocol):
    """Answers some kinds of requests of one instance."""

    @property
    def operations(self) -> Mapping[int, Operation]:
        """Number in `cloche_wire.Ask` -> the function that performs that request."""

    def on_encode_error(self, operands: list[Any], error: EncodeError) -> int | list[str]:
        """The failure to answer with (see `RequestRefused`) if the value that the handler returned cannot be encoded."""

    def close(self) -> None:
        """Release what the handler holds; its instance is closing."""


class RequestRouter:
    """Routes requests that are Python values: the router of a `LocalGuest`, and base of the other two.

    Args:
        handlers: the handlers, which answer different kinds of requests.

    Attributes:
        handlers: all handlers, in the given order.
        request_bytes: size of the request that is being answered, including bodies out of line; 0: not known.
    """

    def __init__(self, handlers: Sequence[RequestHandler]) -> None:
        self.handlers = handlers
        self.request_bytes = 0
        self._operations = {
            int(ask): (handler, operation) for handler in handlers for ask, operation in handler.operations.items()
        }

    def reply(self, request: list[Any], send: Callable[[list[Any], str], T]) -> T:
        """Operation one request.

        Args:
            request: ``[ask, *operands]``.
            send: encodes the answer ``[granted, value or failure]``. Its second argument names the answer in error messages.

        Returns:
            what `send` returns.

        Raises:
            NoRoomError: `send` has raised it.
        """
        ask, *operands = request
        handler, function = self._operations.get(ask, (None, None))
        if handler is None or function is None:
            return send([False, ENOSYS], "answer")
        try:
            return send([True, function(operands)], "answer")
        except RequestRefused as refused:
            return send([False, refused.failure], "answer")
        except NoRoomError:
            raise
        except EncodeError as error:
            return send([False, handler.on_encode_error(operands, error)], "answer")

    def close(self) -> None:
        """Close all handlers; the instance is closing."""
        for handler in self.handlers:
            handler.close()


class FramedRequestRouter(RequestRouter):
    """Routes requests that are frames, and answers with frames.

    Args:
        codec: codec of the instance, which nothing else uses while the guest runs.
        limits: limits of the instance; `value_nodes` bounds a request here, and the codec applies the others.
        handlers: see `RequestRouter`.
    """

    def __init__(self, codec: Codec, limits: Limits, handlers: Sequence[RequestHandler]) -> None:
        super().__init__(handlers)
        self._codec = codec
        self._limits = limits

    def respond(self, frame: bytes) -> bytes:
        """Operation one request.

        Args:
            frame: the request, which the validator has accepted; empty: the request had more items than `value_nodes` allows.

        Returns:
            the frame of the answer.

        Raises:
            ProtocolError: the frame is not a request.
            NoRoomError: the answer has a body for which the guest has no memory left.
        """
        if not frame:
            text = f"request: more than {self._limits.value_nodes} items (value_nodes)"
            return self._codec.encode([False, ["ValueError", text]], "answer")
        try:
            request = self._codec.decode(frame)
        except REFUSED as error:
            return self._codec.encode([False, ["ValueError", refusal(error, "request", error.steps)]], "answer")
        self.request_bytes = self._codec.decoded_bytes
        if type(request) is not list or not request or type(request[0]) is not int:
            raise ProtocolError("a request to the host is [ask, *operands]")
        return self.reply(request, self._codec.encode)


class GuestRequestRouter(FramedRequestRouter):
    """Routes requests that lie in the memory of a guest in this process.

    Args:
        memory: memory of the guest.
        codec: see `FramedRequestRouter`.
        limits: limits of the instance; `value_nodes`, `reply_bytes` and `value_depth` bound a request.
        handlers: see `RequestRouter`.
    """

    def __init__(self, memory: Memory, codec: Codec, limits: Limits, handlers: Sequence[RequestHandler]) -> None:
        super().__init__(codec, limits, handlers)
        self._memory = memory

    def answer(self, address: int, length: int) -> bytes | int:
        """Operation one request.

        Args:
            address: of the request in guest memory.
            length: of the request, in bytes.

        Returns:
            the frame of the answer, or one of ``abi.ANSWER_*``.

        Raises:
            ProtocolError: the range, the request, or the block that the guest provides for the answer breaks the protocol.
            Trapped: the guest was stopped while it allocated that block.
        """
        request = self.read(address, length)
        try:
            return self.respond(request)
        except NoRoomError:
            return abi.ANSWER_NO_MEMORY

    def read(self, address: int, length: int) -> bytes:
        """The frame of a request that the validator accepts; empty if it has more items than `value_nodes` allows.

        Args:
            address: of the request in guest memory.
            length: of the request, in bytes.

        Raises:
            ProtocolError: the range or the request breaks the protocol.
        """
        memory, limits = self._memory, self._limits
        if length and memory.check(address, length, limits.value_nodes, limits.value_depth):
            return memory.read(address, length, limits.reply_bytes)
        if length and memory.check(address, length, _ANY_NODES, limits.value_depth):
            return b""
        raise ProtocolError("a request to the host is not well-formed, or passes value_depth")
