"""Answers what a guest asks while it runs, through the import `call`. One `Asks` per instance that was granted something.

A request passes what a reply passes before its values are looked at: a checked range, the validator, the budgets of
`Limits`, the strict decoder. The answer goes into a block of the guest's own allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cloche._codec import REFUSED, refusal
from cloche._wasm.memory import NoRoomError
from cloche.errors import EncodeError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._codec import Codec
    from cloche._wasm.memory import Memory
    from cloche.limits import Limits

__all__ = ["Answer", "Asks", "Desk", "FramedAsks", "GuestAsks", "Refused"]

T = TypeVar("T")

ENOSYS: Final = abi.WASI_ENOSYS

_ANY_NODES: Final = (1 << 32) - 1

Answer = Callable[[list[Any]], Any]
"""Takes the operands of a request, which are untrusted, and returns what to answer, or raises `Refused`."""


class Refused(Exception):
    """The answer is a failure, which the guest raises where it asked.

    Args:
        failure: an errno of WASI, or ``[name of a builtin exception, message]``.
    """

    def __init__(self, failure: int | list[str]) -> None:
        super().__init__(failure)
        self.failure = failure


class Desk(Protocol):
    """What answers some of a guest's requests, for one instance."""

    @property
    def answers(self) -> Mapping[int, Answer]:
        """By number of `cloche_wire.Ask`."""

    def unsendable(self, operands: list[Any], error: EncodeError) -> int | list[str]:
        """What it answered cannot be encoded: the failure to answer instead."""

    def close(self) -> None:
        """The instance is closed."""


class Asks:
    """The desks of one node.

    Args:
        desks: who answers.

    Attributes:
        request_bytes: size of the request that is being answered, bodies out of line included.
    """

    def __init__(self, desks: Sequence[Desk]) -> None:
        self.desks = desks
        self.request_bytes = 0
        self._answers = {int(ask): (desk, answer) for desk in desks for ask, answer in desk.answers.items()}

    def reply(self, request: list[Any], send: Callable[[list[Any], str], T]) -> T:
        """Have a request answered.

        Args:
            request: ``[ask, *operands]``.
            send: takes the answer and what to call it, and encodes it; what it returns is returned.

        Raises:
            NoRoomError: `send` did.
        """
        ask, *operands = request
        desk, function = self._answers.get(ask, (None, None))
        if desk is None or function is None:
            return send([False, ENOSYS], "answer")
        try:
            return send([True, function(operands)], "answer")
        except Refused as refused:
            return send([False, refused.failure], "answer")
        except NoRoomError:
            raise
        except EncodeError as error:
            return send([False, desk.unsendable(operands, error)], "answer")

    def close(self) -> None:
        """The node is closed."""
        for desk in self.desks:
            desk.close()


class FramedAsks(Asks):
    """The desks of an instance, whose requests and answers are frames.

    Args:
        codec: the instance's: it is idle while the guest runs.
        limits: `value_nodes` bounds a request; the codec holds the rest.
        desks: who answers.
    """

    def __init__(self, codec: Codec, limits: Limits, desks: Sequence[Desk]) -> None:
        super().__init__(desks)
        self._codec = codec
        self._limits = limits

    def respond(self, frame: bytes) -> bytes:
        """The answer to a request that the validator has passed; an empty frame stands for one of too many items.

        Raises:
            ProtocolError: it is no request.
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


class GuestAsks(FramedAsks):
    """The desks of an instance, whose requests lie in its memory.

    Args:
        memory: the guest's.
        codec: as above.
        limits: as above; `reply_bytes` and `value_depth` bound a request as well.
        desks: who answers.
    """

    def __init__(self, memory: Memory, codec: Codec, limits: Limits, desks: Sequence[Desk]) -> None:
        super().__init__(codec, limits, desks)
        self._memory = memory

    def answer(self, address: int, length: int) -> bytes | int:
        """Answer the request that lies there: the answer's frame, or one of ``abi.ANSWER_*``.

        Raises:
            ProtocolError: the range, the bytes or the answer's block break the protocol.
            Trapped: the guest was stopped while it allocated the block.
        """
        memory, limits = self._memory, self._limits
        if length and memory.check(address, length, limits.value_nodes, limits.value_depth):
            request = memory.read(address, length, limits.reply_bytes)
        elif length and memory.check(address, length, _ANY_NODES, limits.value_depth):
            request = b""
        else:
            raise ProtocolError("a request to the host is not well-formed, or passes value_depth")
        try:
            return self.respond(request)
        except NoRoomError:
            return abi.ANSWER_NO_MEMORY
