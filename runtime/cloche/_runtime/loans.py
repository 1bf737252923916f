"""`Loan`: the calls of a node that `Pool.acquire` has lent. After the end of the block they are refused."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cloche._requests import NodeLock
from cloche._runtime.calls import NodeCalls
from cloche.errors import ClocheError, ClosedError
from cloche_wire import Op

if TYPE_CHECKING:
    from cloche._runtime.closing import Closing
    from cloche._wasm import FrameInfo

__all__ = ["Loan", "SessionLoan"]


class Loan(NodeCalls):
    """Makes calls of a pool's node for the one that holds it. The pool has its own `NodeCalls`, with the same lock and sandbox.

    So whatever the holder keeps (the node, views of it, streams) ends with the loan, and reaches no later holder's calls.

    Args:
        calls: the pool's.

    Attributes:
        is_over: whether the node was given back.
        is_spent: whether something of the holder's stays in the sandbox, which therefore nobody else shall have.
    """

    __slots__ = ("is_over", "is_spent")

    def __init__(self, calls: NodeCalls) -> None:
        self.is_over = self.is_spent = False
        super().__init__(calls.sandbox, calls.info, calls.lock)

    @property
    def needs_cleanup(self) -> bool:
        """False: the pool calls ``cleanup``."""
        return False

    def closed_error(self) -> ClosedError:
        """See `NodeCalls`."""
        if self.is_over:
            return ClosedError(f"node {self.name!r} was given back to its pool: the block of `acquire` has ended")
        if self.broken:
            return ClosedError(
                f"node {self.name!r} has broken: the pool makes a new one for the next block of `acquire`"
            )
        return super().closed_error()

    def share(self, size: int) -> memoryview:
        """See `NodeCalls`. The buffer stays the holder's."""
        self.is_spent = True
        return super().share(size)

    def interrupt(self, token: object = None) -> bool:
        """See `NodeCalls`. After the loan the call under way is somebody else's."""
        return not self.is_over and super().interrupt(token)

    def where(self) -> tuple[FrameInfo, ...]:
        """See `NodeCalls`. After the loan the position is somebody else's."""
        return () if self.is_over else super().where()

    def close(self, closing: Closing | None = None) -> None:
        """See `NodeCalls`. A node that was given back is open for others."""
        if not self.is_over:
            super().close(closing)

    @property
    def has_stream(self) -> bool:
        """Whether the holder has left a stream open."""
        return self._stream is not None and not self.sandbox.closed

    def end(self) -> None:
        """Close what the holder has left open, and refuse its calls from now on. Again: does nothing."""
        if self.is_over:
            return
        try:
            if self.has_stream:
                with suppress(ClocheError):  # of the node's ``finally`` blocks; if they break it, the pool replaces it
                    self.call(Op.STREAM_CLOSE, [], "")
            self.end_lease(self._lease)
        finally:
            self.closed = self.is_over = True
            self.lock = NodeLock(self.name)  # what the holder has kept is refused at once, while others have the node


class SessionLoan(Loan):
    """Makes calls of a session's node inside of one block of `cloche.parking.Sessions.node`. A stream stays open beyond it."""

    __slots__ = ()

    def closed_error(self) -> ClosedError:
        """See `NodeCalls`."""
        if self.is_over:
            return ClosedError(f"node {self.name!r} was given back: the block of its session has ended, open another")
        if self.broken:
            return ClosedError(
                f"node {self.name!r} has broken: its session goes on from the state that it was last parked in, in the next block"
            )
        return super().closed_error()

    @property
    def has_stream(self) -> bool:
        """False: what the guest has open is parked with it, for `Node.resume`."""
        return False
