"""`RemoteInstance`: the sandbox whose guest runs in a worker process. Values are encoded and decoded in the host."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from cloche._codec import REFUSED, Codec, decode_record, write_cbor
from cloche._isolation import remote_errors
from cloche._isolation.address_ranges import NO_RANGES
from cloche._isolation.channel import Channel, Received, Turn, most_ranges
from cloche._isolation.forwarding_codec import CountedRemoteCodec, RemoteCodec
from cloche._isolation.protocol import LIVE, RANGE, SNAPSHOT, Answer, Request, StopReason
from cloche._isolation.remote_memory import RemoteMemory
from cloche._isolation.shared_memory import create, put_columns
from cloche._records import LogRecord
from cloche._requests import FramedRequestRouter, ServiceHandler
from cloche._sandbox import (
    GIVEN,
    CallUsage,
    CheckedSandbox,
    Kept,
    LiveRecords,
    ReportsFailures,
    Snapshot,
    Watched,
    checked,
    logs,
    unpacked,
)
from cloche._sandbox.tape import ENDED
from cloche._wasm import MASK_BYTES, PAGE_BYTES, Reason, Stop, Stopped, no_room
from cloche.errors import BrokenInstanceError, ClocheError, ClosedError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._isolation.worker_process import Process
    from cloche._requests import RequestHandler
    from cloche._sandbox import Recorder, SampleSource
    from cloche._wasm import CallState, FrameInfo
    from cloche.limits import Limits

__all__ = ["RecordedRemoteInstance", "RemoteInstance", "WatchedRecordedRemoteInstance", "WatchedRemoteInstance"]

_FAILED: Final = int(Answer.FAILED)
_ASK: Final = int(Answer.ASK)
_RECORDS: Final = int(Answer.RECORDS)
_ANSWER: Final = int(Request.ANSWER)
_EINTR: Final = 27
"""The number of EINTR in WASI."""
_TOLD: Final = {
    int(StopReason.NONE): None,
    int(StopReason.CANCELLED): Stop.CANCELLED,
    int(StopReason.DEADLINE): Stop.DEADLINE,
    int(StopReason.BUDGET): Stop.BUDGET,
}
_SETTLE_S: Final = 1.0
"""Seconds after `Limits.grace_s` for which the host waits for the end of a call that an exception has interrupted in the host."""
_KEPT_S: Final = 60.0
"""Seconds for which the host waits for a recording."""
_FULL: Final = 10
"""So many times ``Record.max_bytes`` the events of a recording may take: two generations, each of which may be four times full."""
_BUFFERS: Final = 64 << 20
"""What may come to that at once: the core's buffers, and the log records of a call."""
_UNPACKED_BYTES: Final = 512 << 20
"""What the events may take in memory here: a worker that was taken over could send millions of short ones."""
_TABLES: Final = 64 * 1024
"""Bytes allowed for the tables in front of an answer."""


class RemoteInstance(CheckedSandbox):
    """A sandbox with a guest in a worker process. Not thread-safe: `NodeCalls` lets in one call at a time.

    Args:
        process: the worker process.
        limits: the node's limits.
        host: the state of the node's calls.
        on_records: called after each call that logged, with the log records and the node's name.
        snapshot: the state to begin with; None: the image's.
        handlers: answer the guest's requests, here in the host; they are closed with the instance.
        on_close: called with the worker process once the instance is closed.

    Attributes:
        codec: the class of its codec.
        kept_bytes: see `cloche._isolation.rlimits.bytes_for`.

    Raises:
        BrokenInstanceError: the worker process has died.
    """

    codec: type[RemoteCodec] = RemoteCodec
    kept_bytes = 0

    def __init__(
        self,
        process: Process,
        limits: Limits,
        host: CallState,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        handlers: Sequence[RequestHandler] = (),
        on_close: Callable[[Process], None] | None = None,
    ) -> None:
        self._process = process
        self.limits = limits
        self._on_records = on_records
        self._on_close = on_close
        self._memory_bytes = 0
        self.host = host
        host.calls = snapshot.calls if snapshot is not None else 0
        self.services = ServiceHandler.among(handlers)
        self.dropped_records = 0
        self.fuel = self.last_fuel = 0
        self.guest_seconds = 0.0
        self._began = self._took_s = 0.0
        self._told = self._spent_ns = 0
        self._paid_since: tuple[float, float] | None = None
        self._most_bytes = limits.memory_bytes
        self._limited_by, self._limit_s = self._ran_under = "deadline_s", limits.deadline_s
        self.closed = self._freed = False
        self.lease = False
        self.observer = self.watch = None
        self.on_record = None
        self._live: LiveRecords | None = None
        self.position = snapshot.stream if snapshot is not None else None
        self._records: list[LogRecord] = []
        self._router: FramedRequestRouter | None = None
        tables = _TABLES + RANGE.size * min(most_ranges(limits), limits.reply_bytes)
        self._most = 2 * limits.reply_bytes + abi.RING_CAPACITY + tables
        self._channel = Channel(process, host.node, limits)
        try:
            self._remote_memory = RemoteMemory(self._channel)
            self._codec = self.codec(limits, self._remote_memory.lift, self._remote_memory.shared)
            process.enter(self, self._channel)
            self._open(host.node, snapshot, bool(handlers))
            if handlers:
                self._router = FramedRequestRouter(self._codec, limits, handlers)
                host.router = self._router  # the service handler reads `request_bytes` there
        except BaseException:
            self.close()
            raise

    def _open(self, name: str, snapshot: Snapshot | None, granted: bool) -> None:
        how: dict[str, Any] = {"limits": asdict(self.limits), "name": name, "handlers": granted}
        how["outside"] = asdict(self.host.outside)
        how |= self._options()
        if snapshot is None:
            self._channel.ask(Request.OPEN, write_cbor(how))
        else:
            how |= {"memory": snapshot.memory_bytes, "pages": len(snapshot.pages), "masks": len(snapshot.masks)}
            how |= {"request": snapshot.request, "calls": snapshot.calls}
            area, descriptor = create(max(1, snapshot.size_bytes), exact=True)
            put_columns(area.view, snapshot.columns)
            self._channel.ask(Request.OPEN, write_cbor(how), snapshot.size_bytes, area.size, descriptor)
        self._receive(0)

    def _options(self) -> dict[str, Any]:
        """Further options of the worker's instance."""
        return {}

    def _broke(self, error: ClocheError) -> None:
        """The guest has broken. The worker lives, and still has what it knows of it."""

    @property
    def name(self) -> str:
        """The node's name."""
        return self._channel.name

    @name.setter
    def name(self, name: str) -> None:
        self._channel.name = self.host.node = name
        with self._entered():
            self._channel.send(Request.RENAME, name.encode(errors="replace"))

    @property
    def memory_bytes(self) -> int:
        """Size of the guest's linear memory after the last call, according to the worker; 0 once closed."""
        return 0 if self.closed else self._memory_bytes

    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        self._check_open()
        self.host.calls += 1
        self._began = time.perf_counter()
        if self._router is not None:
            self.host.begin()
            endless = self._limit_s is None or math.isinf(self._limit_s)
            self.host.deadline = None if endless else time.monotonic() + self._limit_s * max(1, self._channel.items)  # type: ignore[operator]  # it has an end
        self.last_fuel = self._told = self._spent_ns = 0
        self._ran_under = self._limited_by, self._limit_s
        codec, channel = self._codec, self._channel
        self._remote_memory.uses.clear()
        self._records = records = []
        try:
            frame = codec.encode([op, self.calls, *operands], root)
            self._live = (
                None if self.on_record is None else LiveRecords(self.on_record, self.limits.log_records, self.calls)
            )
            channel.call(frame, codec.bodies, self._remote_memory.uses, b=0 if self._live is None else LIVE)
            received = self._receive(self._most)
            if received.records or received.dropped or self._live is not None:
                self._records = records = self._parse(received)
            self._remote_memory.ranges = received.ranges
            try:
                reply = codec.decode(received.frame, lease=self.lease)
            except REFUSED as error:
                reply = error
            channel.tidy()
        except BrokenInstanceError as error:
            records = records or self._rest()
            if records and not error.last_logs:
                error.last_logs = tuple(records)
                self._on_records(records, self.name)
            if not self.closed:  # raised by the decoder, or while sending
                error.node = self.name
                self._broke(error)
                self.close()
            raise
        except BaseException:
            self._interrupted()
            if rest := self._rest():
                self._on_records(rest, self.name)
            raise
        finally:
            self._remote_memory.ranges = NO_RANGES
            self.fuel += self.last_fuel
            self._stop_clock()
        if records:
            self._on_records(records, self.name)
        return reply

    def _stop_clock(self) -> None:
        """Count the time of the call under way, if there is one."""
        if self._began:
            self._took_s = time.perf_counter() - self._began
            self._began = 0.0
            self.guest_seconds += self._took_s

    def share(self, length: int) -> memoryview:
        """See `Sandbox`. The buffer is shared memory, from which each call that refers to it is copied to the guest."""
        if length > self.limits.memory_bytes:  # before that much shared memory is made
            self._check_open()
            raise no_room(length, self._memory_bytes)
        with self._entered():
            area, descriptor = create(length, exact=True)
            number = self._remote_memory.number()
            self._channel.ask(Request.SHARE, b"", length, number, descriptor)
            frame = self._receive(0).frame
            address = int.from_bytes(frame, "little")
            if len(frame) != 4 or not address:
                raise self._refused("SHARE was not answered with an address")
            self._remote_memory.add(number, area, address)
            return area.view

    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """See `Sandbox`."""
        with self._entered():
            return self._snapshot(info)

    def _snapshot(self, info: dict[str, Any]) -> Snapshot:
        self._channel.ask(Request.SNAPSHOT)
        frame = self._receive(self._most_of_state).frame
        if len(frame) < SNAPSHOT.size:
            raise self._refused("SNAPSHOT was not answered with one")
        memory, pages, masks, words, request = SNAPSHOT.unpack_from(frame)
        try:
            (outside,) = decode_record(frame[SNAPSHOT.size :])
            taken, _ = self._state(info, [memory, pages, masks, words, request, self.calls, outside], 0)
        except (ClocheError, ValueError) as error:
            raise self._refused(str(error)) from None
        self._channel.tidy()
        return taken

    @property
    def _most_of_state(self) -> int:
        """The largest number of bytes of a state's columns."""
        most = self.limits.memory_bytes
        return most + most // PAGE_BYTES * (4 + MASK_BYTES)

    def _state(self, info: dict[str, Any], about: Any, start: int) -> tuple[Snapshot, int]:
        """A state whose columns the worker has put into the shared memory.

        Args:
            info: the guest's description of the node.
            about: what the worker says of it: see `NodeServer`; untrusted.
            start: where its columns begin.

        Returns:
            the state, and where its columns end.

        Raises:
            ClocheError: the worker has sent none.
            ValueError: likewise.
        """
        match about:
            case [int(memory), int(pages), int(masks), int(words), int(request), int(calls), dict(outside)]:
                pass
            case _:
                raise ValueError("a state is [sizes, request, calls, outside]")
        view = self._channel.area.view if self._channel.area is not None else memoryview(b"")
        ends = (start, start + pages, start + pages + masks, start + pages + masks + words)
        if (
            memory > self.limits.memory_bytes
            or min(memory, pages, masks, words, request, calls) < 0
            or ends[-1] > len(view)
        ):
            raise ValueError(f"a state of {ends[-1] - start} bytes of a memory of {memory}")
        runs, bits, content = (bytes(view[first:last]) for first, last in itertools.pairwise(ends))
        position = self.position if calls == self.calls else None
        image = self._process.image
        made = Snapshot(image, self.name, info, memory, runs, bits, content, request, calls, position, outside)
        return checked(made), ends[-1]

    @property
    def traffic(self) -> Codec:
        """See `CheckedSandbox`."""
        return self._codec

    def pay_from(self, account: int, left_ns: int | None) -> None:
        """See `CheckedSandbox`."""
        self._paid_since = self._process.processor_s, time.perf_counter()
        with self._entered():
            self._channel.send(Request.PAY, b"", 0 if left_ns is None else left_ns + 1)

    def unpaid_ns(self, here_ns: int) -> int:
        """See `CheckedSandbox`. The worker's own word counts between what its process has used, and the time that has passed.

        A process that has this node alone is measured from here: nothing that a guest could take over decides.
        """
        if self._paid_since is None:
            return here_ns
        before, since = self._paid_since
        passed = time.perf_counter() - since
        used = max(0.0, self._process.processor_s - before)
        spent = used if self._process.load <= 1 else min(self._spent_ns / 1e9, used, passed)
        return here_ns + round(1e9 * spent)

    def bound_memory(self, size: int) -> None:
        """See `CheckedSandbox`."""
        if size != self._most_bytes:
            with self._entered():
                self._channel.send(Request.BOUND, b"", size)
            self._most_bytes = size

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """See `Sandbox`."""
        if seconds is None:
            seconds, field = self.limits.deadline_s, "deadline_s"
        self._limited_by, self._limit_s = field, seconds
        self._channel.allow(field, seconds if field == GIVEN else getattr(self.limits, field), seconds)

    def expect_items(self, items: int) -> None:
        """See `Sandbox`."""
        self._channel.expect(items)

    @property
    def told(self) -> Stop | None:
        """See `CheckedSandbox`. According to the worker, which may lie."""
        return _TOLD[self._told]

    @property
    def serial(self) -> int:
        """See `CheckedSandbox`."""
        return self.calls

    def usage(self) -> CallUsage:
        """See `CheckedSandbox`. Called only for calls that have returned."""
        return CallUsage(
            Reason.NONE,
            seconds=self._took_s,
            limited_by=self._ran_under[0],
            limit_s=self._ran_under[1] or 0.0,
            fuel=self.last_fuel,
        )

    @property
    def private_bytes(self) -> int:
        """See `Sandbox`. According to the worker, which may lie: but not above the node's limit of memory."""
        return 0 if self.closed else min(self._process.private_bytes(self._channel.node), self.limits.memory_bytes)

    def where(self) -> tuple[FrameInfo, ...]:
        """See `Sandbox`. The worker reads them from its guest's memory, on another thread than the current call."""
        return () if self.closed else self._process.where(self._channel.node)

    def sample_apart(self, period_s: float) -> SampleSource:
        """See `Sandbox`."""
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        return self._process.sampler(self._channel.node, self.name, period_s)

    def fail(self, error: ProtocolError) -> ProtocolError:
        """See `CheckedSandbox`."""
        error.node, error.last_logs = self.name, tuple(self._records)
        self._broke(error)
        self.close()
        return error

    def cancel(self, serial: int = 0, number: int = 0) -> bool:
        """See `CheckedSandbox`. A serial number is the same as a number here."""
        number = serial or number or self.calls
        channel = self._channel
        pending = channel.pending
        if number != self.calls or not pending:  # compared after `pending` was read: so that is this call's
            return False
        self.host.cancel(number)
        self._process.cancel(channel.node, pending)
        return True

    def _check_open(self) -> None:
        if self._channel.pending:  # an interrupt came where no handler called `_interrupted`
            self._interrupted()
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")

    def _interrupted(self) -> None:
        """After an exception in the host: have the worker end the call that it interrupted. If that fails, close the instance."""
        channel = self._channel
        if not channel.pending:
            return
        if self.closed:  # `close` itself was interrupted
            self.close()
            return
        self._process.cancel(channel.node, channel.pending)
        try:
            settled = self._settle(time.monotonic() + self.limits.grace_s + _SETTLE_S)
        except (BrokenInstanceError, TimeoutError):
            settled = False
        if not settled:
            self.close()

    def _settle(self, until: float) -> bool:
        """Receive and drop the answer of a call that was cancelled.

        Args:
            until: time of `time.monotonic` at which waiting ends with a TimeoutError.

        Returns:
            whether the instance can be used further.
        """
        channel = self._channel
        while channel.turn is not Turn.UNKNOWN:
            if channel.turn is Turn.HOST:
                channel.call(self._notice(), self._codec.bodies, (), _ANSWER, StopReason.CANCELLED)
            received = channel.receive(self._most, until)
            if received.kind == _ASK:
                continue
            if received.kind == _RECORDS:
                self._take_live(received)
                continue
            if (received.records or received.dropped or self._live is not None) and (records := self._parse(received)):
                self._on_records(records, self.name)
            return received.kind != _FAILED or not self._rebuilt(received.frame)[1]
        return False

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Context of a request other than CALL: checks that the instance is open, and closes it if it breaks inside the block."""
        self._check_open()
        try:
            yield
        except BrokenInstanceError as error:
            self.close()
            self._note_break(error)
            raise
        except BaseException as error:
            self._interrupted()
            if self.closed:
                self._note_break(error)
            raise

    def _receive(self, most: int) -> Received:
        """Receive the answer to the pending request, answering the guest's requests meanwhile. Raises the error if it is FAILED."""
        error = None
        try:
            received = self._channel.receive(most)
            while received.kind in (_ASK, _RECORDS):
                if received.kind == _ASK:
                    self._answer(received)
                else:
                    self._take_live(received)
                received = self._channel.receive(most)
            self._memory_bytes = received.memory_bytes
            self.last_fuel, self._told, self._spent_ns = received.fuel, received.told, received.spent_ns
            if received.kind == _FAILED:
                error, closed = self._rebuilt(received.frame)
        except BrokenInstanceError:
            self.close()
            raise
        except BaseException:
            self._interrupted()
            raise
        if error is None:
            return received
        records = self._parse(received) if received.records or received.dropped or self._live is not None else []
        if isinstance(error, BrokenInstanceError):
            error.last_logs = tuple(records)
        if records:
            self._on_records(records, self.name)
        if closed:
            self._broke(error)
            self.close()
        raise error

    def _answer(self, received: Received) -> None:
        """Answer a request of the guest."""
        if self._router is None or self._is_overdue():
            raise self._channel.refuse("it asks for what it was not granted, or after its deadline")
        self._remote_memory.ranges = received.ranges
        self._remote_memory.uses.clear()
        try:
            frame = self._router.respond(received.frame)
        except Stopped:
            frame = self._notice()
        halt = StopReason.NONE
        if self.host.must_stop():
            halt = StopReason.CANCELLED if self.host.cancelled else StopReason.DEADLINE
        self._channel.call(frame, self._codec.bodies, self._remote_memory.uses, _ANSWER, halt)

    def _notice(self) -> bytes:
        """An answer that sends the guest to its notice: its call is to end."""
        return self._codec.encode([False, _EINTR], "answer")

    def _is_overdue(self) -> bool:
        until = self._channel.patience_s
        return until is not None and time.perf_counter() - self._began > until

    def _rebuilt(self, frame: bytes) -> tuple[ClocheError, bool]:
        try:
            return remote_errors.rebuild(frame, self.name)
        except ValueError as error:
            raise self._channel.refuse(str(error)) from None

    def _refused(self, what: str) -> ProtocolError:
        error = self._channel.refuse(what)
        self.close()
        return error

    def _take_live(self, received: Received) -> None:
        """Take the log records of a call that goes on."""
        if self._live is None or self._is_overdue():
            raise self._channel.refuse("it sends log records that nobody wants, or after its deadline")
        self._live.take(received.records, received.dropped)

    def _rest(self) -> list[LogRecord]:
        """The log records that came during a call whose end did not come: its worker has died."""
        live, self._live = self._live, None
        return live.end()[0] if live is not None else []

    def _parse(self, received: Received) -> list[LogRecord]:
        live, self._live = self._live, None
        if live is None:
            records, dropped = logs.collect(received.records, received.dropped, self.limits.log_records, self.calls)
        else:
            live.take(received.records, received.dropped)
            records, dropped = live.end()
        self.dropped_records += dropped
        return records

    def abandon(self) -> None:
        """See `Resident`."""
        self.closed = self._freed = True
        self._channel.close(keep=False)

    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`.

        Args:
            keep: True only if the guest is at rest: the worker may then use its memory for another guest.
        """
        if self._freed:
            return
        self.closed = True
        self._stop_clock()
        self._note_end()
        self._process.leave(self, self._channel)
        self._channel.close(keep=keep and not self._channel.pending)
        if hasattr(self, "_remote_memory"):
            self._remote_memory.buffers.clear()
        if self._router is not None:
            self._router.close()
            self.host.router = None
        if self._on_close is not None:
            self._on_close(self._process)
        self._freed = True  # last: the next `close`, or `__del__`, completes an interrupted one

    def __del__(self) -> None:
        if hasattr(self, "_channel"):
            self.close()


class RecordedRemoteInstance(ReportsFailures, RemoteInstance):
    """A sandbox with a guest in a worker process, which records it there. What it sends of the recording is as hostile as a file.

    Args:
        recorder: the node's.
        process: see `RemoteInstance`, as the others.

    Attributes:
        recorder: the argument of that name.
        info: the guest's description of the node; None: it is being loaded.
        is_granted: whether the guest may make requests.
    """

    def __init__(
        self,
        recorder: Recorder,
        process: Process,
        limits: Limits,
        host: CallState,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        handlers: Sequence[RequestHandler] = (),
        on_close: Callable[[Process], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self.info: dict[str, Any] | None = None if snapshot is None else snapshot.info
        self.is_granted = bool(handlers)
        self._end = ""
        self._most_of_events = _FULL * recorder.tape.most_bytes + _BUFFERS
        self.kept_bytes = 2 * self._most_of_events
        super().__init__(process, limits, host, on_records, snapshot, handlers, on_close)

    def _options(self) -> dict[str, Any]:
        return {"record": [self.recorder.tape.most_calls, self.recorder.tape.most_bytes]}

    @property
    def recorded(self) -> RecordedRemoteInstance:
        """See `Sandbox`."""
        return self

    def begin(self, info: dict[str, Any]) -> None:
        """See `Recorded`."""
        self.info = info
        with self._entered():
            self._channel.ask(Request.LOADED)
            self._receive(0)

    def _broke(self, error: ClocheError) -> None:
        """See `RemoteInstance`."""
        self._end = type(error).__name__
        self.recorder.failed(self, error)

    def kept(self) -> Kept:
        """See `Recorded`."""
        if self.closed:
            raise ClocheError("its worker process has ended, and what it had recorded with it")
        with self._entered():
            return self._kept()

    def _kept(self) -> Kept:
        channel, most = self._channel, 2 * self._most_of_state + self._most_of_events
        channel.ask(Request.RECORDING, b"", most)
        received = channel.receive(most, time.monotonic() + _KEPT_S)
        if received.kind == _FAILED:
            raise self._rebuilt(received.frame)[0]
        try:
            match decode_record(received.frame):
                case [bool(is_first), before, now, int(length)] if received.kind == Answer.DONE:
                    kept = self._taken(is_first, before, now, length)
                case _:
                    raise ValueError("RECORDING was not answered with one")
        except (ClocheError, ValueError) as error:
            raise self._refused(str(error)) from None
        channel.tidy()
        return kept

    def _taken(self, is_first: bool, before: Any, now: Any, length: int) -> Kept:
        info, at = self.info or {}, 0
        states: list[Snapshot | None] = []
        for about in (before, now):
            state = None
            if about is not None:
                state, at = self._state(info, about, at)
            states.append(state)
        view = self._channel.area.view if self._channel.area is not None else memoryview(b"")
        if not 0 <= length <= min(len(view) - at, self._most_of_events):
            raise ValueError(f"{length} bytes of events")
        events = unpacked(bytes(view[at : at + length]), _UNPACKED_BYTES)
        if self._end:  # perhaps found by the host: the worker then takes the guest for whole
            states[1] = None
            if events and events[-1][0] == ENDED and not events[-1][5]:
                events[-1] = (*events[-1][:5], self._end, *events[-1][6:])
        return Kept(states[0], tuple(events), states[1], is_first)


class WatchedRemoteInstance(Watched, RemoteInstance):
    """A watched sandbox with a guest in a worker process."""

    codec = CountedRemoteCodec


class WatchedRecordedRemoteInstance(Watched, RecordedRemoteInstance):
    """A watched sandbox with a guest in a worker process, which records it."""

    codec = CountedRemoteCodec
