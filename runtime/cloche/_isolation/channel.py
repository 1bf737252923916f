"""The host's end of a node's socket. A worker is believed as little as a guest: one that breaks the rules is killed.

The host can be interrupted between any two bytecodes (Ctrl-C, a signal's handler, a full stack). `Channel.pending` therefore names
a request *before* it is sent, and until its answer is here as a whole. If it still names one when a call has ended in the host,
that call was interrupted, and the instance has to be closed. READ is kept apart: it changes nothing in the guest, so its
late answer is dropped, and the instance lives on. What an interrupted answer may still be written to is never used again.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from cloche._isolation.address_ranges import NO_RANGES, Ranges
from cloche._isolation.protocol import (
    ANSWER,
    BODY,
    INBOX,
    INLINE,
    LENGTH,
    LIMITED_BY,
    RANGE,
    REQUEST,
    SHARED,
    Answer,
    Request,
    StopReason,
)
from cloche._isolation.shared_memory import SharedMemory, create
from cloche.errors import BrokenInstanceError, ClocheError, EncodeError, HardDeadlineError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._isolation.descriptors import Descriptor
    from cloche._isolation.worker_process import Process
    from cloche.limits import Limits

__all__ = ["GRACE_S", "Channel", "Received", "Turn", "most_ranges"]

GRACE_S: Final = 5.0
"""Seconds after a call's deadline, and after the time that the node has for cleaning up then, until a worker that has not stopped
the guest is killed."""

_KEPT_BYTES: Final = 16 << 20
"""An area that has grown beyond this is given back after the call."""

_U32: Final = 0xFFFF_FFFF
_TIMEVAL: Final = struct.Struct("@ll")
_CALL: Final = int(Request.CALL)
_ANSWER: Final = int(Request.ANSWER)
_READ: Final = int(Request.READ)
_KINDS: Final = frozenset({int(Answer.DONE), int(Answer.FAILED), int(Answer.ASK)})
_NEED: Final = int(Answer.NEED)
_TOLD: Final = frozenset(map(int, StopReason))
_ASK: Final = int(Answer.ASK)
_MOST_LOGS: Final = 2 * abi.RING_CAPACITY
_FEWEST_RANGES: Final = 1024


def most_ranges(limits: Limits) -> int:
    """How many ranges may come along with an answer. What points to one takes several items of a reply."""
    return max(_FEWEST_RANGES, limits.value_nodes)


class Turn(Enum):
    """Who has to say something next in a call under way."""

    UNKNOWN = 0
    """a message is being sent or taken: if that is interrupted, nobody knows"""
    WORKER = 1
    """all of the host's message is sent, and nothing of the answer taken"""
    HOST = 2
    """the worker waits for the answer to what it has asked"""


class Received(NamedTuple):
    """An answer, its lengths checked. Frame and records are copies; what the ranges show may still change.

    Attributes:
        kind: DONE (the frame is a reply), FAILED (an error) or ASK (a request).
        frame: not looked at yet.
        ranges: what lies in the ranges of guest memory that the frame names.
        records: log records, not looked at yet.
        dropped: log records that the guest has overwritten.
        memory_bytes: size of the guest's memory, as the worker has it.
        fuel: what the call has burned, as the worker has it.
        told: a `StopReason`: whether the guest was told to stop, as the worker has it.
    """

    kind: int
    frame: bytes
    ranges: Ranges
    records: list[bytes]
    dropped: int
    memory_bytes: int
    fuel: int
    told: int


class Channel:
    """Requests to one node's worker, and its answers.

    Args:
        process: the worker.
        name: the node's, for errors.
        limits: the node's: without ``deadline_s`` its answers are waited for without end.

    Attributes:
        area: shared memory, as large as needed so far; None while the worker may have another.
        allowed_us: microseconds that a call has, if another limit than ``deadline_s`` bounds it; else 0.
        limited_by: which of `LIMITED_BY` bounds it.
        patience_s: seconds until a worker that does not answer is killed; None: never.
        node: the number by which the worker knows the node.
        number: of the last request that is answered.
        pending: that number, READ apart, until the answer is here; 0 then.
        turn: whose it is, while a CALL is pending.
        busy_s: seconds in which requests were pending, without the one under way.

    Raises:
        BrokenInstanceError: the worker has died.
    """

    def __init__(self, process: Process, name: str, limits: Limits) -> None:
        self.name = name
        self._process = process
        self._inbox = memoryview(bytearray(INBOX))
        self.area: SharedMemory | None = None
        self._settled = True
        self.allowed_us = self.limited_by = 0
        self.number = self.pending = 0
        self.turn = Turn.UNKNOWN
        self._reading = 0
        self._late: set[int] = set()
        self._most_ranges = most_ranges(limits)
        self.busy_s = self._since = 0.0
        try:
            self.node, self._socket = process.connect()
        except OSError:
            raise self._died() from None
        # for a socket without a timeout of its own; one with a timeout is bounded by that
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(GRACE_S), 0))
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._grace_s = limits.grace_s + GRACE_S
        self.allow("deadline_s", limits.deadline_s, limits.deadline_s)

    def allow(self, limit: str, value: float | None, seconds: float | None) -> None:
        """Bound the requests from now on.

        Args:
            limit: the field of `Limits` that bounds them, for the error.
            value: what it is set to.
            seconds: how long the guest may run now; the worker is killed some time later. None: any time.
        """
        self._limit, self._value = limit, value
        self.limited_by = LIMITED_BY.index(limit)
        self.allowed_us = 0 if limit == "deadline_s" or seconds is None else max(1, round(seconds * 1e6))
        # not SO_RCVTIMEO, which starts anew after each signal: a profiler's would keep a dead worker waited for without end
        self.patience_s = None if seconds is None else seconds + self._grace_s
        if self._socket.fileno() >= 0:  # a node that broke in a stream is closed by now
            self._socket.settimeout(self.patience_s)

    @property
    def busy_until_now_s(self) -> float:
        """Seconds in which requests were pending. Asked from another thread."""
        since = self._since
        return self.busy_s + (time.perf_counter() - since if self.pending and since else 0.0)

    def _begin(self, kind: int) -> int:
        """A request is about to be sent: its number."""
        if not self._settled:
            self._use(None)
        if self._reading:  # it was interrupted: its answer comes first, if it was sent at all
            self._late.add(self._reading)
            self._reading = 0
        self.number = number = self.number + 1
        if kind == _READ:
            self._reading = number
        else:
            self._since = time.perf_counter()
            self.turn = Turn.UNKNOWN
            self.pending = number
        return number

    def call(
        self,
        frame: bytes,
        bodies: Sequence[tuple[int, memoryview]],
        uses: Sequence[tuple[int, int, int]],
        kind: int = _CALL,
        b: int = 0,
    ) -> None:
        """Send a message for the guest.

        Args:
            frame: the message.
            bodies: what lies beside it, and where in it the address of each is to be written.
            uses: shared buffers that it names: number, offset, length.
            kind: CALL or ANSWER.
            b: of an ANSWER.
        """
        self.turn = Turn.UNKNOWN
        if len(frame) <= INLINE and not bodies and not uses:
            number = self._begin(kind) if kind == _CALL else self.pending
            self._transmit(
                REQUEST.pack(
                    kind, 0, number, 0, 0, len(frame), self.allowed_us, b if kind == _ANSWER else self.limited_by
                )
                + frame
            )
            self.turn = Turn.WORKER
            return
        inside = BODY.size * len(bodies) + SHARED.size * len(uses) + len(frame)
        outside = inside > INLINE
        at = inside if outside else 0
        need = at + sum([len(body) for _, body in bodies])
        if need > _U32:
            raise EncodeError(f"{need} bytes are more than a worker process takes in one call")
        area = self._room(need).view if need else memoryview(b"")
        table = []
        for position, body in bodies:
            end = at + len(body)
            area[at:end] = body
            table.append(BODY.pack(position, at, len(body)))
            at = end
        table += [SHARED.pack(*use) for use in uses]
        payload = b"".join([*table, frame])
        number = self._begin(kind) if kind == _CALL else self.pending
        head = REQUEST.pack(
            kind,
            outside,
            number,
            len(bodies),
            len(uses),
            len(frame),
            self.allowed_us,
            b if kind == _ANSWER else self.limited_by,
        )
        if outside:
            area[:inside] = payload
            self._transmit(head)
        else:
            self._transmit(head + payload)
        self.turn = Turn.WORKER

    def ask(
        self, kind: Request, frame: bytes = b"", a: int = 0, b: int = 0, descriptor: Descriptor | None = None
    ) -> None:
        """Send any other request that is answered, with a descriptor, which is closed then."""
        self._send(REQUEST.pack(kind, 0, self._begin(kind), 0, 0, len(frame), a, b) + frame, descriptor)

    def send(self, kind: Request, frame: bytes = b"", a: int = 0, descriptor: Descriptor | None = None) -> None:
        """Send a request that is not answered."""
        self._send(REQUEST.pack(kind, 0, 0, 0, 0, len(frame), a, 0) + frame, descriptor)

    def _send(self, message: bytes, descriptor: Descriptor | None) -> None:
        if descriptor is None:
            self._transmit(message)
            return
        with descriptor:
            try:
                socket.send_fds(self._socket, [message], [descriptor.fileno()])  # type: ignore[arg-type]  # it uses sendmsg
            except (BlockingIOError, TimeoutError):
                raise self.refuse("it takes no request") from None
            except OSError:
                raise self._died() from None

    def receive(self, most: int, until: float | None = None) -> Received:
        """Wait for the answer to the pending request.

        Args:
            most: bytes that the worker may want for it in shared memory.
            until: a time of `time.monotonic` to wait until, in place of killing a worker that is late.

        Raises:
            TimeoutError: it did not answer until then.
            HardDeadlineError: it did not answer in time, and has been killed.
            ProtocolError: it broke the rules, and has been killed.
            BrokenInstanceError: it has died.
        """
        inbox = self._inbox
        while True:
            self._wait(until)  # apart from taking it: an interruption while it waits loses nothing
            if not self._reading:
                self.turn = Turn.UNKNOWN
            try:
                size = self._socket.recv_into(inbox, 0, socket.MSG_DONTWAIT)
            except OSError:
                size = 0
            if not size:
                raise self._died()
            if size < ANSWER.size:
                raise self.refuse(f"an answer of {size} bytes")
            kind, outside, told, number, ranges, length, logs, dropped, memory, fuel = ANSWER.unpack_from(inbox)
            if number != (self._reading or self.pending):
                self._drop(number)
                if not self._reading:
                    self.turn = Turn.WORKER
                continue
            if kind != _NEED:
                break
            if not (self.area.size if self.area is not None else 0) < memory <= most:
                raise self.refuse(f"an answer of {memory} bytes, {most} allowed")
            try:
                self._room(memory)
            except ClocheError as error:
                raise BrokenInstanceError(
                    f"the answer of node {self.name!r} could not be taken, and it is closed: {error}", node=self.name
                ) from error
            if not self._reading:
                self.turn = Turn.WORKER
        if kind not in _KINDS or told not in _TOLD:
            raise self.refuse(f"an answer of kind {kind}, telling {told}")
        if logs > _MOST_LOGS or ranges > self._most_ranges:
            raise self.refuse(f"an answer with {logs} bytes of logs and {ranges} ranges")
        inside = RANGE.size * ranges + logs + length
        if outside:
            payload = self.area.view if self.area is not None else memoryview(b"")
            if inside > len(payload):
                raise self.refuse(f"{inside} bytes in an area of {len(payload)}")
        else:
            payload = inbox[ANSWER.size : size]
            if inside != len(payload):
                raise self.refuse(f"{len(payload)} bytes instead of {inside}")
        at = RANGE.size * ranges
        named = self._named(bytes(payload[:at])) if ranges else NO_RANGES
        records = self._records(bytes(payload[at : at + logs])) if logs else []
        received = Received(kind, bytes(payload[at + logs : inside]), named, records, dropped, memory, fuel, told)
        if self._reading:
            self._reading = 0
        elif kind == _ASK:
            self.turn = Turn.HOST
        else:
            self.busy_s += time.perf_counter() - self._since
            self.pending = 0  # last: until here, an interruption leaves an answer that nobody has
        return received

    def _wait(self, until: float | None) -> None:
        """Until there is something to receive, or the worker's end of the socket is closed."""
        seconds = self.patience_s if until is None else max(0.0, until - time.monotonic())
        if self._readable.poll(None if seconds is None else seconds * 1000):
            return
        if until is None:
            raise self._overdue()
        raise TimeoutError

    def _drop(self, number: int) -> None:
        """An answer that is not to the pending request: to one that was interrupted, or it is a lie."""
        if number not in self._late:
            raise self.refuse(f"an answer to request {number}, not {self._reading or self.pending}")
        self._late.discard(number)

    def _named(self, table: bytes) -> Ranges:
        area = self.area.view if self.area is not None else memoryview(b"")
        for _, length, offset in RANGE.iter_unpack(table):
            if offset + length > len(area):
                raise self.refuse(f"a range [{offset}, +{length}) of an area of {len(area)} bytes")
        return Ranges(table, area)

    def _records(self, data: bytes) -> list[bytes]:
        records, at = [], 0
        while at < len(data):
            start = at + LENGTH.size
            if start > len(data):
                raise self.refuse("a log record without its length")
            at = start + LENGTH.unpack_from(data, at)[0]
            if at > len(data):
                raise self.refuse("a log record that is cut short")
            records.append(data[start:at])
        return records

    def _room(self, size: int) -> SharedMemory:
        """The area, made anew if it has less than `size` bytes."""
        if self.area is None or self.area.size < size:
            self._use(size)
        assert self.area is not None
        return self.area

    def _use(self, size: int | None) -> None:
        """Have the worker use a new area of so many bytes; None: none."""
        self._settled = False  # until the end: if this is interrupted, nobody knows which area the worker has
        self.area = None
        if size is None:
            self.send(Request.ROOM)
        else:
            area, descriptor = create(size)
            self.send(Request.ROOM, b"", area.size, descriptor)
            self.area = area
        self._settled = True

    def tidy(self) -> None:
        """Give an area back that has grown large."""
        if self.area is not None and self.area.size > _KEPT_BYTES:
            self._use(None)

    def _transmit(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except (BlockingIOError, TimeoutError):
            raise self.refuse("it takes no request") from None
        except OSError:
            raise self._died() from None

    def _died(self) -> BrokenInstanceError:
        cause = self._process.end()
        message = f"the worker process of node {self.name!r} died ({cause}), and every node in it"
        return BrokenInstanceError(message, node=self.name)

    def _overdue(self) -> HardDeadlineError:
        limit, value = self._limit, self._value
        assert value is not None  # there is no other timeout
        self._process.end(f"killed, for it did not end a call within {self._grace_s:g} s of its deadline")
        message = (
            f"node {self.name!r} ran longer than {value} s in one {'stream' if limit == 'stream_s' else 'call'} "
            f"(Limits.{limit}={value}), and its worker process did not stop it: the process was killed, with every node in it"
        )
        return HardDeadlineError(message, limit=limit, value=value, reached=value + self._grace_s, node=self.name)

    def refuse(self, what: str) -> ProtocolError:
        """Kill a worker whose answer breaks the rules; the error to raise."""
        self._process.end(f"killed, for it broke the protocol: {what}")
        message = f"the worker process of node {self.name!r} broke the protocol ({what}) and was killed, with every node in it"
        return ProtocolError(message, node=self.name)

    def close(self, *, keep: bool) -> None:
        """Have the worker free the instance; `keep`: its guest is at rest."""
        if keep:
            try:
                self._socket.send(REQUEST.pack(Request.CLOSE, 0, 0, 0, 0, 0, 0, 0), socket.MSG_DONTWAIT)
            except OSError:
                pass  # it has died: there is nothing to free
        self._socket.close()
