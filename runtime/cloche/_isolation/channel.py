"""`Channel`: the host's end of a node's socket. Answers of a worker are untrusted; a worker that breaks the protocol is killed.

The host can be interrupted between any two bytecodes (Ctrl-C, a signal handler, a full stack). So `Channel.pending` is set to the
number of a request *before* the request is sent, and reset once the whole answer has been received. If it is still set after a call
has ended in the host, the call was interrupted: its late answer has to be received and dropped, or the instance closed. READ
changes nothing in the guest, so it does not set `pending`: its late answer is recognised by its number and dropped. Shared memory
into which a late answer may be written is not used again.
"""

from __future__ import annotations

import math
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
    ENDLESS_US,
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
from cloche._sandbox import GIVEN
from cloche.errors import BrokenInstanceError, ClocheError, EncodeError, HardDeadlineError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._isolation.descriptors import Descriptor
    from cloche._isolation.worker_process import Process
    from cloche.limits import Limits

__all__ = ["GRACE_S", "Channel", "Received", "Turn", "most_ranges"]

GRACE_S: Final = 5.0
"""Seconds after a call's deadline and `Limits.grace_s`, after which a worker process that has not stopped its guest is killed."""

_KEPT_BYTES: Final = 16 << 20
"""A larger area of shared memory is released after the call."""

_LONGEST_POLL_MS: Final = (1 << 31) - 1
_U32: Final = 0xFFFF_FFFF
_TIMEVAL: Final = struct.Struct("@ll")
_CALL: Final = int(Request.CALL)
_ANSWER: Final = int(Request.ANSWER)
_READ: Final = int(Request.READ)
_KINDS: Final = frozenset({int(Answer.DONE), int(Answer.FAILED), int(Answer.ASK), int(Answer.RECORDS)})
_NEED: Final = int(Answer.NEED)
_TOLD: Final = frozenset(map(int, StopReason))
_ASK: Final = int(Answer.ASK)
_RECORDS: Final = int(Answer.RECORDS)
_MOST_LOGS: Final = 2 * abi.RING_CAPACITY
_FEWEST_RANGES: Final = 1024


def most_ranges(limits: Limits) -> int:
    """The largest number of ranges that may come with an answer. More are never needed: each reference takes items of the reply."""
    return max(_FEWEST_RANGES, limits.value_nodes)


class Turn(Enum):
    """Which side has to send the next message of the current call."""

    UNKNOWN = 0
    """a message is being sent or received: after an interruption, it is unknown whether it was"""
    WORKER = 1
    """the host has sent its whole message, and received nothing of the answer"""
    HOST = 2
    """the worker waits for the answer to a request of its guest"""


class Received(NamedTuple):
    """An answer whose lengths have been checked. Frame and records are copies; the ranges are shared memory and may still change.

    Attributes:
        kind: DONE (the frame is a reply), FAILED (an error), ASK (a request of the guest) or RECORDS (the call goes on).
        frame: the frame, not decoded yet.
        ranges: contents of the ranges of guest memory to which the frame refers.
        records: log records, not decoded yet.
        dropped: number of log records that the guest has overwritten.
        memory_bytes: size of the guest's memory, according to the worker.
        fuel: instructions that the call executed, according to the worker.
        told: why the guest was interrupted, according to the worker: a `StopReason`.
        spent_ns: processor time of the call, according to the worker; 0 without PAY.
    """

    kind: int
    frame: bytes
    ranges: Ranges
    records: list[bytes]
    dropped: int
    memory_bytes: int
    fuel: int
    told: int
    spent_ns: int


class Channel:
    """Sends requests for one node to its worker process, and receives the answers.

    Args:
        process: the worker process.
        name: the node's name, for errors.
        limits: the node's limits. Without ``deadline_s``, the host waits for answers without a timeout.

    Attributes:
        area: shared memory for messages, as large as needed so far; None if there is none, or if the worker may use another one.
        allowed_us: microseconds that a call may take, if something else than `Limits.deadline_s` bounds it; otherwise 0.
        limited_by: index in `LIMITED_BY` of the limit that bounds a call's time.
        items: the items of the batch that comes next, each of which has that time; 0: it is no batch.
        patience_s: seconds until a worker that does not answer is killed; None: never.
        node: number of the node in the worker.
        number: number of the last request that expects an answer.
        pending: number of the request whose answer is missing, except READ; 0 if there is none.
        turn: the side that has to send the next message, while a CALL is pending.
        busy_s: seconds in which requests were pending, without the current one.

    Raises:
        BrokenInstanceError: the worker has died.
    """

    def __init__(self, process: Process, name: str, limits: Limits) -> None:
        self.name = name
        self._process = process
        self._inbox = memoryview(bytearray(INBOX))
        self.area: SharedMemory | None = None
        self._settled = True
        self.allowed_us = self.limited_by = self.items = 0
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
        # bounds sending if `patience_s` is None: then the socket has no timeout
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(GRACE_S), 0))
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._grace_s = limits.grace_s + GRACE_S
        self.allow("deadline_s", limits.deadline_s, limits.deadline_s)

    def allow(self, limit: str, value: float | None, seconds: float | None) -> None:
        """Set the time that the next requests may take.

        Args:
            limit: what bounds them, for the error: a field of `Limits`, or GIVEN.
            value: the value of that field, or the deadline that was given.
            seconds: how long the guest may run; the worker is killed some time after that. None or infinite: no bound.
        """
        is_endless = seconds is not None and math.isinf(seconds)
        allowed_us = 0 if limit == "deadline_s" or seconds is None or is_endless else max(1, round(seconds * 1e6))
        self._limit, self._value = limit, value
        self.limited_by = LIMITED_BY.index(limit)
        self.allowed_us = ENDLESS_US if is_endless else allowed_us
        # not SO_RCVTIMEO, which starts anew after each signal: with a profiler's signals it would never expire
        self.patience_s = None if seconds is None or is_endless else seconds + self._grace_s
        if self._socket.fileno() >= 0:  # it is closed if the node broke in a stream
            self._socket.settimeout(self.patience_s)

    def expect(self, items: int) -> None:
        """Say that the next request is a batch of so many items; 0: it is none."""
        self.items = items
        if self.patience_s is not None and self._socket.fileno() >= 0:
            allowed_s = self.patience_s - self._grace_s
            self._socket.settimeout(allowed_s * max(1, items) + self._grace_s)

    @property
    def busy_until_now_s(self) -> float:
        """Seconds in which requests were pending, with the current one. Read from another thread."""
        since = self._since
        return self.busy_s + (time.perf_counter() - since if self.pending and since else 0.0)

    def _begin(self, kind: int) -> int:
        """Prepare for a request that expects an answer, and return the number for it."""
        if not self._settled:
            self._use(None)
        if self._reading:  # a READ was interrupted: its answer, if any, comes first
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
            bodies: position in the frame where the worker writes the body's address, and the body.
            uses: parts of shared buffers to which the message refers: number, offset, length.
            kind: CALL or ANSWER.
            b: of an ANSWER: a `StopReason`; of a CALL: LIVE or 0.
        """
        self.turn = Turn.UNKNOWN
        if len(frame) <= INLINE and not bodies and not uses:
            number = self._begin(kind) if kind == _CALL else self.pending
            self._transmit(
                REQUEST.pack(
                    kind,
                    0,
                    number,
                    0,
                    0,
                    len(frame),
                    self.allowed_us,
                    b if kind == _ANSWER else self.limited_by | b | self.items << 16,
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
            b if kind == _ANSWER else self.limited_by | b | self.items << 16,
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
        """Send a request other than CALL that expects an answer. The descriptor, if any, is sent along and closed."""
        self._send(REQUEST.pack(kind, 0, self._begin(kind), 0, 0, len(frame), a, b) + frame, descriptor)

    def send(self, kind: Request, frame: bytes = b"", a: int = 0, descriptor: Descriptor | None = None) -> None:
        """Send a request that expects no answer. The descriptor, if any, is sent along and closed."""
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
            most: bytes of shared memory that the worker may request for the answer.
            until: time (of `time.monotonic`) at which waiting ends with a TimeoutError; None: a late worker is killed.

        Raises:
            TimeoutError: the worker did not answer before `until`.
            HardDeadlineError: the worker did not answer within `patience_s`, and has been killed.
            ProtocolError: the worker broke the protocol, and has been killed.
            BrokenInstanceError: the worker has died.
        """
        inbox = self._inbox
        while True:
            self._wait(until)  # not `recv`: an interruption while waiting then loses no message
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
            kind, outside, told, number, ranges, length, logs, dropped, memory, fuel, spent = ANSWER.unpack_from(inbox)
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
        received = Received(
            kind, bytes(payload[at + logs : inside]), named, records, dropped, memory, fuel, told, spent
        )
        if self._reading:
            self._reading = 0
        elif kind == _ASK:
            self.turn = Turn.HOST
        elif kind == _RECORDS:
            if outside:
                self.send(Request.GO_ON)
            self.turn = Turn.WORKER
        else:
            self.busy_s += time.perf_counter() - self._since
            self.pending = 0  # last: an interruption before this counts as a missing answer
        return received

    def _wait(self, until: float | None) -> None:
        """Wait until there is a message to receive, or the worker's end of the socket is closed."""
        seconds = self.patience_s if until is None else max(0.0, until - time.monotonic())
        if seconds is None:
            self._readable.poll()
            return
        while not self._readable.poll(min(seconds * 1000, _LONGEST_POLL_MS)):
            seconds -= _LONGEST_POLL_MS / 1000
            if seconds <= 0:
                break
        else:
            return
        if until is None:
            raise self._overdue()
        raise TimeoutError

    def _drop(self, number: int) -> None:
        """Drop the late answer to an interrupted READ. An answer with any other number breaks the protocol."""
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
        """The area, replaced by a larger one if it has less than `size` bytes."""
        if self.area is None or self.area.size < size:
            self._use(size)
        assert self.area is not None
        return self.area

    def _use(self, size: int | None) -> None:
        """Replace the area, here and in the worker, by one of `size` bytes; None: by none."""
        self._settled = False  # after an interruption, it is unknown which area the worker uses
        self.area = None
        if size is None:
            self.send(Request.ROOM)
        else:
            area, descriptor = create(size)
            self.send(Request.ROOM, b"", area.size, descriptor)
            self.area = area
        self._settled = True

    def tidy(self) -> None:
        """Release the area if it has grown larger than `_KEPT_BYTES`."""
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
        assert value is not None  # without a value nothing is overdue
        self._process.end(f"killed, for it did not end a call within {self._grace_s:g} s of its deadline")
        given = f"with_options(deadline_s={value})" if limit == GIVEN else f"Limits.{limit}={value}"
        limit = "deadline_s" if limit == GIVEN else limit
        message = (
            f"node {self.name!r} ran longer than {value} s in one {'stream' if limit == 'stream_s' else 'call'} "
            f"({given}), and its worker process did not stop it: the process was killed, with every node in it"
        )
        return HardDeadlineError(message, limit=limit, value=value, reached=value + self._grace_s, node=self.name)

    def refuse(self, what: str) -> ProtocolError:
        """Kill a worker that has broken the protocol. Returns the error to raise."""
        self._process.end(f"killed, for it broke the protocol: {what}")
        message = f"the worker process of node {self.name!r} broke the protocol ({what}) and was killed, with every node in it"
        return ProtocolError(message, node=self.name)

    def close(self, *, keep: bool) -> None:
        """Have the worker free the instance. With `keep`, the guest must be at rest; the worker may then use its memory again."""
        if keep:
            try:
                self._socket.send(REQUEST.pack(Request.CLOSE, 0, 0, 0, 0, 0, 0, 0), socket.MSG_DONTWAIT)
            except OSError:
                pass  # the worker has died: nothing is left to free
        self._socket.close()
