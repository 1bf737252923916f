"""`RecordedCall`: one call of a recording, with its values decoded, for people and tests. Replays work with the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from cloche._codec import REFUSED, Codec, check_items
from cloche._records import LogRecord
from cloche._sandbox import call_of, logs, read_failure
from cloche._sandbox import tape as on
from cloche.errors import ClocheError, EncodeError, ProtocolError
from cloche.limits import Limits
from cloche_wire import Op, Reply

__all__ = ["Message", "RecordedCall", "calls_of"]

_REPLIES: Final = len(Reply)


@dataclass(frozen=True, slots=True)
class Message:
    """A frame, and what it points to.

    Attributes:
        frame: the frame.
        parts: address, bytes, and 0 for each of them; or address, length and checksum, if they were too long to be kept.
    """

    frame: bytes
    parts: tuple[tuple[int, bytes | int, int], ...] = ()

    def value(self, limits: Limits) -> Any:
        """The decoded message.

        Raises:
            ClocheError: it is malformed, or a part of it was not kept.
        """
        bodies = {address: part for address, part, _ in self.parts if isinstance(part, bytes)}
        return _Reader(limits, bodies).decode(self.frame)


class _Reader(Codec):
    """A codec for frames that lie in a file, which no guest's validator has passed."""

    __slots__ = ("_most_items",)

    def __init__(self, limits: Limits, bodies: Mapping[int, bytes]) -> None:
        def lift(address: int, length: int) -> memoryview:
            if len(bodies.get(address, b"")) != length:
                raise ClocheError(f"a value of {length} bytes was too long to be recorded")
            return memoryview(bodies[address])

        super().__init__(limits, _refuse, lift)
        self._most_items = limits.value_nodes

    def decode(self, frame: bytes, *, lease: bool = False) -> Any:
        """As `Codec.decode`."""
        check_items(frame, self._most_items)
        try:
            return super().decode(frame, lease=lease)
        except REFUSED as error:
            raise ProtocolError(f"the recording has a value that is refused: {error}") from error


def _refuse(_: Any) -> int:
    raise EncodeError("nothing is encoded here")


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """One recorded call.

    Attributes:
        op: what was called: a name of `cloche_wire.Op`, as "process".
        number: number of the call on the node.
        message: the host's message.
        exchanges: for each request of the guest, the request and the answer; None: the answer was no value.
        reply: the guest's reply; None: there is none, because the guest broke or the host ended the call.
        records: the guest's log records, as frames.
        error: name of the class of the error if the guest broke, or the host ended the call; otherwise "".
        told: why the guest was told to stop; 0: it was not.
        is_exact: whether it can be replayed bit for bit: it was not interrupted in the middle of its code.
        limits: the node's limits.
    """

    op: str
    number: int
    message: Message
    exchanges: tuple[tuple[Message, Message | None], ...]
    reply: Message | None
    records: tuple[bytes, ...]
    error: str
    told: int
    is_exact: bool
    limits: Limits = field(repr=False)

    @cached_property
    def operands(self) -> list[Any]:
        """The operands of the message: for "process" the arguments of the node's method.

        Raises:
            ClocheError: they cannot be decoded.
        """
        value = self.message.value(self.limits)
        if type(value) is not list:
            raise ProtocolError("the recording has a message that is none")
        return value[2:]

    @cached_property
    def outcome(self) -> Any:
        """What the node returned, as a value; or the `Failure` with which it ended.

        Raises:
            ClocheError: there is no reply, or it cannot be decoded.
        """
        if self.reply is None:
            raise ClocheError(f"call {self.number} has no reply: {self.error or 'it was ended by the host'}")
        match self.reply.value(self.limits):
            case [int(kind), value] if 0 <= kind < _REPLIES:
                return read_failure(value, loading=self.op == "load") if kind == Reply.FAILURE else value
        raise ProtocolError("the recording has a reply that is none")

    @property
    def logs(self) -> list[LogRecord]:
        """The node's log records."""
        return logs.collect(list(self.records), 0, self.limits.log_records, self.number)[0]


def calls_of(events: Iterable[on.Event], limits: Limits) -> Iterator[RecordedCall]:
    """The calls among some events.

    Raises:
        ClocheError: the events have a message that is none.
    """
    message: Message | None = None
    placed: dict[int, bytes] = {}
    came: list[Message] = []
    was_last = False  # whether the last frame came from the guest: it is the reply
    answers: list[Message | None] = []
    for event in events:
        if event[0] in (on.SENT, on.CAME, on.ANSWERED):
            was_last = event[0] == on.CAME
        match event:
            case (on.PLACED, address, content):
                placed[address] = content
            case (on.SENT, frame) if message is None:
                message, placed = Message(frame, _parts(placed)), {}
            case (on.SENT, frame):
                answers.append(Message(frame, _parts(placed)))
                placed = {}
            case (on.ANSWERED, _, _):
                answers.append(None)
            case (on.CAME, frame, bodies):
                came.append(Message(frame, tuple(bodies)))
            case (on.ENDED, _, told, records, _, error, is_exact) if message is not None:
                op, number = call_of(message.frame)
                reply = came.pop() if was_last else None
                pairs = tuple(zip(came, answers, strict=False))
                name = Op(op).name.lower()
                yield RecordedCall(name, number, message, pairs, reply, records, error, told, is_exact, limits)
                message, placed, came, answers = None, {}, [], []


def _parts(placed: Mapping[int, bytes]) -> tuple[tuple[int, bytes | int, int], ...]:
    return tuple((address, content, 0) for address, content in placed.items())
