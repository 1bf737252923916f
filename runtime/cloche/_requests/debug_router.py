"""`DebugRouter`: the router of a node that is being debugged. It keeps the answers to the node's requests, for a second run.

Going back in time runs a call again (`cloche.debug`). The second run must not call services or write files a second time, so it
gets the answers of the first one from a `Tape`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cloche._requests.router import GuestRequestRouter, RequestHandler
from cloche_wire import Ask, abi

if TYPE_CHECKING:
    from cloche._codec import Codec
    from cloche._wasm import CallState, Memory
    from cloche.limits import Limits

__all__ = ["DebugHandler", "DebugRouter", "Debugged", "Tape"]

T = TypeVar("T")

_DEBUG: Final = int(Ask.DEBUG)
_ENDED: Final = [False, ["InterruptedError", "the first run of this call went no further than this"]]
"""The answer to a request that the first run has not made, or not yet."""
_MOST_ANSWERS: Final = 100_000
"""Requests of one call that a tape keeps."""


class Tape:
    """The requests of one call, and the answers to them.

    Attributes:
        entries: request and answer, in their order.
        is_full: whether there were more than are kept.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[list[Any], list[Any]]] = []
        self.is_full = False

    def record(self, request: list[Any], answer: list[Any]) -> None:
        """Keep one more answer."""
        if len(self.entries) < _MOST_ANSWERS:
            self.entries.append((request, answer))
        else:
            self.is_full = True


class DebugHandler(RequestHandler, Protocol):
    """Answers the requests of a guest's debugger, and follows its calls.

    Attributes:
        replayed: the answers that the guest's other requests get, in place of its handlers'; None: those answer.
        is_silent: whether the guest's log records are dropped.
    """

    @property
    def replayed(self) -> Tape | None:
        """See the class."""

    @property
    def is_silent(self) -> bool:
        """See the class."""

    def attached(self, host: CallState) -> None:
        """The handler is attached to the instance with that state of calls."""

    def begin(self, op: int, operands: Sequence[Any], root: str) -> None:
        """A call is about to begin, and the guest is at rest."""

    def end(self) -> None:
        """The call that had begun has ended, in whatever way."""

    def polls(self) -> bool:
        """Whether the running guest is to be paused. Called some twenty times a second, while it waits."""

    def recording(self) -> Tape | None:
        """Where the answers of this call are kept; None: nowhere."""


class Debugged:
    """Mixin of a router: makes the calls of a guest that is being debugged.

    Attributes:
        debugger: answers the requests of the guest's debugger.
        is_inside: whether `around` is making a call.
    """

    debugger: DebugHandler
    is_inside = False
    _answered = 0

    def around(self, op: int, operands: Sequence[Any], root: str, call: Callable[[int, Sequence[Any], str], T]) -> T:
        """Make a call of the guest, with what the debugger does before and after it."""
        self._answered, self.is_inside = 0, True
        try:
            self.debugger.begin(op, operands, root)
            return call(op, operands, root)
        finally:
            self.is_inside = False
            self.debugger.end()


class DebugRouter(Debugged, GuestRequestRouter):
    """Routes the requests of a guest that is being debugged.

    Args:
        memory: as for `GuestRequestRouter`.
        codec: likewise.
        limits: likewise.
        handlers: those of the node's grants; without any, requests but the debugger's are answered as if nothing was granted.
        debugger: answers the requests of the guest's debugger.
    """

    def __init__(
        self,
        memory: Memory,
        codec: Codec,
        limits: Limits,
        handlers: Sequence[RequestHandler],
        debugger: DebugHandler,
    ) -> None:
        super().__init__(memory, codec, limits, [*handlers, debugger])
        self.debugger = debugger
        self._is_granted = bool(handlers)

    def answer(self, address: int, length: int) -> bytes | int:
        """See `GuestRequestRouter`."""
        try:
            return super().answer(address, length)
        except _NothingGranted:
            return abi.ANSWER_NONE

    def reply(self, request: list[Any], send: Callable[[list[Any], str], T]) -> T:
        """See `RequestRouter`."""
        if request[0] == _DEBUG:
            return super().reply(request, send)
        if not self._is_granted:
            raise _NothingGranted
        debugger = self.debugger
        if debugger.replayed is not None:
            entries, number = debugger.replayed.entries, self._answered
            self._answered += 1
            is_same = number < len(entries) and entries[number][0][:2] == request[:2]
            return send(entries[number][1] if is_same else _ENDED, "answer")
        tape = debugger.recording()
        if tape is None:
            return super().reply(request, send)

        def kept(answer: list[Any], root: str) -> T:
            sent = send(answer, root)
            tape.record(request, answer)
            return sent

        return super().reply(request, kept)


class _NothingGranted(Exception):
    """The node has no grants, so nobody answers its requests."""
