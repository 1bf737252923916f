"""The host's end of a node's socket. A worker is believed as little as a guest: one that breaks the rules is killed."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from cloche._isolation._area import Area, create
from cloche._isolation._wire import ANSWER, BODY, INBOX, INLINE, LENGTH, RANGE, REQUEST, SHARED, Answer, Request
from cloche.errors import BrokenInstanceError, DeadlineError, EncodeError, ProtocolError

if TYPE_CHECKING:
    from cloche._isolation._process import Process

__all__ = ["GRACE_S", "Channel", "Received"]

GRACE_S: Final = 5.0
"""Seconds after a call's deadline until a worker that has not stopped it is killed."""

_KEPT_BYTES: Final = 16 << 20
"""An area that has grown beyond this is given back after the call."""

_U32: Final = 0xFFFF_FFFF
_TIMEVAL: Final = struct.Struct("@ll")
_CALL: Final = int(Request.CALL)
_KINDS: Final = frozenset({int(Answer.DONE), int(Answer.FAILED), int(Answer.ASK)})
_NEED: Final = int(Answer.NEED)


class Received(NamedTuple):
    """An answer, its lengths checked. Frame and records are copies; what the ranges show may still change.

    Attributes:
        kind: DONE (the frame is a reply), FAILED (an error) or ASK (a request).
        frame: not looked at yet.
        ranges: (guest address, length) -> what lies there.
        records: log records, not looked at yet.
        dropped: log records that the guest has overwritten.
        memory_bytes: size of the guest's memory, as the worker has it.
        fuel: what the call has burned, as the worker has it.
    """

    kind: int
    frame: bytes
    ranges: dict[tuple[int, int], memoryview]
    records: list[bytes]
    dropped: int
    memory_bytes: int
    fuel: int


class Channel:
    """Requests to one node's worker, and its answers.

    Args:
        process: the worker.
        name: the node's, for errors.
        deadline_s: of its calls; None: its answers are waited for without end.

    Attributes:
        area: shared memory, as large as needed so far.
        hurry_us: microseconds that a call has, if ``stream_s`` bounds it rather than ``deadline_s``; else 0.

    Raises:
        BrokenInstanceError: the worker has died.
    """

    def __init__(self, process: Process, name: str, deadline_s: float | None) -> None:
        self.name = name
        self._process = process
        self._deadline_s = deadline_s
        self._inbox = memoryview(bytearray(INBOX))
        self.area: Area | None = None
        self.hurry_us = 0
        try:
            self.number, self._socket = process.connect()
        except OSError:
            raise self._died() from None
        if deadline_s is not None:
            seconds = deadline_s + GRACE_S
            timeout = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(GRACE_S), 0))

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
        if len(frame) <= INLINE and not bodies and not uses:
            self._transmit(REQUEST.pack(kind, 0, 0, 0, len(frame), self.hurry_us, b) + frame)
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
        head = REQUEST.pack(kind, outside, len(bodies), len(uses), len(frame), self.hurry_us, b)
        if outside:
            area[:inside] = payload
            self._transmit(head)
        else:
            self._transmit(head + payload)

    def send(self, kind: Request, frame: bytes = b"", a: int = 0, b: int = 0, descriptor: int = -1) -> None:
        """Send any other request, with a descriptor, which is closed then."""
        message = REQUEST.pack(kind, 0, 0, 0, len(frame), a, b) + frame
        if descriptor < 0:
            self._transmit(message)
            return
        try:
            socket.send_fds(self._socket, [message], [descriptor])
        except OSError:
            raise self._died() from None
        finally:
            os.close(descriptor)

    def receive(self, most: int) -> Received:
        """Wait for the answer.

        Args:
            most: bytes that the worker may want for it in shared memory.

        Raises:
            DeadlineError: it did not answer in time, and has been killed.
            ProtocolError: it broke the rules, and has been killed.
            BrokenInstanceError: it has died.
        """
        inbox = self._inbox
        while True:
            try:
                size = self._socket.recv_into(inbox)
            except BlockingIOError:
                raise self._overdue() from None
            except OSError:
                size = 0
            if not size:
                raise self._died()
            if size < ANSWER.size:
                raise self.refuse(f"an answer of {size} bytes")
            kind, outside, ranges, length, logs, dropped, memory, fuel = ANSWER.unpack_from(inbox)
            if kind != _NEED:
                break
            if not (self.area.size if self.area is not None else 0) < memory <= most:
                raise self.refuse(f"an answer of {memory} bytes, {most} allowed")
            self._room(memory)
        if kind not in _KINDS:
            raise self.refuse(f"an answer of kind {kind}")
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
        named = self._named(bytes(payload[:at])) if ranges else {}
        records = self._records(bytes(payload[at : at + logs])) if logs else []
        return Received(kind, bytes(payload[at + logs : inside]), named, records, dropped, memory, fuel)

    def _named(self, table: bytes) -> dict[tuple[int, int], memoryview]:
        area = self.area.view if self.area is not None else memoryview(b"")
        named = {}
        for address, length, offset in RANGE.iter_unpack(table):
            if offset + length > len(area):
                raise self.refuse(f"a range [{offset}, +{length}) of an area of {len(area)} bytes")
            named[address, length] = area[offset : offset + length]
        return named

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

    def _room(self, size: int) -> Area:
        """The area, made anew if it has less than `size` bytes."""
        if self.area is None or self.area.size < size:
            self.area = None
            area, descriptor = create(size)
            self.send(Request.ROOM, b"", area.size, 0, descriptor)
            self.area = area
        return self.area

    def tidy(self) -> None:
        """Give an area back that has grown large."""
        if self.area is not None and self.area.size > _KEPT_BYTES:
            self.area = None
            self.send(Request.ROOM)

    def _transmit(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except BlockingIOError:
            raise self.refuse("it takes no request") from None
        except OSError:
            raise self._died() from None

    def _died(self) -> BrokenInstanceError:
        cause = self._process.end()
        message = f"the worker process of node {self.name!r} died ({cause}), and every node in it"
        return BrokenInstanceError(message, node=self.name)

    def _overdue(self) -> DeadlineError:
        assert self._deadline_s is not None  # there is no other timeout
        cause = f"killed, for it did not end a call within {GRACE_S:g} s of its deadline"
        self._process.end(cause)
        message = (
            f"node {self.name!r} ran longer than {self._deadline_s} s in one call (Limits.deadline_s={self._deadline_s}), and its "
            "worker process did not stop it: the process was killed, with every node in it"
        )
        reached = self._deadline_s + GRACE_S
        return DeadlineError(message, limit="deadline_s", value=self._deadline_s, reached=reached, node=self.name)

    def refuse(self, what: str) -> ProtocolError:
        """Kill a worker whose answer breaks the rules; the error to raise."""
        self._process.end(f"killed, for it broke the protocol: {what}")
        message = f"the worker process of node {self.name!r} broke the protocol ({what}) and was killed, with every node in it"
        return ProtocolError(message, node=self.name)

    def close(self, *, keep: bool) -> None:
        """Have the worker free the instance; `keep`: its guest is at rest."""
        if keep:
            try:
                self._socket.send(REQUEST.pack(Request.CLOSE, 0, 0, 0, 0, 0, 0), socket.MSG_DONTWAIT)
            except OSError:
                pass  # it has died: there is nothing to free
        self._socket.close()
