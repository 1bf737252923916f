"""`Instance`: the sandbox whose guest runs in this process. Sends it messages, answers its requests, and ends it when it breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from ctypes import ArgumentError
from functools import partial
from math import isinf
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cloche._codec import REFUSED, Codec
from cloche._records import LogRecord
from cloche._requests import Debugged, DebugRouter, GuestRequestRouter, ServiceHandler
from cloche._sandbox import logs as _logs
from cloche._sandbox.difference import Base, Difference
from cloche._sandbox.live import LiveRecords
from cloche._sandbox.replies import CheckedSandbox
from cloche._sandbox.snapshot import Snapshot
from cloche._sandbox.termination import CallUsage, termination_error
from cloche._wasm import CallState, Memory, Reason, State, Status, Stop, Stopped, Trapped, Word, clocks, python_frames
from cloche._wasm.core import core
from cloche.errors import ClocheError, ClosedError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from cloche._requests import DebugHandler, RequestHandler
    from cloche._sandbox.interface import Observer
    from cloche._wasm import Engine, FrameInfo
    from cloche.limits import Limits
    from cloche_wire import Reply

__all__ = ["Instance"]

T = TypeVar("T")

_ENDLESS_FUEL: Final = (1 << 63) - 1
_U32: Final = 0xFFFF_FFFF
_POLL_NS: Final = 50_000_000
"""Interval at which a guest that computes returns to Python for pending signals (Ctrl-C). Each return takes some microseconds."""

# plain numbers, because an attribute of an enum costs as much time as reading a word
_STATE, _RESULT, _RECORDS, _TOOK_NS = int(Word.STATE), int(Word.RESULT), int(Word.RECORDS), int(Word.TOOK_NS)
_POLLS, _TRAPPED = int(Status.POLLS), int(Status.TRAPPED)
_WAITS: Final = frozenset({int(Status.ASKS), _POLLS})
_CANCELLED = int(Reason.CANCELLED)
_AT_REST, _WAITING, _BROKEN = int(State.AT_REST), int(State.WAITING), int(State.BROKEN)
_TOLD: Final = {
    int(Reason.NONE): None,
    int(Reason.DEADLINE): Stop.DEADLINE,
    int(Reason.CANCELLED): Stop.CANCELLED,
    int(Reason.BUDGET): Stop.BUDGET,
}


def _in_phase(observer: Observer, name: str, after: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in the phase `name`, then enter the phase `after`."""
    observer.phase(name)
    try:
        return function(*arguments)
    finally:
        observer.phase(after)


def _drop(_records: list[LogRecord], _node: str) -> None:
    """Deliver log records to nobody."""


class Instance(CheckedSandbox):
    """A sandbox with a guest in this process. Not thread-safe: `NodeCalls` lets in one call at a time.

    Args:
        engine: engine with the image to instantiate.
        limits: the node's limits.
        host: the state of the node's calls; or only the node's name, for errors and logs.
        on_records: called after each call that logged, with the log records and the node's name; it raises no `Exception`.
        snapshot: the state to begin with; None: the image's.
        handlers: answer the guest's requests; they are closed with the instance.

    Attributes:
        codec: the class of its codec.
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_call",
        "_codec",
        "_debugger",
        "_end_call",
        "_engine",
        "_fuelled",
        "_granted",
        "_handle",
        "_lease",
        "_live",
        "_memory",
        "_most_bytes",
        "_on_records",
        "_ran_under",
        "_slot",
        "_undebugged",
        "_words",
    )

    codec: type[Codec] = Codec

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        host: CallState | str,
        on_records: Callable[[list[LogRecord], str], None],
        snapshot: Snapshot | None = None,
        handlers: Sequence[RequestHandler] = (),
    ) -> None:
        self.closed = True  # for `__del__`, if the constructor raises before there is a slot
        self._engine = engine
        self.limits = limits
        self._on_records = on_records
        self._most_bytes = limits.memory_bytes
        self._fuelled = engine.metering == "fuel"
        self.fuel = self.last_fuel = 0
        self.dropped_records = 0
        self.guest_seconds = 0.0
        self._lease = False
        self.observer = self.watch = None
        self._live: LiveRecords | None = None
        self._debugger: Debugged | None = None
        self._granted = handlers
        self.on_record = None
        self.position = snapshot.stream if snapshot is not None else None
        self.services = ServiceHandler.among(handlers)
        self.host = CallState(host) if isinstance(host, str) else host
        if limits.memory_bytes < engine.image_bytes:
            raise ValueError(
                f"Limits.memory_bytes is {limits.memory_bytes}: the interpreter alone takes {engine.image_bytes}, give more"
            )
        self._call, self._end_call = core().call, core().end_call
        self._slot = slot = engine.stores.take()
        self._handle = slot.handle.value
        self._words = words = slot.words
        self._memory = Memory(slot)
        self.closed = False
        try:
            if status := core().limit_memory(self._handle, limits.memory_bytes):
                raise slot.failure(status)
            words[Word.FUEL] = _ENDLESS_FUEL
            words[Word.GRACE_NS] = round(limits.grace_s * 1e9)
            words[Word.POLL_NS] = _POLL_NS
            words[Word.MAX_NODES] = limits.value_nodes
            words[Word.MAX_DEPTH] = limits.value_depth
            words[Word.GRANTED] = bool(handlers)
            clocks.set_words(words, self.host.outside)
            self.limit_next_calls(None)
            self._ran_under = self._bound
            self._codec = self._codec_for(None)
            if handlers:
                self.host.router = self._router(handlers)
            if snapshot is None:
                words[Word.REQUEST_AT] = self._memory.allocate(abi.REQUEST_BUFFER_BYTES)
            else:
                self._memory.grow_to(snapshot.memory_bytes)
                for columns in snapshot.layers:
                    self._memory.patch(*columns)
                words[Word.REQUEST_AT] = self._memory.checked(snapshot.request, abi.REQUEST_BUFFER_BYTES)
                self.host.calls = snapshot.calls
            if self._fuelled:
                words[Word.FUEL] = _ENDLESS_FUEL if limits.fuel is None else limits.fuel
        except Trapped:
            raise self._broken() from None
        except BaseException:
            self.close()
            raise

    @property
    def memory_bytes(self) -> int:
        """Size of the guest's linear memory; 0 once closed."""
        return 0 if self.closed else self._memory.size

    @property
    def private_bytes(self) -> int:
        """See `Sandbox`."""
        size = 0 if self.closed else self._memory.private_bytes
        return 0 if self.closed else size  # checked last: once closed, the memory may belong to another node

    @property
    def told(self) -> Stop | None:
        """See `CheckedSandbox`."""
        return _TOLD.get(self._words[Word.TOLD])

    @property
    def serial(self) -> int:
        """See `CheckedSandbox`."""
        return int(self._words[Word.SERIAL])

    @property
    def lease(self) -> bool:
        """Whether large arrays of numbers arrive as views. While it is set, the guest keeps the memory of its replies."""
        return self._lease

    @lease.setter
    def lease(self, lease: bool) -> None:
        self._lease_replies(lease)

    def _lease_replies(self, lease: bool) -> None:
        self._lease = lease
        self._words[Word.MAX_DEPTH] = self.limits.value_depth | (abi.HOLD_REPLY if lease else 0)

    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        host, words, observer = self.host, self._words, self.observer
        if self.closed or words[_STATE] != _AT_REST:
            self._not_open()
        if words[_RECORDS] or self._live is not None:  # an interrupt has prevented that the last call delivered them
            self._drain()
        host.calls = number = host.calls + 1
        self._ran_under = self._bound
        if host.router is not None:
            host.begin()
            if self._debugger is not None and not self._debugger.is_inside:
                host.calls = number - 1
                return self._debugger.around(op, operands, root, partial(Instance._reply_to, self))
        try:
            if observer is not None:
                observer.phase("encode")
            frame = self._codec.encode(
                [op, number, *operands], root
            )  # before the deadline is armed: encoding is the host's time
            if observer is not None:
                observer.phase("guest")
            if self.on_record is not None:
                self._begin_live(self.on_record)
            status = self._call(self._handle, frame, len(frame))
            if status:
                self._not_done(status, len(frame))
            if observer is not None:
                observer.phase("")
            self.guest_seconds += words[_TOOK_NS] * 1e-9
            if self._fuelled:
                self._count_fuel()
            packed = words[_RESULT]
            start, size = packed >> 32, packed & _U32
            if not start:
                self._no_reply(size)
            if observer is not None:
                observer.phase("lift")
            frame = self._memory.read(start, size, self.limits.reply_bytes)
            if observer is not None:
                observer.phase("decode")
            reply = self._codec.decode(frame, lease=self._lease)
        except REFUSED as error:
            reply = error
        except Trapped:
            if observer is not None:
                observer.phase("")
            broken = self._broken()
            raise broken from broken.__cause__
        except ProtocolError as error:
            self.fail(error)
            raise
        except BaseException as error:
            if words[_STATE] == _WAITING:
                self._end_call(self._handle)  # here, because deeper calls may find no stack left
            self._let_go()
            if isinstance(error, ArgumentError):  # how ctypes reports the end of the stack
                raise RecursionError("maximum recursion depth exceeded") from None
            raise
        if words[_RECORDS] or self._live is not None:
            self._drain()
        return reply

    def aside(self, op: int, operands: Sequence[Any]) -> tuple[Reply, Any]:
        """See `Sandbox`."""
        words, observer = self._words, self.observer
        counted = self.host.calls, self.guest_seconds, self.fuel, self.last_fuel
        ended = words[Word.TOLD], words[_TOOK_NS]
        self.observer = None
        try:
            return CheckedSandbox.exchange(self, op, operands, "")  # not that of `Watched`: it is the host that asks
        finally:
            self.observer = observer
            self.host.calls, self.guest_seconds, self.fuel, self.last_fuel = counted
            if not self.closed:
                words[Word.TOLD], words[_TOOK_NS] = ended

    @property
    def tie(self) -> str:
        """See `Sandbox`."""
        return "it is being debugged: end that first" if self._debugger is not None else super().tie

    def observe(self, observer: Observer) -> None:
        """See `Sandbox`."""
        if self.observer is not None:
            raise ClocheError(f"node {self.name!r} is being recorded already")
        self.observer = observer  # first: if the rest is interrupted, `end_observation` knows whose it is
        self._codec = self._codec_for(observer)

    def end_observation(self, observer: Observer) -> None:
        """See `Sandbox`."""
        if self.observer is observer:
            self._codec = self._codec_for(None)
            self.observer = None  # last: what an interruption leaves undone is done by the next call

    def attach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`."""
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        if self._debugger is not None:
            raise ClocheError(f"node {self.name!r} is being debugged already")
        self._undebugged = self.host.router, int(self._words[Word.GRANTED])
        self._debugger = self.host.router = self._debug_router(debugger)
        if debugger.is_silent:
            self._on_records = _drop
        self._words[Word.GRANTED] = 1
        debugger.attached(self.host)

    def detach(self, debugger: DebugHandler) -> None:
        """See `Sandbox`."""
        if self.closed or self._debugger is None or self._debugger.debugger is not debugger:
            return
        self.host.router, self._words[Word.GRANTED] = self._undebugged
        self._debugger = None

    def _codec_for(self, observer: Observer | None) -> Codec:
        """A codec that reports copies into and out of guest memory to the observer.

        Answers to the guest's requests keep the codec without an observer: they are made while the phase is "guest".
        """
        memory, limit = self._memory, self.limits.reply_bytes
        place, free = memory.place, memory.free
        view, pin = partial(memory.view, limit=limit), partial(memory.pin, limit=limit)
        if observer is None:
            return self._new_codec(place, view, free, memory.shared, pin)
        lower, lift = partial(_in_phase, observer, "lower", "encode"), partial(_in_phase, observer, "lift", "decode")
        return self._new_codec(
            partial(lower, place),
            partial(lift, view),
            partial(lower, free),
            memory.shared,
            partial(lift, pin),
        )

    def _new_codec(self, place: Any, lift: Any, free: Any, shared: Any, pin: Any) -> Codec:
        """A codec with these functions, which are arguments of `Codec`."""
        return self.codec(self.limits, place, lift, free, shared, pin)

    def _debug_router(self, debugger: DebugHandler) -> Any:
        return DebugRouter(self._memory, self._codec, self.limits, self._granted, debugger)

    def _router(self, handlers: Sequence[RequestHandler]) -> GuestRequestRouter:
        return GuestRequestRouter(self._memory, self._codec, self.limits, handlers)

    def _not_open(self) -> None:
        """Raise ClosedError if the instance is closed; otherwise end a call that an exception has left unfinished.

        That happens when Python's stack is full: the handler that ends the call may then be unable to run.
        """
        if not self.closed:
            if self._words[_STATE] == _WAITING:
                self._end_call(self._handle)
            if self._words[_STATE] == _AT_REST:
                return
            if self._words[_STATE] == _BROKEN:
                self._end()
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")

    def _not_done(self, status: int, length: int) -> None:
        """Handle a status of `call` other than DONE: answer the guest's requests until it returns, or raise the error."""
        if status in _WAITS:
            status = self._serve(status)
        if not status:
            return
        if status == _TRAPPED:
            raise Trapped
        if status == Status.NO_ROOM:
            raise self._memory.no_room(length)
        if status == Status.REFUSED:
            raise ProtocolError("the guest's allocator gave a block outside of its memory")
        raise self._slot.failure(status)

    def _no_reply(self, why: int) -> None:
        if why == abi.REPLY_INVALID:
            raise ProtocolError(f"the reply is not well-formed, or passes value_depth={self.limits.value_depth}")
        raise ProtocolError("the guest could not make a reply")

    def _serve(self, status: int) -> int:
        """Answer the guest's requests until its call has ended. Returns the last status.

        Python code runs between two requests, so the handlers of signals are called here.
        """
        words, calls = self._words, core()
        self._set_deadline()
        while status in _WAITS:
            if status == _POLLS:
                if self._live is not None:
                    self._take_live()
                if self._debugger is not None and self._debugger.debugger.polls():
                    self._memory.want_pause()
                status = calls.go_on(self._handle)
                continue
            if words[Word.ITEMS]:
                self._set_deadline()
            answer = self._answer()
            if type(answer) is bytes:
                status = calls.answer(self._handle, answer, len(answer), 0)
                if status == Status.NO_ROOM:
                    answer = abi.ANSWER_NO_MEMORY
                elif status == Status.REFUSED:
                    raise ProtocolError("the guest's allocator gave a block outside of its memory")
                else:
                    continue
            status = calls.answer(self._handle, None, 0, answer)
        return status

    def _set_deadline(self) -> None:
        """Tell the handlers of requests until when they may take. An item of a batch may have all of its time before it."""
        words = self._words
        stop_at = words[Word.TELL_AT] or words[Word.STOP_AT]
        if stop_at and words[Word.ITEMS]:
            stop_at = max(stop_at, time.monotonic_ns() + words[Word.DEADLINE_NS])
        self.host.deadline = stop_at / 1e9 if stop_at else None

    def _answer(self) -> bytes | int:
        router = self.host.router
        if not isinstance(router, GuestRequestRouter):
            return abi.ANSWER_NONE
        try:
            answer = router.answer(self._words[Word.ADDRESS], self._words[Word.LENGTH])
            if (
                self._engine.metering == "none" and self.host.must_stop()
            ):  # without metering no timer interrupts the guest
                raise Stopped
            return answer
        except Stopped:
            why = Reason.CANCELLED if self.host.cancelled else Reason.DEADLINE
            core().cancel(self._handle, 0, int(why), 0)  # the guest expects a notice now, but the timer may be late
            return abi.ANSWER_INTERRUPTED

    def _let_go(self) -> None:
        """Clean up after an exception of the host's own code, which has ended the guest's call."""
        words = self._words
        if words[_STATE] == _BROKEN:
            self._end()
        elif (words[_RECORDS] or self._live is not None) and words[_STATE] == _AT_REST and not self.closed:
            self._drain()

    def share(self, length: int) -> memoryview:
        """See `Sandbox`."""
        try:
            return self._memory.share(length)
        except Trapped:
            broken = self._broken()
            self._note_break(broken)
            raise broken from None

    @property
    def traffic(self) -> Codec:
        """See `CheckedSandbox`."""
        return self._codec

    def pay_from(self, account: int, left_ns: int | None) -> None:
        """See `CheckedSandbox`."""
        if not self.closed:
            self._words[Word.ACCOUNT] = account

    def unpaid_ns(self, here_ns: int) -> int:
        """See `CheckedSandbox`."""
        return here_ns - int(self._words[Word.SPENT_NS]) if self._words[Word.ACCOUNT] else here_ns

    def bound_memory(self, size: int) -> None:
        """See `CheckedSandbox`."""
        if size != self._most_bytes and not self.closed and not core().limit_memory(self._handle, size):
            self._most_bytes = size

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """See `Sandbox`."""
        if seconds is None:
            seconds, field = self.limits.deadline_s, "deadline_s"
        nanoseconds = 0 if seconds is None or isinf(seconds) else max(1, round(seconds * 1e9))
        self._bound, self._words[Word.DEADLINE_NS] = (field, seconds or 0.0), nanoseconds

    def expect_items(self, items: int) -> None:
        """See `Sandbox`."""
        self._words[Word.ITEMS] = items

    def _count_fuel(self) -> None:
        self.last_fuel = int(self._words[Word.BURNED])
        self.fuel += self.last_fuel

    def snapshot(self, info: dict[str, Any]) -> Snapshot:
        """See `Sandbox`."""
        return self._taken(Snapshot, info, *self._memory.differences(self._engine.stores.pristine()))

    def difference(self, info: dict[str, Any], base: Base) -> Snapshot:
        """See `Sandbox`."""
        memory, of = self._memory, base.snapshot
        if of.image != self._engine.image or of.memory_bytes > memory.size:
            return self.snapshot(info)
        columns = memory.differences(base.memory(self._engine), of.pages)
        return self._taken(partial(Difference, base=base), info, *columns)

    def _taken(
        self, kind: Callable[..., Snapshot], info: dict[str, Any], pages: bytes, masks: bytes, words: bytes
    ) -> Snapshot:
        """A snapshot with these columns."""
        host = self.host
        return kind(
            image=self._engine.image,
            name=host.node,
            info=info,
            memory_bytes=self._memory.size,
            pages=pages,
            masks=masks,
            words=words,
            request=int(self._words[Word.REQUEST_AT]),
            calls=host.calls,
            stream=self.position,
            outside=clocks.state_of(self._words, host.outside),
        )

    def cancel(self, serial: int = 0, number: int = 0) -> bool:
        """See `CheckedSandbox`."""
        number = number or self.calls
        if core().cancel(self._handle, serial, _CANCELLED, 0) != Status.DONE:
            return False
        self.host.cancel(number)
        return True

    def skip_serial(self) -> None:
        """Leave out the next serial number, so that a cancel for it meets no call. The guest is at rest."""
        self._words[Word.SERIAL] += 1

    def where(self) -> tuple[FrameInfo, ...]:
        """See `Sandbox`."""
        frames = python_frames(self._slot, self._engine.layout)
        return () if self.closed else frames  # checked last: once closed, the slot may belong to another node

    def layout(self) -> dict[str, int]:
        """See `Sandbox`."""
        return self._engine.layout

    def sample(self, word: int) -> None:
        """See `Sandbox`."""
        words = self._words
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        if words[Word.SAMPLER]:
            raise ClocheError(f"node {self.name!r} is being sampled already")
        words[Word.SAMPLER] = word
        if self._words is not words:  # closed meanwhile: the slot may belong to another node
            self._end_sample(words, word)

    def end_sample(self, word: int) -> None:
        """See `Sandbox`."""
        self._end_sample(self._words, word)

    @staticmethod
    def _end_sample(words: Any, word: int) -> None:
        if words[Word.SAMPLER] == word:
            words[Word.SAMPLER] = 0

    def continue_from(self, other: CheckedSandbox) -> None:
        """See `CheckedSandbox`. What samples the other one samples this one as well."""
        super().continue_from(other)
        if isinstance(other, Instance):
            self._words[Word.SAMPLER] = other._words[Word.SAMPLER]  # noqa: SLF001  # of the same class

    def _drain(self) -> list[LogRecord]:
        """Take the guest's log records from its memory and deliver the newest, `Limits.log_records` at most."""
        observer = self.observer
        if observer is not None:
            observer.phase("logs")
        frames, dropped = self._taken_records()
        self._words[_RECORDS] = 0  # last: after an interrupt, the next call looks again before it begins
        live = self._end_live()
        if live is None:
            records, dropped = _logs.collect(frames, dropped, self.limits.log_records, self.calls)
        else:
            live.take(frames, dropped)
            records, dropped = live.end()
        self.dropped_records += dropped
        if records:
            self._on_records(records, self.name)
        if observer is not None:
            observer.phase("")
        return records

    def _begin_live(self, put: Callable[[LogRecord], object]) -> None:
        """Have the guest wait after each log record of this call until the host has taken it."""
        self._memory.want_live(True)
        self._live = LiveRecords(put, self.limits.log_records, self.calls)

    def _take_live(self) -> None:
        """Take log records while the guest waits."""
        assert self._live is not None  # the caller has looked
        self._live.take(*self._drained_live())

    def _drained_live(self) -> tuple[list[bytes], int]:
        """The log records in the guest's memory, and the number of lost ones."""
        return self._memory.drain()

    def _end_live(self) -> LiveRecords | None:
        """The live records of the call that has ended; None: they were not wanted live."""
        live, self._live = self._live, None
        if live is not None:
            self._memory.want_live(False)
        return live

    def _taken_records(self) -> tuple[list[bytes], int]:
        """The log records in the guest's memory, and the number of lost ones.

        After a break, lines that were flushed and not ended are among them: no call will end them.
        """
        frames, dropped = self._memory.drain()
        if self._words[_STATE] == _BROKEN:
            frames += self._memory.held()
        return frames, dropped

    def _end(self) -> list[LogRecord]:
        """Deliver the last log records and close the instance: its memory is freed now, not at some garbage collection."""
        if self.closed:
            return []
        try:
            return self._drain()
        finally:
            self.close()

    def _broken(self) -> BaseException:
        words = self._words
        if words[_STATE] != _BROKEN:  # an interrupt came before the core had ended the call
            core().abandon(self._handle)
        self.guest_seconds += words[_TOOK_NS] * 1e-9
        if self._fuelled:
            self._count_fuel()
        try:
            frames = self.where()
        except Exception:  # damaged memory must not hide why the guest was stopped
            frames = ()
        usage = self.usage(frames)
        return termination_error(usage, self.limits, self.name, self._end())

    def usage(self, frames: tuple[FrameInfo, ...] = ()) -> CallUsage:
        """See `CheckedSandbox`."""
        words = self._words
        return CallUsage(
            stopped=Reason(words[Word.STOPPED]),
            trap=self._trap_code(),
            message=self._slot.message(),
            exit_code=int(words[Word.EXIT_CODE]),
            seconds=words[_TOOK_NS] * 1e-9,
            fuel=self.last_fuel,
            limited_by=self._ran_under[0],
            limit_s=self._ran_under[1],
            frames=frames,
        )

    def _trap_code(self) -> str:
        from cloche._wasm import TRAP_CODES

        number = self._words[Word.TRAP_CODE]
        return TRAP_CODES[number] if number < len(TRAP_CODES) else ""

    def fail(self, error: ProtocolError) -> ProtocolError:
        """See `CheckedSandbox`."""
        if self._words[_STATE] == _WAITING:
            core().abandon(self._handle)
        error.node = self.name
        error.last_logs = tuple(self._end())
        return error

    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`. The guest's memory is freed at once, unless a view of it is still referenced.

        Args:
            keep: True only if the guest is at rest: its store may then be made pristine and used for another guest.
        """
        if self.closed:
            return
        self.closed = True
        try:
            if self.host.router is not None:
                self.host.router.close()
                self.host.router = None
        finally:
            self._note_end()
            # a copy, because the slot may now become another node's
            self._words = list(self._words)
            self._handle = 0
            memory = self._memory
            pinned = memory.is_pinned
            kept = keep and not pinned and self._engine.stores.release(self._slot, memory)
            memory.close()
            if not pinned and not kept:  # a pinned slot is closed with the last view of its memory
                self._slot.close()

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close()
