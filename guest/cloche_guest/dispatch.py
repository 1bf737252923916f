"""`Guest`: takes the host's messages and returns replies. Runs natively as well, since all else it needs is a `Host`."""

from __future__ import annotations

import operator
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cloche_guest import Interrupted, entry, modules, opaque
from cloche_guest.failure import describe, type_name
from cloche_guest.logs import Logs
from cloche_guest.loop import Loop
from cloche_guest.node import PLAIN, Node, settle
from cloche_guest.reseed import reseed
from cloche_guest.stream import END, Stream
from cloche_guest.streams import Streams
from cloche_wire.messages import Op, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche_guest._host import Host
    from cloche_guest.coverage import Coverage
    from cloche_guest.debugging import Debugger
    from cloche_guest.profile import Profiler

_Reply = tuple[int, Any]

RESULT: Final = int(Reply.RESULT)
FAILURE: Final = int(Reply.FAILURE)
_PROCESS: Final = int(Op.PROCESS)
_STREAM_OPEN: Final = int(Op.STREAM_OPEN)
_STREAM_FEED: Final = int(Op.STREAM_FEED)
_STREAM_NEXT: Final = int(Op.STREAM_NEXT)
_CALL: Final = int(Op.CALL)
_STREAM_BATCH: Final = int(Op.STREAM_BATCH)
_STREAM_TAKE: Final = int(Op.STREAM_TAKE)
_DEBUG: Final = int(Op.DEBUG)
_APART: Final = frozenset({_CALL, _STREAM_BATCH, _STREAM_TAKE, _DEBUG})
"""Operations above STREAM_OPEN whose failure does not end a stream, but for an item that fails in a batch."""
_MOST_NAMES: Final = 2000
"""Modules without compiled code that the reply to LOAD names at most."""
_NAME_BYTES, _ROOM_NAMES = 1000, 50
"""What each of them may take, and what the rest of the reply takes, as a number of names."""
_AMPLE: Final = 4096, 16 << 20, 16
"""Limits value_nodes, reply_bytes and value_depth into which every failure fits."""
_LIFECYCLE: Final = frozenset({"initialize", "flush", "cleanup"})


class Guest:
    """One guest, which holds at most one node and at most one open stream.

    Args:
        host: functions of the host.

    Attributes:
        host: functions of the host.
        logs: logging of the guest, to be installed.
        streams: standard streams of the guest, to be installed.
        loop: event loop on which the node's coroutines run.
        imports: what LOAD has made importable; None before.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.streams = Streams(host)
        self.logs = Logs(host, (self.streams.stdout, self.streams.stderr))
        self.loop = Loop()
        self.loop.stays_open = True
        self.imports: modules.Imports | None = None
        self._unfinished = self.streams.unfinished
        self._node: Node | None = None
        self._call: Any = _not_loaded
        self._stream: Stream | None = None
        self._batched: Stream | None = None
        self._max_items = 1_000_000
        self._room: tuple[int, int, int] | None = None
        self._profiler: Profiler | None = None
        self._debugger: Debugger | None = None
        self._coverage: Coverage | None = None
        self._phase = "call"
        self._op = 0

    def handle(self, message: Sequence[Any]) -> _Reply:
        """Execute one message ``[op, call, *operands]``, and return the reply. Exceptions of the node become a FAILURE.

        Raises nothing but an `Interrupted` that arrives between the handlers, which the shim passes to `fail`.
        """
        self._op = op = message[0]
        loop = self.loop
        loop.call_number = message[1]
        try:
            if op == _PROCESS:
                result = self._call(message[2]) if len(message) == 3 else self._call(*message[2:])
                if type(result) not in PLAIN:
                    result = settle(result, loop, self._max_items)
                reply = RESULT, result
            elif op == _STREAM_FEED and self._stream is not None:
                reply = self._stream.feed(message[2])
            elif op == _STREAM_NEXT and self._stream is not None:
                reply = self._stream.next()
            elif op == _STREAM_BATCH and self._stream is not None:
                self._batched = stream = self._stream
                reply = stream.batch(message[1], *message[2])
                if stream.ended:
                    self._stream = None
            elif op == _CALL:
                result = self._loaded().callable(message[2])(*message[3], **message[4])
                reply = RESULT, settle(result, loop, self._max_items)
            elif op >= _STREAM_OPEN and op != _DEBUG:
                reply = self._handle_stream(op, message)
            else:
                reply = RESULT, self._handle_other(op, message)
            if reply is END:
                self._stream = None
            if loop._ready or loop._scheduled:
                loop.tick()
        except BaseException as exc:  # even SystemExit, with which a node must not end the guest
            try:
                reply = self.fail(exc, self._phase)
            except Interrupted as later:
                reply = self.fail(later, "call", last=True)
        if self._unfinished:
            self.streams.finish()
        return reply

    def fail(self, exc: BaseException, phase: str, op: int = -1, last: bool = False) -> _Reply:
        """Make the reply for an exception. The shim calls this too, for exceptions raised outside of `handle`.

        If the message belonged to a stream, the stream is closed: a failure ends it. After a batch, a node that works item by item
        goes on with the next item; and a batch whose outcomes cannot be encoded together can be taken apart (STREAM_TAKE).

        Args:
            exc: the exception.
            phase: what the guest was doing, see `cloche_wire.failure.Failure`.
            op: operation of the message; -1: operation of the last message of `handle`.
            last: whether this is the last attempt, because `exc` was raised by an earlier call of this method.

        Raises:
            Interrupted: the host interrupted the description of `exc`, and this is not the last attempt.
        """
        self._phase = "call"
        failed = self._op if op < 0 else op
        stream, batched = self._stream, self._batched
        in_batch = failed == _STREAM_BATCH and batched is not None and batched.in_batch
        if stream is not None and (in_batch or (failed >= _STREAM_OPEN and failed not in _APART)):
            try:
                stream.close()
            except BaseException as later:  # the first exception is reported, this one only noted
                with suppress(Exception):  # __notes__ can be anything
                    exc.add_note(f"closing the stream raised as well: {type_name(later)}")
            if not (in_batch and stream.goes_on):
                self._stream = None
        failure = describe(exc, phase, last=last)
        if self._room is not None:
            failure = failure.fitted(*self._room)
        if in_batch and batched is not None:
            return batched.fail_item(failure.to_wire())
        return FAILURE, failure.to_wire()

    def recover(self) -> None:
        """Restore a consistent state after an interrupted call: `Interrupted` can be raised between any two instructions."""
        self._phase = "call"
        self.loop.recover()

    def close(self) -> None:
        """Close an open stream and the event loop. Only needed natively, where the process outlives the guest.

        Raises:
            BaseException: a ``finally`` block of the node raised this.
        """
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                stream.close()
        finally:
            self.loop.finish()

    def _handle_stream(self, op: int, message: Sequence[Any]) -> _Reply:
        stream = self._stream
        if op == Op.STREAM_OPEN:
            if stream is not None:  # a reply and not an exception, which would close the open stream
                refused = RuntimeError("a stream is open on this node: close it first")
                return FAILURE, describe(refused, "call").to_wire()
            self._stream = stream = Stream(self._loaded(), self.loop, self.host, self._max_items)
            reply = stream.open(alone=len(message) > 2 and message[2])
        elif op == Op.STREAM_CLOSE:
            if stream is not None:
                self._close(stream)
            return RESULT, None
        elif op == _STREAM_TAKE:
            return self._taken(message[2], message[3])
        elif stream is None:
            raise RuntimeError("no stream is open on this node")
        elif op == Op.STREAM_END:
            reply = stream.end()
        elif op == Op.STREAM_THROW:
            reply = stream.throw(message[2], message[3])
        else:
            raise ValueError(f"unknown operation {op!r}")
        return reply

    def _taken(self, call: int, number: int) -> _Reply:
        """STREAM_TAKE: an outcome of the batch of that call."""
        batched = self._batched
        if batched is None or batched.batch_call != call:
            return RESULT, None
        if number < batched.worked_on:
            return RESULT, batched.outcome(number)
        if batched.failure is not None and number == batched.worked_on:
            return FAILURE, batched.failure
        return RESULT, batched.ended

    def _close(self, stream: Stream) -> None:
        try:
            stream.close()
        except Interrupted:
            raise  # `fail` then closes the rest of the stream
        except BaseException:
            self._stream = None
            raise
        self._stream = None

    def _handle_other(self, op: int, message: Sequence[Any]) -> Any:
        if op == Op.LOAD:
            return self._load(message[2])
        if op == Op.INVOKE:
            return self._invoke(message[2], message[3:])
        if op == Op.GET:
            return getattr(self._loaded().target, message[2])
        if op == Op.RESEED:
            self._profile("stop")  # this instance can be a clone of one that was being profiled
            self._debug("stop")
            self._cover("uncover")
            return reseed(message[2])
        if op == Op.PROFILE:
            return self._profile(*message[2:])
        if op == _DEBUG:
            return self._debug(*message[2:])
        raise ValueError(f"unknown operation {op!r}")

    def _invoke(self, name: str, arguments: Sequence[Any]) -> Any:
        method = self._loaded().method(name)
        if method is None:
            if name in _LIFECYCLE:
                return None
            raise AttributeError(f"{self._loaded().entry} has no method {name!r}")
        return settle(method(*arguments), self.loop, self._max_items)

    def _profile(self, action: str, wanted: Any = True) -> Any:
        """What a message PROFILE asks for, see docs/reference/wire.md.

        Args:
            action: what to do.
            wanted: of "start": whether to count calls into C; of "cover": names of files.
        """
        if "cover" in action:
            return self._cover(action, wanted)
        running = self._profiler
        if action == "take":
            if running is None:
                raise RuntimeError("nothing is being profiled")
            return running.tree.take()
        if running is not None:
            running.stop()
            self._profiler = None
        if action == "start":
            from cloche_guest.profile import Profiler

            self._profiler = Profiler(wanted)
            return self._profiler.cost
        return None

    def _debug(self, action: str, *operands: Any) -> Any:
        running = self._debugger
        if action in ("start", "stop"):
            if running is not None:
                running.stop()
                self._debugger = None
            if action == "stop":
                return None
            from cloche_guest.debugging import Debugger

            self._debugger = Debugger(self.host, *operands)
            return self._debugger.placed
        if running is None:
            raise RuntimeError("nothing is being debugged")
        return running.command(action, *operands)

    def _cover(self, action: str, files: Any = ()) -> Any:
        covering = self._coverage
        if action == "covered":
            if covering is None:
                raise RuntimeError("no lines are being noted")
            return covering.take()
        if covering is not None:
            covering.stop()
            self._coverage = None
        if action == "cover":
            from cloche_guest.coverage import Coverage

            self._coverage = Coverage(files)
        return None

    def _loaded(self) -> Node:
        if self._node is None:
            raise RuntimeError("no node is loaded")
        return self._node

    def _load(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if self._node is not None:
            raise RuntimeError("a node is loaded: an instance holds one")
        limits = wanted["limits"]
        self._max_items = limits["value_nodes"]
        room = limits["value_nodes"], limits["reply_bytes"], limits["value_depth"]
        self._room = room if any(map(operator.lt, room, _AMPLE)) else None
        self.host.configure(
            *(limits[name] for name in ("reply_bytes", "output_bytes", "value_nodes", "value_depth", "stack_depth"))
        )
        self.logs.configure(wanted["log_level"], limits["log_bytes"])
        self.streams.configure(wanted["log_level"], limits["log_bytes"])
        if "scratch_bytes" in wanted:
            self.host.scratch(wanted["scratch_bytes"])
        reseed(wanted["seed"])
        if "env" in wanted:
            os.environ.update(wanted["env"])

        self._phase = "import"
        imports = self.imports = modules.Imports(self.host, wanted)
        imports.install()
        self.logs.show_warnings_of(imports.main)
        try:
            imports.load()
        except SyntaxError as exc:
            if imports.is_own(exc.filename):
                self._phase = "compile"
            raise

        if wanted.get("opaque"):
            opaque.grant(imports.own_modules())
        self._phase = "entry"
        target = entry.find(sys.modules[imports.main], wanted["entry"])
        self._phase = "init"
        built = entry.build(target, wanted["params"], wanted["session_id"])
        node = Node(built, getattr(target, "__qualname__", type(target).__qualname__))
        self._phase = "call"
        self._node, self._call = node, node.call
        described = node.describe()
        # as many names as surely fit the reply
        room = min(_MOST_NAMES, limits["value_nodes"] - _ROOM_NAMES, limits["reply_bytes"] // _NAME_BYTES - _ROOM_NAMES)
        if uncompiled := imports.uncompiled(room):
            described["uncompiled"] = uncompiled
        return described


def _not_loaded(*_: object) -> Any:
    raise RuntimeError("no node is loaded")
