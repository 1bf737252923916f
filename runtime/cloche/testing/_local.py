"""`LocalInstance`: the guest's dispatch in this process, behind the interface of a sandbox. `LocalGuest` is a node on top of it.

Values are encoded and decoded as at the real boundary, so that values that would not survive there do not survive here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

from cloche._codec import REFUSED, Codec, refusal, write_cbor
from cloche._records import LogRecord
from cloche._requests import RequestHandler, RequestRouter, ServiceHandler
from cloche._sandbox import CallUsage, CheckedSandbox, LiveRecords, logs
from cloche._wasm import CallState, Reason
from cloche.errors import ClocheError, ClosedError, EncodeError, OutputError, ProtocolError
from cloche.limits import Limits
from cloche.testing._surroundings import Surroundings
from cloche_guest import asking
from cloche_guest.dispatch import Guest
from cloche_wire import abi, tree

__all__ = ["LocalInstance", "write_tree"]


class _Output(BaseException):
    """Ends the node's code when it has written too much. If the node catches it, the call ends with an OutputError nevertheless."""


class LocalInstance(CheckedSandbox):
    """Has the interface of a sandbox, but isolates nothing: the guest runs as ordinary Python code of this process.

    Args:
        limits: only those have an effect that need no sandbox: value_nodes, value_depth, reply_bytes, output_bytes, log_records,
            log_bytes, stream_items.
        host: the state of the node's calls. Its clocks and randomness are ignored: those of this process are used.
        names: names of the node's own modules; other modules of these names are hidden while the node runs.
        capture: whether stdout, stderr and stdin are redirected; False leaves them to a debugger.
        handlers: answer the node's requests.
        variables: whether the node was granted environment variables.

    Attributes:
        memory_bytes: always 0: there is no memory of the guest's own.
        private_bytes: always 0, likewise.
        fuel: always 0: nothing is metered.
        last_fuel: always 0.
        limits: the argument of that name.
        lease: set by `Node.lease`, without effect: every value is copied.
        records: the log records so far, with the lines that the node printed, the newest last.
    """

    memory_bytes = private_bytes = serial = fuel = last_fuel = 0
    lease = False
    told = position = observer = watch = None

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
        host.router = self._router  # the service handler reads `request_bytes` there
        self._blocks: dict[int, bytes] = {}
        self._codec = Codec(limits, self._place, self._view)
        self._frames: list[bytes] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._output = 0
        self._guest = Guest(self)
        self._surroundings = Surroundings(self._guest, names, capture, variables=variables)
        self.records: list[LogRecord] = []
        self.on_record: Callable[[LogRecord], object] | None = None
        self._live: LiveRecords | None = None
        self.dropped_records = 0
        self.guest_seconds = 0.0
        self.closed = False

    def _reply_to(self, op: int, operands: Sequence[Any], root: str) -> Any:
        if self.closed:
            raise ClosedError(f"node {self.name!r} is closed")
        self.host.calls += 1
        self._output = 0
        self._live = (
            None if self.on_record is None else LiveRecords(self.on_record, self.limits.log_records, self.calls)
        )
        message = self._across([op, self.calls, *operands], root)
        began = perf_counter()
        with self._surroundings.lent():
            kind, value = self._guest.handle(message)
            try:
                value = self._across([kind, self.calls, value], "result")[2]
            except EncodeError as error:
                kind, value = self._guest.fail(TypeError(str(error)), "encode")
            except REFUSED as error:
                kind, value = self._guest.fail(ValueError(refusal(error, "result", error.steps[1:])), "encode")
        self.guest_seconds += perf_counter() - began
        self._drain()
        if self._output > self.limits.output_bytes:
            self._flooded()
        return [int(kind), value]

    def close(self, *, keep: bool = False) -> None:
        """See `Sandbox`. `keep` has no effect: there is no store that could be used again."""
        if not self.closed:
            self.closed = True
            with self._surroundings.lent():
                self._guest.close()
            if self._folder is not None:
                self._folder.cleanup()
            asking.forget()
            self._router.close()
            self.host.router = None
            self._drain()

    @property
    def target(self) -> Any:
        """The node's instance, or the function."""
        return self._guest._loaded().target  # noqa: SLF001  # a public name there would be one more in the sandbox

    @property
    def traffic(self) -> Codec:
        """See `CheckedSandbox`."""
        return self._codec

    def pay_from(self, account: int, left_ns: int | None) -> None:
        """Does nothing: nobody measures a node in this process."""

    def unpaid_ns(self, here_ns: int) -> int:
        """Nothing is paid."""
        return here_ns

    def bound_memory(self, size: int) -> None:
        """Does nothing: there is no memory of the guest's own."""

    def limit_next_calls(self, seconds: float | None, field: str = "deadline_s") -> None:
        """Does nothing: a node in this process cannot be stopped. Limits of streams are checked between steps, elsewhere."""

    def expect_items(self, items: int) -> None:
        """Does nothing, as `limit_next_calls`."""

    def fail(self, error: ProtocolError) -> ProtocolError:
        """See `CheckedSandbox`."""
        self.close()
        error.node, error.last_logs = self.name, tuple(self.records)
        return error

    def cancel(self, serial: int = 0, number: int = 0) -> bool:
        """Does nothing: a node in this process cannot be stopped."""
        return False

    def where(self) -> tuple[()]:
        """Always empty: use a debugger of this process."""
        return ()

    def usage(self) -> CallUsage:
        """See `CheckedSandbox`. Always empty, because nothing is limited."""
        return CallUsage(Reason.NONE)

    def share(self, length: int) -> memoryview:
        """See `Sandbox`. The buffer is ordinary memory of this process."""
        return memoryview(bytearray(length))

    def snapshot(self, info: dict[str, Any]) -> NoReturn:
        """Raises ClocheError: there is no memory of the guest's own to copy."""
        raise ClocheError("a LocalGuest has no memory of its own that could be saved or cloned: use a Runtime")

    # What the guest runtime requests of its host (cloche_guest._host.Host).

    def emit(self, record: list[Any]) -> None:
        """Keep a log record, or pass it on if it is wanted at once."""
        if self._live is None:
            self._frames.append(write_cbor(record))
        else:
            self._live.take((write_cbor(record),), 0)

    def begin_item(self, number: int) -> None:
        """Note for the log records that follow which item of a batch they belong to, and count its output anew."""
        self._output = 0
        self._frames.append(write_cbor([abi.RING_ITEM, number]))

    def written(self, output: Any) -> Any:
        """A copy of an output of a batch, as it is now."""
        return self._across([0, 0, output], "output")[2]

    def hold(self, stream: int, record: list[Any] | None) -> bool:
        """Does nothing: in this process nothing breaks before the line is sent. Returns whether it may wait for its end."""
        return self._live is None or record is None

    def count_output(self, size: int) -> None:
        """Count bytes of output, and end the node's code beyond `Limits.output_bytes`."""
        self._output += size
        if self._output > self.limits.output_bytes:
            raise _Output

    def configure(
        self, reply_bytes: int, output_bytes: int, value_nodes: int, value_depth: int, stack_depth: int
    ) -> None:
        """Does nothing: the limits are known here, and the recursion limit stays this process's."""

    def call(self, request: list[Any]) -> list[Any] | None:
        """Have the request handlers answer a request; None if there are none."""
        if not self._router.handlers:
            return None
        try:
            crossed = self._across(request, "request")
        except EncodeError as error:
            # the codec counts as in [op, call, *operands]: two less
            raise TypeError(re.sub(r"^request\[(\d)\]", lambda m: f"request[{int(m[1]) + 2}]", str(error))) from None
        except REFUSED as error:
            raise ValueError(refusal(error, "request", error.steps)) from None
        self._router.request_bytes = self._codec.decoded_bytes
        answer: list[Any] = self._router.reply(crossed, self._across)
        return answer

    def on_pause(self, function: Callable[[], object] | None) -> None:
        """Does nothing: this process's own debuggers can pause the node."""

    def scratch(self, size: int) -> None:
        """Does nothing: `LocalGuest` refuses the grant of scratch files, and only a size of 0 comes here."""

    def tree(self, place: str, block: bytes) -> str:
        """Write a tree's files into a temporary folder, which is removed when the node is closed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cloche-")
        return write_tree(Path(self._folder.name) / place, block)

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
        live, self._live = self._live, None
        if live is not None:
            records, missing = live.end()
            self.records += records
            self.dropped_records += missing
            return
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


def write_tree(folder: Path, block: bytes) -> str:
    """Write a tree's files into a folder, and return its path."""
    folder.mkdir(parents=True)
    for path, file in tree.files(block).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content())
    return str(folder)
