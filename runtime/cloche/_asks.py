"""Answers what a guest asks while it runs, through the import `call`. One `Asks` per instance that was granted something.

A request passes what a reply passes before its values are looked at: a checked range, the validator, the budgets of
`Limits`, the strict decoder. The answer goes into a block of the guest's own allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from cloche._memory import NoRoomError
from cloche.errors import EncodeError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._codec import Codec
    from cloche._memory import Memory
    from cloche.limits import Limits

__all__ = ["Answer", "Asks", "Desk", "Refused"]

ENOSYS: Final = 52
"""WASI's number (wasi_snapshot_preview1, errno)."""

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
    """The desks of one instance.

    Args:
        memory: the guest's.
        codec: the instance's: it is idle while the guest runs.
        limits: `reply_bytes`, `value_nodes` and `value_depth` bound a request, `request_bytes` an answer.
        desks: who answers.
    """

    def __init__(self, memory: Memory, codec: Codec, limits: Limits, desks: Sequence[Desk]) -> None:
        self._memory = memory
        self._codec = codec
        self._limits = limits
        self._desks = desks
        self._answers = {int(ask): (desk, answer) for desk in desks for ask, answer in desk.answers.items()}

    def answer(self, address: int, length: int) -> int:
        """Answer the request that lies there: ``address << 32 | length`` of the answer, or one of ``abi.ANSWER_*``.

        Raises:
            ProtocolError: the range, the bytes or the answer's block break the protocol.
            Trapped: the guest was stopped while it allocated the block.
        """
        request = self._request(address, length)
        try:
            frame = self._encode(request)
            place = self._memory.allocate(len(frame))
        except NoRoomError:
            return abi.ANSWER_NO_MEMORY
        self._memory.write(place, frame)
        return place << 32 | len(frame)

    def _request(self, address: int, length: int) -> list[Any]:
        memory, limits = self._memory, self._limits
        if not memory.check(address, length, limits.value_nodes, limits.value_depth):
            if not memory.check(address, length, _ANY_NODES, limits.value_depth):
                raise ProtocolError("a request to the host is not well-formed, or passes value_depth")
            return [-1, limits.value_nodes]
        return self._decoded(memory.read(address, length, limits.reply_bytes))

    def _decoded(self, frame: bytes) -> list[Any]:
        request = self._codec.decode(frame)
        if type(request) is not list or not request or type(request[0]) is not int or request[0] < 0:
            raise ProtocolError("a request to the host is [ask, *operands]")
        return request

    def _encode(self, request: list[Any]) -> bytes:
        encode = self._codec.encode
        ask, *operands = request
        if ask < 0:
            return encode([False, ["ValueError", f"request: more than {operands[0]} items (value_nodes)"]], "answer")
        desk, function = self._answers.get(ask, (None, None))
        if desk is None or function is None:
            return encode([False, ENOSYS], "answer")
        try:
            return encode([True, function(operands)], "answer")
        except Refused as refused:
            return encode([False, refused.failure], "answer")
        except NoRoomError:
            raise
        except EncodeError as error:
            return encode([False, desk.unsendable(operands, error)], "answer")

    def close(self) -> None:
        """The instance is closed."""
        for desk in self._desks:
            desk.close()
