"""`NodeServer`: serves one node in a worker process. Moves bytes between the node's socket, its shared memory and its guest.

It neither encodes nor decodes values: frames pass unchanged between the host and the guest.
"""

from __future__ import annotations

import math
import os
import re
import socket
import struct
import threading
from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import cbor2

from cloche._codec import write_cbor
from cloche._isolation import remote_errors
from cloche._isolation.channel import most_ranges
from cloche._isolation.protocol import (
    ANSWER,
    BODY,
    ENDLESS_US,
    INBOX,
    INLINE,
    LENGTH,
    LIMITED_BY,
    LIVE,
    RANGE,
    REQUEST,
    SHARED,
    SNAPSHOT,
    Answer,
    Request,
    StopReason,
)
from cloche._isolation.shared_memory import SharedMemory, attach, put_columns
from cloche._records import LogRecord
from cloche._requests import GuestRequestRouter
from cloche._sandbox import Instance, Recorded, RecordedInstance, Snapshot, Tape, packed
from cloche._wasm import CallState, ClockAndRandomState, Engine, Memory, Stopped, Word
from cloche.errors import ClocheError, EncodeError, InternalError
from cloche.limits import Limits
from cloche.texts import name
from cloche_wire import tags

__all__ = ["NodeServer"]

_U32: Final = 0xFFFF_FFFF
_ENDLESS: Final = (1 << 62) - 1
_FD_BYTES: Final = struct.calcsize("i")
_DESCRIPTOR_SPACE: Final = socket.CMSG_SPACE(_FD_BYTES)
_ADDRESS_LENGTH: Final = re.compile(
    rb"\xd9(?:%b)\x82\x1a(....)(?:\x1a(....)|\x19(..)|\x18(.))"
    % b"|".join(re.escape(tag.to_bytes(2, "big")) for tag in (tags.BYTES_AT, tags.TEXT_AT, tags.BODY_AT)),
    re.DOTALL,
)
"""Matches references to guest memory in a reply. It may match text as well: then bytes are sent that nobody needs."""


class _Message(NamedTuple):
    """A message for the guest.

    Attributes:
        frame: the message, with gaps for the addresses of its bodies.
        bodies: position of the gap for the body's address, and the body.
        begun: called when the instance has begun the call, before the guest is entered.
    """

    frame: bytearray
    bodies: list[tuple[int, memoryview]]
    begun: Callable[[], object] = lambda: None


class _Relay:
    """Pass-through codec of an instance: places the bodies of a message in guest memory, and leaves frames unchanged.

    Args:
        place: puts a body into guest memory, and returns its address there.
        free: frees it.
    """

    def __init__(self, place: Callable[[Any], int], free: Callable[[int], object]) -> None:
        self._place, self._free = place, free

    def encode(self, message: list[Any], _root: str) -> bytes:
        frame, bodies, begun = message[2]
        placed: list[int] = []
        try:
            for position, body in bodies:
                address = self._place(body)
                placed.append(address)
                frame[position : position + 4] = address.to_bytes(4, "big")
        except EncodeError:
            for address in placed:
                self._free(address)
            raise
        begun()  # after the guest's allocator has run, which counts as a call
        return bytes(frame)

    def decode(self, frame: bytes, *, lease: bool = False) -> bytes:
        return frame


class _RelayedRequestRouter(GuestRequestRouter):
    """Passes the guest's requests on to the host, where the request handlers are.

    Args:
        memory: the guest's memory.
        relay: the instance's codec.
        limits: the node's limits.
        ask: sends a request to the host and returns the answer. The request is empty if it has too many items.
    """

    def __init__(self, memory: Memory, relay: _Relay, limits: Limits, ask: Callable[[bytes], _Message]) -> None:
        super().__init__(memory, relay, limits, ())  # type: ignore[arg-type]  # it has what RequestRouter uses
        self._relay = relay
        self._ask = ask

    def respond(self, frame: bytes) -> bytes:
        return self._relay.encode([0, 0, self._ask(frame)], "")


class _Relaying(Instance):
    """Mixin: an instance that passes messages and log records on as bytes, without decoding them.

    Attributes:
        records: the log records to pass on.
        dropped: number of records that the ring had no room for.
        send_records: sends them to the host, while the call goes on.
    """

    def _begin(self) -> None:
        """Set the attributes that a constructor uses."""
        self.records: list[bytes] = []
        self.dropped = 0
        self.send_records: Callable[[], object] | None = None
        self._account = array("q", [_ENDLESS, 0, 0, 0, 0, 0])

    def _relay_by(self, relay: _Relay, ask: Callable[[bytes], _Message] | None) -> None:
        self._codec = relay  # type: ignore[assignment]  # it has what exchange uses
        if ask is not None:
            self.host.router = _RelayedRequestRouter(self._memory, relay, self.limits, ask)
            self._words[Word.GRANTED] = 1

    def relay(self, message: _Message) -> bytes:
        """Send a message and return the guest's reply, which only the host checks. Raises as `Instance.exchange` does."""
        reply: bytes = self._reply_to(0, [message], "")
        return reply

    def allot(self, most: int) -> None:
        """Have the next call use `most` - 1 nanoseconds of processor time at most; 0: as many as it needs. It is counted."""
        self._account[0] = self._account[2] + most - 1 if most else _ENDLESS
        self.pay_from(self._account.buffer_info()[0], None)

    @property
    def spent_ns(self) -> int:
        """Processor time of the last call, in nanoseconds."""
        return int(self._words[Word.SPENT_NS])

    def view(self, address: int, length: int) -> memoryview:
        """A view of guest memory, valid until the guest runs again."""
        return self._memory.view(address, length, self.limits.reply_bytes)

    def shared_at(self, view: memoryview) -> int:
        """The guest's address of a buffer made by `share`."""
        return self._memory.shared(view)

    def prefetch(self, frame: bytes) -> list[tuple[int, memoryview]]:
        """The ranges of guest memory to which a reply seems to refer: together at most `Limits.reply_bytes`."""
        found: list[tuple[int, memoryview]] = []
        left, most = self.limits.reply_bytes, most_ranges(self.limits)
        for match in _ADDRESS_LENGTH.finditer(frame):
            address, length = (int.from_bytes(part, "big") for part in match.groups() if part is not None)
            left -= length
            if left < 0 or len(found) == most:
                break
            try:
                found.append((address, self.view(address, length)))
            except ClocheError:
                break  # a reference outside of the memory: the host checks it as well
        return found

    def _drain(self) -> list[Any]:
        self._end_live()
        self._pass_on(*self._taken_records())
        return []

    def _take_live(self) -> None:
        self._pass_on(*self._drained_live())
        if self.send_records is not None and (self.records or self.dropped):
            self.send_records()

    def _pass_on(self, frames: list[bytes], dropped: int) -> None:
        self.records += frames
        self.dropped += dropped


class _Relayed(_Relaying):
    """An instance that relays.

    Args:
        engine: see `Instance`, as for the others.
        limits: see there.
        host: see there.
        snapshot: see there.
        ask: sends a request of the guest to the host and returns the answer; None: nothing is granted.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        host: CallState,
        snapshot: Snapshot | None,
        ask: Callable[[bytes], _Message] | None,
    ) -> None:
        self._begin()
        super().__init__(engine, limits, host, _no_records, snapshot)
        self._relay_by(_Relay(self._memory.place, self._memory.free), ask)


class _Keeper:
    """The recorder of an instance here: it keeps the tape. The host writes the files."""

    def __init__(self, most_calls: int, most_bytes: int) -> None:
        self.tape = Tape(most_calls, most_bytes)

    def failed(self, sandbox: Recorded, error: ClocheError) -> None:
        """Nothing is written here."""


class _RecordedRelayed(_Relaying, RecordedInstance):
    """An instance that relays, and is recorded.

    Args:
        recorder: keeps the tape.
        engine: see `_Relayed`, as the others.
    """

    def __init__(
        self,
        recorder: _Keeper,
        engine: Engine,
        limits: Limits,
        host: CallState,
        snapshot: Snapshot | None,
        ask: Callable[[bytes], _Message] | None,
    ) -> None:
        self._begin()
        RecordedInstance.__init__(self, recorder, engine, limits, host, _no_records, snapshot)
        reel, memory = self.reel, self._memory
        self._relay_by(_Relay(reel.placing(memory.place), reel.freeing(memory.free)), ask)

    def view(self, address: int, length: int) -> memoryview:
        """See `_Relaying`. What the host wants to see of a reply is part of the recording."""
        view = super().view(address, length)
        self.reel.note_body(address, view)
        return view


def _no_records(_records: list[LogRecord], _node: str) -> None:
    """In place of what delivers log records, which the host does."""


def _not_here(record: LogRecord) -> None:
    """In place of the caller's function, which is in the host: `_Relayed` decodes no records."""


class NodeServer:
    """Serves one node of a worker process.

    Args:
        engine: the worker's engine.
        channel: the node's socket to the host.
        forget: called at the end of `run`.
    """

    def __init__(self, engine: Engine, channel: socket.socket, forget: Callable[[], object]) -> None:
        self._engine = engine
        self._channel = channel
        self._forget = forget
        self._inbox = bytearray(INBOX)
        self._area: SharedMemory | None = None
        self._buffers: dict[int, tuple[SharedMemory, memoryview]] = {}
        self._lent: list[tuple[memoryview, memoryview]] = []
        self._instance: _Relaying | None = None
        self._number = self._cancelled = 0
        self._lock = threading.Lock()
        self._is_entered = self._is_early = False

    def run(self) -> None:
        """Serve requests until the host closes the channel. Errors are sent to the host, not raised."""
        keep = False
        try:
            while (received := self._receive()) is not None:
                if received[0] == Request.CLOSE:
                    keep = True
                    break
                try:
                    self._serve(*received)
                except (BrokenPipeError, ConnectionResetError):
                    break
                except Exception as error:
                    instance = self._instance
                    closed = instance is None or instance.closed
                    self._answer(Answer.FAILED, remote_errors.describe(error, closed))
        except OSError:
            pass  # the host has ended
        finally:
            self._lent.clear()
            self._buffers.clear()
            if self._instance is not None:
                self._instance.close(keep=keep)
            self._forget()
            self._channel.close()

    def refuse(self, error: ClocheError) -> None:
        """Answer the node's first request with an error, and serve no other. The host sends it at once, or closes the socket."""
        with suppress(OSError):  # the host has given up
            received = self._receive()
            if received is not None:
                if received[-1] >= 0:
                    os.close(received[-1])
                self._answer(Answer.FAILED, remote_errors.describe(error, True))
        self._forget()
        self._channel.close()

    def cancel(self, number: int) -> None:
        """Interrupt the call with that number. It may arrive before the call, because it comes on another socket."""
        with self._lock:
            self._cancelled = number
            if self._number == number and self._is_entered:
                self._cancel()

    def _cancel(self) -> None:
        """Interrupt the current call, also if its guest is only about to run. Needs the lock."""
        instance = self._instance
        if instance is not None:
            serial = instance.serial
            if not instance.cancel(serial):  # not whichever runs: the call of that number may be about to
                instance.cancel(serial + 1)
                self._is_early = True

    def _begun(self) -> None:
        """Called when the guest is about to be entered: interrupts a call that was cancelled before it arrived."""
        with self._lock:
            self._is_entered = True
            if self._cancelled == self._number:
                self._cancel()

    def _ended(self) -> None:
        """Called when the guest has been left: an interrupt that came too late for it must not meet the next call."""
        with self._lock:
            self._is_entered = False
            if self._is_early and self._instance is not None:
                self._instance.skip_serial()
            self._is_early = False

    @property
    def instance(self) -> Instance | None:
        """The node's instance; None: there is none yet. For another thread, which uses what is thread-safe of it."""
        return self._instance

    def where(self) -> list[list[Any]]:
        """The current Python frames of the guest. Called on another thread."""
        instance = self._instance
        frames = instance.where() if instance is not None else ()
        return [[name(frame.file), frame.line, name(frame.function)] for frame in frames]

    @property
    def private_bytes(self) -> int:
        """See `Sandbox`. Read on another thread."""
        instance = self._instance
        return instance.private_bytes if instance is not None else 0

    def _receive(self) -> tuple[Any, ...] | None:
        """Receive a request: kind, number, payload, bodies, shared, size of the frame, a, b, and the descriptor or -1.

        Returns None when the host has closed the socket.
        """
        size, control, _, _ = self._channel.recvmsg_into([self._inbox], _DESCRIPTOR_SPACE)
        if not size:
            return None
        descriptor = struct.unpack_from("i", control[0][2])[0] if control else -1
        kind, outside, number, bodies, shared, length, a, b = REQUEST.unpack_from(self._inbox)
        if number and kind != Request.READ:  # a READ may come during another request, which stays the current one
            self._number = number
        if outside:
            assert self._area is not None  # the host sends ROOM first
            payload = self._area.view
        else:
            payload = memoryview(self._inbox)[REQUEST.size : size]
        return kind, number, payload, bodies, shared, length, a, b, descriptor

    def _serve(
        self,
        kind: int,
        number: int,
        payload: memoryview,
        bodies: int,
        shared: int,
        length: int,
        a: int,
        b: int,
        descriptor: int,
    ) -> None:
        if kind == Request.OPEN:
            self._open(cbor2.loads(payload[:length]), attach(descriptor, b) if descriptor >= 0 else None, a)
            self._answer(Answer.DONE)
            return
        if kind == Request.ROOM:
            self._area = attach(descriptor, a) if a else None
            return
        instance = self._instance
        if instance is None:
            raise InternalError("a request came before OPEN")
        match kind:
            case Request.CALL:
                seconds = math.inf if a == ENDLESS_US else a / 1e6 if a else None
                instance.limit_next_calls(seconds, LIMITED_BY[b & 0xFFFF & ~LIVE])
                instance.on_record = _not_here if b & LIVE else None
                instance.expect_items(b >> 16)
                message = self._message(payload, bodies, shared, length)._replace(begun=self._begun)
                try:
                    frame = instance.relay(message)
                finally:
                    self._ended()
                for outer, inner in self._lent:  # copied back: the host sees what the node wrote to a buffer
                    outer[:] = inner
                self._lent.clear()
                self._answer(Answer.DONE, frame, instance.prefetch(frame))
            case Request.READ:
                area = attach(descriptor, b)
                try:
                    area.view[:b] = instance.view(a, b)
                except ClocheError as error:
                    self._answer(Answer.FAILED, remote_errors.describe(error, instance.closed), number=number)
                else:
                    self._answer(Answer.DONE, number=number)
            case Request.SHARE:
                area = attach(descriptor, a)
                view = instance.share(a)
                self._buffers[b] = area, view
                self._answer(Answer.DONE, instance.shared_at(view).to_bytes(4, "little"))
            case Request.SNAPSHOT:
                self._snapshot(instance)
            case Request.LOADED if isinstance(instance, RecordedInstance):
                instance.begin({})
                self._answer(Answer.DONE)
            case Request.RECORDING if isinstance(instance, RecordedInstance):
                self._recording(instance, a)
            case Request.PAY:
                instance.allot(a)
            case Request.BOUND:
                instance.bound_memory(a)
            case Request.RENAME:
                instance.name = str(payload[:length], "utf-8")
            case _:
                raise InternalError(f"no request has number {kind}")

    def _open(self, how: dict[str, Any], area: SharedMemory | None, size: int) -> None:
        snapshot = None
        if area is not None:
            masks, words = how["pages"], how["pages"] + how["masks"]
            state = area.view[:size]
            snapshot = Snapshot(
                self._engine.image,
                how["name"],
                {},
                how["memory"],
                bytes(state[:masks]),
                bytes(state[masks:words]),
                bytes(state[words:]),
                how["request"],
                how["calls"],
            )
        clock, key, drawn = (how["outside"][name] for name in ("clock", "key", "drawn"))
        host = CallState(how["name"], ClockAndRandomState(None if clock is None else tuple(clock), key, drawn))
        common = self._engine, Limits(**how["limits"]), host, snapshot, self._ask if how["handlers"] else None
        self._instance = _RecordedRelayed(_Keeper(*how["record"]), *common) if "record" in how else _Relayed(*common)
        self._instance.send_records = self._send_records

    def _message(self, payload: memoryview, bodies: int, shared: int, length: int) -> _Message:
        area = self._area.view if self._area is not None else memoryview(b"")
        at = BODY.size * bodies
        placed = [(position, area[start : start + size]) for position, start, size in BODY.iter_unpack(payload[:at])]
        for number, start, size in SHARED.iter_unpack(payload[at : at + SHARED.size * shared]):
            area_of_buffer, guest = self._buffers[number]
            outer, inner = area_of_buffer.view[start : start + size], guest[start : start + size]
            inner[:] = outer
            self._lent.append((outer, inner))
        at += SHARED.size * shared
        return _Message(bytearray(payload[at : at + length]), placed)

    def _ask(self, request: bytes) -> _Message:
        """Send a request of the guest to the host, and return the answer."""
        assert self._instance is not None  # the request comes from its guest
        self._answer(Answer.ASK, request, self._instance.prefetch(request) if request else ())
        while (received := self._receive()) is not None:
            kind, _, payload, bodies, shared, length, _, halt, _ = received
            if kind == Request.ANSWER:
                if halt == StopReason.CANCELLED:  # the order to cancel, on the other socket, may be later
                    self._instance.host.cancel(self._instance.calls)
                    raise Stopped
                if halt == StopReason.DEADLINE:
                    raise Stopped
                return self._message(payload, bodies, shared, length)
            self._serve(*received)  # ROOM, READ
        raise BrokenPipeError("the host has gone")

    def _send_records(self) -> None:
        """Send log records of the call under way. If they are in shared memory, wait until the host has taken them from there."""
        if not self._answer(Answer.RECORDS):
            return
        while (received := self._receive()) is not None:
            if received[0] == Request.GO_ON:
                return
            self._serve(*received)  # ROOM, READ
        raise BrokenPipeError("the host has gone")

    def _recording(self, instance: RecordedInstance, most: int) -> None:
        """Send what is recorded: [is first, state, state now, bytes of the events].

        A state is [bytes of linear memory, of pages, of masks, of words, address of the request buffer, calls, outside], or None.
        """
        kept = instance.kept()
        columns: list[bytes] = []
        about: list[Any] = [kept.is_first]
        for state in (kept.state, kept.after):
            if state is None:
                about.append(None)
                continue
            columns += state.columns
            sizes = map(len, state.columns)
            about.append([state.memory_bytes, *sizes, state.request, state.calls, dict(state.outside)])
        columns.append(packed(kept.events))
        size = sum(map(len, columns))
        if size > most:
            raise ClocheError(f"the recording takes {size} bytes, {most} allowed")
        put_columns(self._room(size), columns)
        self._answer(Answer.DONE, write_cbor([*about, len(columns[-1])]))

    def _snapshot(self, instance: _Relaying) -> None:
        taken = instance.snapshot({})
        put_columns(self._room(taken.size_bytes), taken.columns)
        about = SNAPSHOT.pack(taken.memory_bytes, *map(len, taken.columns), taken.request)
        self._answer(Answer.DONE, about + write_cbor([dict(taken.outside)]))

    def _answer(
        self,
        kind: Answer,
        frame: bytes = b"",
        ranges: list[tuple[int, memoryview]] | tuple[()] = (),
        *,
        number: int = 0,
    ) -> bool:
        """Send a message. Returns whether its contents are in shared memory."""
        number = number or self._number
        instance = self._instance
        logs = b""
        dropped = memory = fuel = told = spent = 0
        if instance is not None:
            memory, fuel, spent = instance.memory_bytes, instance.last_fuel, instance.spent_ns
            told = StopReason[instance.told.name] if instance.told is not None else StopReason.NONE
            if instance.records or instance.dropped:
                logs = b"".join(LENGTH.pack(len(record)) + record for record in instance.records)
                dropped = min(instance.dropped, _U32)  # a guest that forges its log ring can claim more
                instance.records, instance.dropped = [], 0
        inside = RANGE.size * len(ranges) + len(logs) + len(frame)
        outside = inside > INLINE
        at = inside if outside else 0
        need = at + sum(len(body) for _, body in ranges)
        table = b""
        if need:
            area = self._room(need)
            entries = []
            for address, body in ranges:
                area[at : at + len(body)] = body
                entries.append(RANGE.pack(address, len(body), at))
                at += len(body)
            table = b"".join(entries)
            if outside:
                area[:inside] = table + logs + frame
        head = ANSWER.pack(
            kind, outside, told, number, len(ranges), len(frame), len(logs), dropped, memory, fuel, spent
        )
        self._channel.send(head if outside else head + table + logs + frame)
        return outside

    def _room(self, size: int) -> memoryview:
        """The shared memory for answers. If it has less than `size` bytes, the host is asked for a larger one."""
        if self._area is None or self._area.size < size:
            self._area = None
            self._channel.send(ANSWER.pack(Answer.NEED, 0, 0, self._number, 0, 0, 0, 0, size, 0, 0))
            received = self._receive()
            if received is None or received[0] != Request.ROOM:
                raise BrokenPipeError("the host makes no room")
            self._area = attach(received[-1], received[6])
        return self._area.view
