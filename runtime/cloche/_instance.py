"""One store with one instance of the image: enters the guest, and decides what a return, a trap or a stop means."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloche import _ffi, _logs, _stack
from cloche._asks import GuestAsks
from cloche._broken import Spent, reason, with_data
from cloche._codec import Codec, TooCostly, costly_reply
from cloche._guard import GuardedHost
from cloche._host import Host, Hosted
from cloche._services import ServiceDesk
from cloche._snapshot import Snapshot
from cloche.errors import ClosedError, ProtocolError
from cloche_wire import Op, Reply, abi

if TYPE_CHECKING:
    from cloche._asks import Desk
    from cloche._engine import Engine
    from cloche._stream import StreamPosition
    from cloche.limits import Limits

__all__ = ["Instance"]

_REPLIES: Final = tuple(Reply)
_ENDLESS_FUEL: Final = (1 << 63) - 1
_U32: Final = 0xFFFF_FFFF


class Instance(Hosted):
    """A guest at rest or under way; not thread-safe: its `Node` lets in one call at a time.

    Args:
        engine: what to instantiate.
        limits: what the guest may use.
        host: the outside as the guest sees it; or the node's name, for errors and logs.
        on_records: takes the records drained after each call, and the name.
        snapshot: a state to take over; None: as the image has it.
        desks: who answers what the guest asks; they are closed with the instance.
    """

    __slots__ = (
        "__weakref__",
        "_cell",
        "_codec",
        "_deadline_s",
        "_engine",
        "_fuelled",
        "_given_fuel",
        "_hurry",
        "_key",
        "_memory",
        "_node_call",
        "_on_records",
        "_request",
        "_store",
        "closed",
        "dropped_records",
        "fuel",
        "guest_seconds",
        "host",
        "last_fuel",
        "lease",
        "limits",
        "services",
    )

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        host: Host | str,
        on_records: Callable[[list[_logs.LogRecord], str], None],
        snapshot: Snapshot | None = None,
        desks: Sequence[Desk] = (),
    ) -> None:
        self._engine = engine
        self.limits = limits
        self._on_records = on_records
        self._deadline_s = limits.deadline_s
        self._hurry: float | None = None
        self._fuelled = engine.metering == "fuel"
        self._given_fuel = 0
        self.fuel = self.last_fuel = 0
        self.dropped_records = 0
        self.guest_seconds = 0.0
        self.closed = False
        self.lease = False
        self.services = ServiceDesk.among(desks)
        self.host = engine.host(host) if isinstance(host, str) else host
        engine.handlers.ensure()
        if limits.memory_bytes < engine.image_bytes:
            raise ValueError(
                f"Limits.memory_bytes is {limits.memory_bytes}: the interpreter alone takes {engine.image_bytes}, give more"
            )
        self._cell = cell = engine.cells.take()
        self._store = cell.store
        self._node_call = cell.node_call
        self._store.set_limits(memory_size=limits.memory_bytes)
        self._key = _ffi.bind(self._store, self.host, engine.metering == "epoch")
        try:
            if self._fuelled:
                self._store.set_fuel(_ENDLESS_FUEL)
            self._memory = cell.view()
            if cell.guard is not None and isinstance(self.host, GuardedHost):
                cell.guard.watch(self._memory, limits.memory_bytes)
                self.host.guard = cell.guard
            self._codec = Codec(
                limits,
                self._memory.place,
                partial(self._memory.view, limit=limits.reply_bytes),
                self._memory.free,
                self._memory.shared,
                partial(self._memory.pin, limit=limits.reply_bytes),
            )
            if desks:
                self.host.asks = GuestAsks(self._memory, self._codec, limits, desks)
            if snapshot is None:
                self._request = self._memory.allocate(abi.REQUEST_BUFFER_BYTES)
            else:
                self._memory.grow_to(snapshot.memory_bytes)
                self._memory.overwrite(snapshot.runs, snapshot.pages)
                self._request = self._memory.checked(snapshot.request, abi.REQUEST_BUFFER_BYTES)
                self.host.calls = snapshot.calls
        except BaseException:
            self.close()
            raise

    @property
    def memory_bytes(self) -> int:
        """Size of the guest's linear memory; 0 once closed."""
        return 0 if self.closed else self._memory.size

    def exchange(self, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """Send one message and return the reply: kind and value. Logs are drained in every case.

        Args:
            op: a number of `cloche_wire.Op`.
            operands: what the message carries.
            root: what to call the operands in an `EncodeError`'s path.

        Raises:
            EncodeError: an operand cannot be sent; the guest was not entered.
            BrokenInstanceError: the guest was stopped, trapped, exited or broke the protocol; the instance is closed.
        """
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        if not _stack.sufficient():
            return _stack.run(lambda: self.exchange(op, operands, root))
        self._engine.handlers.ensure()
        host, watchdog = self.host, self._engine.watchdog
        host.calls += 1
        host.begin()
        if self._deadline_s is not None:
            watchdog.arm(host, self._deadline_s)
        if self._fuelled:
            self._refuel()
        began = time.perf_counter()
        codec = self._codec
        costly: TooCostly | None = None
        try:
            reply = codec.decode(self._enter(codec.encode([op, host.calls, *operands], root)), lease=self.lease)
        except TooCostly as error:
            costly, reply = error, costly_reply(error)
        except _ffi.Trapped as trapped:
            broken = with_data(self._broken(trapped, time.perf_counter() - began), op, operands)
            raise broken from broken.__cause__
        except ProtocolError as error:
            with_data(self.fail(error), op, operands)
            raise
        except BaseException as error:
            if (
                not isinstance(error, Exception) and not self._cell.at_rest
            ):  # KeyboardInterrupt, just as the guest was stopped
                self._end(error)
            raise
        finally:
            if self._deadline_s is not None:
                watchdog.disarm(host)
            self.guest_seconds += time.perf_counter() - began
            if self._fuelled:
                self._count_fuel()
        if self._memory.has_records:
            self._drain()
        if costly is not None and Op.STREAM_OPEN <= op < Op.STREAM_CLOSE:
            self.exchange(Op.STREAM_CLOSE, [], "")  # a failure ends a stream; this guest does not know that it failed
        if type(reply) is list and len(reply) == 2 and type(reply[0]) is int and 0 <= reply[0] < len(_REPLIES):
            return _REPLIES[reply[0]], reply[1]
        raise with_data(self.fail(ProtocolError("a reply is [kind, value]")), op, operands)

    def _enter(self, frame: bytes) -> bytes:
        length = len(frame)
        memory, limits = self._memory, self.limits
        address = self._request if length <= abi.REQUEST_BUFFER_BYTES else memory.allocate(length)
        memory.write(address, frame)
        depth = limits.value_depth | abi.HOLD_REPLY if self.lease else limits.value_depth
        packed = self._node_call.four(address, length, limits.value_nodes, depth)
        if address != self._request:
            memory.free(address)
        start, size = packed >> 32 & _U32, packed & _U32
        if not start:
            if size == abi.REPLY_INVALID:
                raise ProtocolError(f"the reply is not well-formed, or passes value_depth={limits.value_depth}")
            raise ProtocolError("the guest could not make a reply")
        return memory.read(start, size, limits.reply_bytes)

    def share(self, length: int) -> memoryview:
        """A buffer of guest memory for the host to fill. Raises as `exchange` does."""
        self.host.begin()
        if self._deadline_s is not None:
            self._engine.watchdog.arm(self.host, self._deadline_s)
        if self._fuelled:
            self._refuel()
        began = time.perf_counter()
        try:
            return self._memory.share(length)
        except _ffi.Trapped as trapped:
            raise self._broken(trapped, time.perf_counter() - began) from None
        finally:
            self._engine.watchdog.disarm(self.host)

    def hurry(self, seconds: float | None) -> None:
        """Bound the next calls by what ``stream_s`` has left; None: by ``deadline_s`` again."""
        self._hurry = seconds
        self._deadline_s = self.limits.deadline_s if seconds is None else seconds

    def _refuel(self) -> None:
        limit = self.limits.fuel
        self._given_fuel = _ENDLESS_FUEL if limit is None else limit
        self._store.set_fuel(self._given_fuel)

    def _count_fuel(self) -> None:
        """Add what the call has burned, once."""
        if self._given_fuel:
            self.last_fuel = self._given_fuel - self._store.get_fuel()
            self.fuel += self.last_fuel
            self._given_fuel = 0

    def snapshot(self, info: dict[str, Any], stream: StreamPosition | None = None) -> Snapshot:
        """The state at rest, copied out.

        Args:
            info: as `Node.info`.
            stream: where the stream is that the node has open.
        """
        memory = self._memory
        runs = memory.dirty_runs()
        pages, host = memory.save(runs), self.host
        return Snapshot(
            self._engine.image,
            host.node,
            info,
            memory.size,
            tuple(runs),
            pages,
            self._request,
            host.calls,
            stream,
            host.state,
        )

    def cancel(self) -> None:
        """Stop the call under way, from another thread. It ends with `Cancelled`."""
        self._engine.watchdog.cancel(self.host)

    def _drain(self) -> list[_logs.LogRecord]:
        """Take the guest's log records and hand them on, the newest `log_records` of them."""
        frames, dropped = self._memory.drain()
        records, dropped = _logs.collect(frames, dropped, self.limits.log_records, self.calls)
        self.dropped_records += dropped
        self._on_records(records, self.name)
        return records

    def _end(self, cause: BaseException) -> list[_logs.LogRecord]:
        """The instance is beyond use: save its logs, free its memory now rather than at some garbage collection."""
        if self._fuelled:
            self._count_fuel()
        try:
            return self._drain()
        except Exception as error:  # the logger's own: it must not hide why the guest broke
            cause.add_note(f"and its log records could not be delivered: {error!r}")
            return []
        finally:
            self.close()

    def _broken(self, trapped: _ffi.Trapped, seconds: float) -> BaseException:
        stop = self.host.stop  # now: the deadline may come while a logger takes its time
        logs = self._end(trapped)
        stream_s = None if self._hurry is None else (self.limits.stream_s or 0.0) - self._hurry
        spent = Spent(seconds, self.last_fuel, stream_s)
        return reason(trapped, stop, self.host, self.limits, spent, self.name, logs)

    def fail(self, error: ProtocolError) -> ProtocolError:
        """End it because the guest broke the protocol; the error, complete."""
        error.node = self.name
        error.last_logs = tuple(self._end(error))
        return error

    def close(self, *, keep: bool = False) -> None:
        """End it; further calls raise ClosedError. Its memory is freed at once, unless a view of it still lives.

        Args:
            keep: the guest is at rest: its cell may be made pristine and used for the next one.
        """
        if self.closed:
            return
        self.closed = True
        _ffi.unbind(self._key)
        if self.host.asks is not None:
            self.host.asks.close()
            self.host.asks = None
        if self._cell.guard is not None:
            self._cell.guard.forget()
        pinned = kept = False
        if hasattr(self, "_memory"):
            pinned = self._memory.is_pinned
            kept = keep and not pinned and self._engine.cells.give_back(self._cell, self._memory)
            self._memory.close()
        if not pinned and not kept:  # the last view that lives frees a pinned one
            self._store.close()

    def __del__(self) -> None:
        if hasattr(self, "_key"):
            self.close()
