"""An instance that is no sandbox: the guest's own dispatch in this process. `cloche.testing` makes nodes of it.

Values cross it as they do the real boundary: encoded and decoded again, so that what does not survive there does not
here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from cloche._codec import REFUSED, Codec, refusal, write_cbor
from cloche._records import LogRecord
from cloche._requests import RequestHandler, RequestRouter, ServiceHandler
from cloche._sandbox import CallUsage, CheckedSandbox, logs
from cloche._wasm import CallState, Reason
from cloche.errors import ClocheError, ClosedError, EncodeError, OutputError, ProtocolError
from cloche.limits import Limits
from cloche.testing._surroundings import Surroundings
from cloche_guest import asking
from cloche_guest.dispatch import Guest
from cloche_wire import abi

__all__ = ["LocalInstance"]


class _Output(BaseException):
    """Leaves the node when it has written too much; a node that catches it is stopped all the same."""


class LocalInstance(CheckedSandbox):
    """A sandbox in name only: the guest runs as ordinary Python of this process.

    Args:
        limits: those that need no sandbox hold: value_nodes, value_depth, reply_bytes, output_bytes, log_records, log_bytes,
            stream_items.
        host: the outside; its clock and randomness are this process's.
        names: modules of the node's own, which may hide others of that name while the node runs.
        capture: whether stdout, stderr and stdin are the node's; not, if a debugger needs them.
        handlers: who answers what the node requests.
        variables: whether the node is given environment variables.

    Attributes:
        memory_bytes: it has none of its own.
        fuel: nor is it metered.
        last_fuel: likewise.
        limits: as above.
        lease: set by `Node.lease`, to no effect: every value is copied.
        records: what the node has logged and printed, newest last.
    """

    memory_bytes = serial = fuel = last_fuel = 0
    lease = False
    told = position = observer = None

    def __init__(
        self,
        limits: Limits,
        host: CallState,
        names: frozenset[str],
        capture: bool,
        handlers: Sequence[RequestHandler] = (),
        *,
        variables: bool = False,
    ) -> None:
        self.limits = limits
        self.host = host
        self.services = ServiceHandler.among(handlers)
        self._router = RequestRouter(handlers)
        host.router = self._router  # for what it says of a request: there is no memory to answer into
        self._blocks: dict[int, bytes] = {}
        self._codec = Codec(limits, self._place, self._view)
        self._frames: list[bytes] = []
        self._output = 0
        self._guest = Guest(self)
        self._surroundings = Surroundings(self._guest, names, capture, variables=variables)
        self.records: list[LogRecord] = []
        self.dropped_records = 0
        self.guest_seconds = 0.0
        self.closed = False

    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        self.host.calls += 1
        self._output = 0
        message = self._across([op, self.calls, *operands], root)
        began = time.perf_counter()
        with self._surroundings.lent():
            kind, value = self._guest.handle(message)
            try:
                value = self._across([kind, self.calls, value], "result")[2]
            except EncodeError as error:
                kind, value = self._guest.fail(TypeError(str(error)), "encode")
            except REFUSED as error:
                kind, value = self._guest.fail(ValueError(refusal(error, "result", error.steps[1:])), "encode")
        self.guest_seconds += time.perf_counter() - began
        self._drain()
        if self._output > self.limits.output_bytes:
            self._flooded()
        return [int(kind), value]

    def close(self, *, keep: bool = False) -> None:
        """Close what the node has open; further calls raise ClosedError. There is no cell to `keep`."""
        if not self.closed:
            self.closed = True
            with self._surroundings.lent():
                self._guest.close()
            asking.forget()
            self._router.close()
            self.host.router = None
            self._drain()

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """Nothing, for the same reason as `cancel`: a limit holds between the steps of a stream only."""

    def fail(self, error: ProtocolError) -> ProtocolError:
        """See `CheckedSandbox`."""
        self.close()
        error.node, error.last_logs = self.name, tuple(self.records)
        return error

    def cancel(self, serial: int = 0) -> None:
        """Nothing: a node that runs in this process cannot be stopped."""

    def where(self) -> tuple[()]:
        """Nothing: a debugger of this process tells."""
        return ()

    def usage(self) -> CallUsage:
        """What its last call has used: nothing that is bounded."""
        return CallUsage(Reason.NONE)

    def share(self, length: int) -> memoryview:
        """A buffer like any other."""
        return memoryview(bytearray(length))

    def snapshot(self, info: dict[str, Any]) -> NoReturn:
        """Refused."""
        raise ClocheError("a LocalGuest has no memory of its own that could be saved or cloned: use a Runtime")

    # What the guest runtime requests of its host (cloche_guest._host.Host).

    def emit(self, record: list[Any]) -> None:
        """Keep a log record."""
        self._frames.append(write_cbor(record))

    def count_output(self, size: int) -> None:
        """Hold output_bytes."""
        self._output += size
        if self._output > self.limits.output_bytes:
            raise _Output

    def configure(self, reply_bytes: int, output_bytes: int, value_depth: int, stack_depth: int) -> None:
        """The limits are here already, and the recursion limit is this process's own."""

    def call(self, request: list[Any]) -> list[Any] | None:
        """Answer a request, as the handlers do."""
        if not self._router.handlers:
            return None
        try:
            crossed = self._across(request, "request")
        except EncodeError as error:
            # the codec takes it for [op, call, *operands], and counts from there
            raise TypeError(re.sub(r"^request\[(\d)\]", lambda m: f"request[{int(m[1]) + 2}]", str(error))) from None
        except REFUSED as error:
            raise ValueError(refusal(error, "request", error.steps)) from None
        self._router.request_bytes = self._codec.decoded_bytes
        answer: list[Any] = self._router.reply(crossed, self._across)
        return answer

    def scratch(self, size: int) -> None:
        """Never asked for: `LocalGuest` refuses the grant."""

    def _across(self, message: list[Any], root: str) -> Any:
        try:
            return self._codec.decode(self._codec.encode(message, root))
        finally:
            self._blocks.clear()

    def _place(self, data: Any) -> int:
        address = abi.REQUEST_BUFFER_BYTES * (1 + len(self._blocks))
        self._blocks[address] = bytes(memoryview(data).cast("B"))
        return address

    def _view(self, address: int, length: int) -> memoryview:
        return memoryview(self._blocks[address])[:length]

    def _drain(self) -> None:
        frames, self._frames = self._frames, []
        limit = self.limits.log_records
        records, refused = logs.parse(frames[-limit:] if limit else [], self.calls)
        self.records += records
        self.dropped_records += refused + max(0, len(frames) - limit)

    def _flooded(self) -> NoReturn:
        self.close()
        limit = self.limits.output_bytes
        raise OutputError(
            f"node {self.name!r} wrote {self._output} bytes of output in one call (Limits.output_bytes={limit})",
            limit="output_bytes",
            value=limit,
            reached=self._output,
            node=self.name,
            last_logs=self.records,
        )
