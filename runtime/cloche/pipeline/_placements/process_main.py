"""The main program of a process with one native node: does what the host orders on the socket whose descriptor is its argument."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from cloche.pipeline._placements.native import Native, found_target
from cloche.pipeline._placements.orders import Kind, Order, packed_outcome, portable
from cloche.pipeline.placement import BatchResult
from cloche.pipeline.spec import NodeSpec

_ATOMS: Final = frozenset({bool, int, float, complex, str, bytes})


class _Interrupted(BaseException):
    """The host has interrupted the call under way."""


class _Server:
    """Serves orders.

    Args:
        connection: the host.
        begun: memory shared with it: how many items of a batch have been begun.
    """

    def __init__(self, connection: Connection, begun: mmap.mmap) -> None:
        self._connection = connection
        self._begun = begun
        self._node: Native | None = None
        self._last = BatchResult([])
        self._is_working = False

    def serve(self) -> None:
        """Serve until the host closes the socket or says "stop"."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which ends this process when it wants to
        signal.signal(signal.SIGTERM, self._interrupt)
        verb = ""
        while verb != "stop":
            try:
                data = self._connection.recv_bytes()
            except EOFError:
                return
            try:
                order: Order = pickle.loads(data)
            except Exception as error:
                self._answer(Kind.REFUSED, f"{type(error).__qualname__}: {error}")
                continue
            verb = order.verb
            try:
                try:
                    self._is_working = verb != "stop"
                    value = self._done(order)
                finally:
                    self._is_working = False
                self._answer(Kind.APART if verb == "apart" else Kind.VALUE, value)
            except BaseException as error:
                self._answer(Kind.RAISED, portable(error))

    def _interrupt(self, *_: Any) -> None:
        if self._is_working:
            self._is_working = False
            raise _Interrupted

    def _answer(self, kind: Kind, value: Any) -> None:
        try:
            data = pickle.dumps((kind, value))
        except Exception:
            if not isinstance(value, BatchResult):
                raise
            data = pickle.dumps((Kind.APART, _apart(value)))
        self._connection.send_bytes(data)

    def _done(self, order: Order) -> Any:
        if order.verb == "load":
            entry, params, source, name, session_id = order.arguments
            spec = NodeSpec(source, entry, params, placement="native")
            self._node = Native(spec, found_target(spec, source), name, session_id, self._begin, _as_it_is)
            return None
        if self._node is None:
            if order.verb == "stop":  # its code could not be loaded
                return None
            raise RuntimeError("no node is loaded")
        if order.verb == "apart":
            return _apart(self._last)
        if order.verb != "call":
            return getattr(self._node, order.verb)(*order.arguments)
        items, end = order.arguments
        result = self._node.call(items, end=end)
        self._last = BatchResult(
            [portable(outcome) if isinstance(outcome, Exception) else outcome for outcome in result.outcomes],
            result.ended,
        )
        return self._last

    def _begin(self, number: int) -> None:
        self._begun[:8] = number.to_bytes(8, "little")


class _Pickled:
    """Arrives as the value of which the bytes are."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._data,)


def _as_it_is(output: Any) -> Any:
    """An output that the node no longer changes: it is sent when the node has worked on the last item of its batch."""
    if type(output) in _ATOMS:
        return output
    try:
        return _Pickled(pickle.dumps(output))
    except Exception:  # it cannot be sent: that is said when it is to be
        return output


def _apart(result: BatchResult) -> tuple[list[bytes], bool]:
    return [packed_outcome(outcome) for outcome in result.outcomes], result.ended


def main(socket: int, counter: int) -> None:
    """Serve a host.

    Args:
        socket: descriptor of the socket to it.
        counter: descriptor of the shared memory.
    """
    with suppress(OSError):  # there is no stderr
        os.dup2(2, 1)  # what a node prints is no result of the program whose stdout this is
    begun = mmap.mmap(counter, mmap.PAGESIZE)
    os.close(counter)
    _Server(Connection(socket), begun).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
