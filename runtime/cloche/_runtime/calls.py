"""The calls of one node: one at a time, to one sandbox. What nodes, streams, async calls, pools and profiles work with.

`Node` is the face of it. Cloche's own modules get at it as ``node.__cloche__``, which is no part of the public interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloche._requests import NodeLock, exclusive
from cloche.errors import ClocheError, ClosedError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._records import StreamPosition
    from cloche._sandbox import Observer, Sandbox, Snapshot

__all__ = ["NodeCalls"]


class NodeCalls:
    """Lets in one call at a time: calls from several threads wait for each other, and a call from inside a call is refused.

    Args:
        sandbox: has the node.
        info: as `Node.info`.
        lock: the node's, if it was needed before the node was there.

    Attributes:
        name: the node's.
        sandbox: as above.
        info: as above.
        lock: as above.
        closed: whether the node was closed, in contrast to its sandbox, which may have broken.
    """

    __slots__ = (
        "__weakref__",
        "_lease",
        "_stream",
        "_stream_generation",
        "_token",
        "closed",
        "info",
        "lock",
        "name",
        "sandbox",
    )

    def __init__(self, sandbox: Sandbox, info: dict[str, Any], lock: NodeLock | None = None) -> None:
        self.name = sandbox.name
        self.sandbox = sandbox
        self.info = info
        self.lock = lock or NodeLock(self.name)
        self.lock.name = self.name
        if sandbox.services is not None:
            sandbox.services.lock = self.lock
        self._token: object = None
        self._lease: object = None
        self._stream: object = None
        self._stream_generation = 0
        self.closed = False

    @property
    def has_async_services(self) -> bool:
        """Whether the node may call a service that is ``async def``."""
        services = self.sandbox.services
        return services is not None and services.has_async

    @property
    def broken(self) -> bool:
        """Whether the sandbox is gone, and nobody has closed the node."""
        return self.sandbox.closed and not self.closed

    @property
    def busy(self) -> bool:
        """Whether a call of the guest is under way, for the thread that holds the lock."""
        return self.lock.busy

    @exclusive
    def exchange(self, op: Op, operands: list[Any], root: str, *, within: float | None = None) -> tuple[Reply, Any]:
        """One message, and the reply; `within` bounds its seconds further than ``deadline_s`` does."""
        self.check_free()
        lock, sandbox = self.lock, self.sandbox
        lock.busy = True
        if within is not None:
            sandbox.limit_next_calls(within, "stream_s")
        try:
            return sandbox.exchange(op, operands, root)
        finally:
            lock.busy = False
            if within is not None:
                sandbox.limit_next_calls(None)

    @exclusive
    def call(self, op: Op, operands: list[Any], root: str) -> Any:
        """One message, and the value of the RESULT that answers it. Raises as `Node.process` does."""
        kind, value = self.exchange(op, operands, root)
        if kind is not Reply.RESULT:
            self.sandbox.finish(
                kind, value, op
            )  # under the lock: it asks how the call has ended, and may end the guest
        return value

    @exclusive
    def initialize(self) -> Any:
        """See `Node.initialize`. What it leaves behind is part of the state to restart from."""
        result = self.call(Op.INVOKE, ["initialize"], "")
        self.sandbox.take_checkpoint()
        return result

    def check_free(self) -> None:
        """Refuse what needs a guest at rest.

        Raises:
            ClocheError: a call is under way, and this is its own thread.
            ClosedError: the node is closed or broken.
        """
        if self.busy:
            raise ClocheError(f"node {self.name!r} was called from inside its own call")
        if self.closed or self.sandbox.closed:
            raise self.closed_error()

    def closed_error(self) -> ClosedError:
        """The error for a call on a closed node."""
        return ClosedError(f"node {self.name!r} is closed")

    @exclusive
    def share(self, size: int) -> memoryview:
        """A buffer of guest memory, for good."""
        self.check_free()
        return self.sandbox.share(size)

    @exclusive
    def snapshot(self) -> Snapshot:
        """See `Node.snapshot`."""
        self.check_free()
        return self.sandbox.snapshot(self.info)

    @exclusive
    def open_lease(self, holder: object) -> None:
        """See `Node.lease`."""
        if self.closed or self.sandbox.closed:
            raise self.closed_error()
        if self._lease is not None:
            raise ClocheError(f"node {self.name!r} has a lease open: close it first")
        self._lease = holder  # first: if the rest is interrupted, `end_lease` knows whose it is
        self.sandbox.lease = True

    def end_lease(self, holder: object) -> None:
        """End the lease of that holder, if it has one. Without the lock, which another thread's call may hold for long."""
        if self._lease is holder:
            self.sandbox.lease = False
            self._lease = None  # last: what an interruption leaves undone is done by the next call

    @exclusive
    def observe(self, observer: Observer) -> None:
        """Have an observer follow the calls. Raises as `check_free` and `Sandbox.observe` do."""
        self.check_free()
        self.sandbox.observe(observer)

    @exclusive
    def end_observation(self, observer: Observer) -> None:
        """The observer follows the calls no longer, if it does."""
        self.sandbox.end_observation(observer)

    def close(self) -> None:
        """See `Node.close`."""
        if self.lock.is_lost:  # in the child of a fork: the call under way is the parent's
            self.closed = True
        else:
            self._close()

    @exclusive
    def _close(self) -> None:
        sandbox = self.sandbox
        if self.closed and sandbox.closed:
            return
        if self.busy:
            raise ClocheError(f"node {self.name!r} cannot be closed from inside its own call")
        sandbox.end_recovery()
        try:
            if not (self.closed or sandbox.closed) and "cleanup" in self.info["methods"]:
                self.call(Op.INVOKE, ["cleanup"], "")
        finally:
            self.closed = True  # an interrupt from here on leaves the rest to the next `close`
            sandbox.close(keep=True)

    @exclusive
    def discard(self) -> None:
        """Free the sandbox without running ``cleanup``: its state is not wanted any more."""
        self.closed = True
        self.sandbox.close(keep=True)

    def in_turn(self, token: object, given_up: Callable[[], bool], function: Callable[[], Any]) -> Any:
        """Wait for the node, unless the call is given up, and call `function`; meanwhile `interrupt(token)` stops what runs."""

        def work() -> Any:
            self._token = token
            try:
                return function()
            finally:
                self._token = None

        return self.lock.run_unless(given_up, work)

    def interrupt(self, token: object) -> None:
        """Have the guest stop if it works for `token`. Called from another thread."""
        cancel = (
            self.sandbox.canceller()
        )  # first: if the token is still the same after that, it is this call's, or its next
        if self._token is token and self.busy:
            cancel()

    @exclusive
    def begin_stream(self, steps: object, resume: bool) -> StreamPosition | None:
        """Open a stream for `steps`; where it goes on, if it is not a new one."""
        sandbox = self.sandbox
        if self._stream is not None and self._stream_generation == sandbox.generation:
            raise ClocheError(f"node {self.name!r} has a stream open: exhaust or close it before the next one")
        if resume and sandbox.position is None:
            raise ClocheError(f"node {self.name!r} has no stream to resume: begin one with stream()")
        if sandbox.position is not None and not resume:  # it came with the state that the node was restored from
            self.call(Op.STREAM_CLOSE, [], "")
        self._stream_generation = sandbox.generation
        self._stream = steps
        return sandbox.position

    def end_stream(self, steps: object, ended: bool) -> bool:
        """The stream of `steps` is over; unless the guest has said so itself, its generators are closed.

        Returns:
            Whether that was the open stream.
        """
        if self._stream is not steps:
            return False
        self._stream = None
        if not (ended or self.closed or self.sandbox.closed):
            self.call(Op.STREAM_CLOSE, [], "")
        return True
