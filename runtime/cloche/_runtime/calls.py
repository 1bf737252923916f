"""`NodeCalls`: makes the calls of one node, one at a time, to its sandbox. Nodes, streams, async calls, pools and profiles use it.

`Node` is its public face. Cloche's own modules reach it as ``node.__cloche__``, which is not part of the public interface.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cloche._requests import NodeLock, exclusive
from cloche._runtime.call_options import NO_OPTIONS, CallOptions
from cloche._runtime.closing import LATE_S, Closing
from cloche._runtime.parked import Parked, State, packed
from cloche._sandbox import GIVEN
from cloche.errors import ClocheError, ClosedError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._recording import Recording
    from cloche._records import StreamPosition
    from cloche._runtime.load_options import Origin
    from cloche._runtime.log_calls import LogCalls
    from cloche._runtime.parked import How
    from cloche._sandbox import Base, Observer, Sandbox, Snapshot
    from cloche._wasm import FrameInfo

__all__ = ["NodeCalls"]

T = TypeVar("T")
_LEAST_S: Final = 0.001
"""The shortest time for which a ``cleanup`` is called."""


class NodeCalls:
    """Lets in one call at a time: calls from several threads wait for each other, and a call from inside a call is refused.

    Args:
        sandbox: the sandbox in which the node is loaded.
        info: the guest's description of the node, see `Node.info`.
        lock: the node's lock, if loading has made one already; None: a new one.

    Attributes:
        name: the node's name.
        sandbox: the argument of that name.
        info: the argument of that name.
        lock: the node's lock.
        origin: how `Runtime.load` has made the node; None: it was made otherwise.
        how: how to bring the node back when it was parked; None: it cannot be parked.
        closed: whether the caller has closed the node, or is closing it; what it has become, if it was parked. `sandbox.closed` is
            also true after a break.
    """

    __slots__ = (
        "__weakref__",
        "_is_cleaned",
        "_lease",
        "_stream",
        "_stream_generation",
        "_token",
        "closed",
        "how",
        "info",
        "lock",
        "name",
        "origin",
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
        self._is_cleaned = False
        self.origin: Origin | None = None
        self.how: How | None = None
        self.closed: bool | Parked = False

    @property
    def has_async_services(self) -> bool:
        """Whether one of the services granted to the node is an ``async def`` function."""
        services = self.sandbox.services
        return services is not None and services.has_async

    @property
    def broken(self) -> bool:
        """Whether a break has closed the sandbox, rather than the caller."""
        return self.sandbox.closed and not self.closed

    @property
    def busy(self) -> bool:
        """Whether a call is under way in the guest. Only the thread that holds the lock may rely on the value."""
        return self.lock.busy

    @exclusive
    def exchange(self, op: Op, operands: list[Any], root: str, *, within: float | None = None) -> tuple[Reply, Any]:
        """Send one message and return the reply. `within`: seconds that the call may take, instead of ``deadline_s``."""
        self.check_free()
        lock, sandbox = self.lock, self.sandbox
        if within is not None:
            return self._limited(within, "stream_s", partial(self.exchange, op, operands, root))
        lock.busy = True
        try:
            return sandbox.exchange(op, operands, root)
        finally:
            lock.busy = False

    def run_with(self, options: CallOptions, function: Callable[[], T]) -> T:
        """Call a function whose calls of this node have these options.

        Args:
            options: see `CallOptions`.
            function: makes calls of the node, and returns when they have ended.
        """
        if options.log is None:
            return self._run_with(options, function)
        try:
            return self._run_logged(options, options.log, function)
        finally:
            options.log.settle()  # without the lock: the caller's function may call the node

    @exclusive
    def _run_logged(self, options: CallOptions, log: LogCalls, function: Callable[[], T]) -> T:
        """`run_with` with log records that the caller wants at once."""
        self.check_free()
        sandbox = self.sandbox
        try:
            try:
                sandbox.on_record = log.put
                return function() if options.deadline_s is ... else self._run_with(options, function)
            finally:
                sandbox.on_record = None
        finally:
            sandbox.on_record = None  # again: see `_limited`

    @exclusive
    def _run_with(self, options: CallOptions, function: Callable[[], T]) -> T:
        self.check_free()
        if options.deadline_s is ...:
            return function()
        return self._limited(math.inf if options.deadline_s is None else options.deadline_s, GIVEN, function)

    def _limited(self, seconds: float, field: str, function: Callable[[], T]) -> T:
        """Call a function whose calls of this node may take so long, see `Sandbox.limit_next_calls`. Needs the lock."""
        limit = self.sandbox.limit_next_calls
        try:
            try:
                limit(seconds, field)
                return function()
            finally:
                limit(None)
        finally:
            limit(None)  # again: an interrupt may have prevented the first one, and the next call is another caller's

    def exchange_batch(self, op: Op, operands: list[Any], root: str, items: int) -> tuple[Reply, Any]:
        """As `exchange`, for a message with so many items: each of them has the deadline for itself. Needs the lock."""
        self.check_free()
        lock, sandbox = self.lock, self.sandbox
        try:
            try:
                sandbox.expect_items(items)
                lock.busy = True
                return sandbox.exchange(op, operands, root)
            finally:
                lock.busy = False
                sandbox.expect_items(0)
        finally:
            lock.busy = False
            sandbox.expect_items(0)  # again: an interrupt may have prevented the first one

    @exclusive
    def call(self, op: Op, operands: list[Any], root: str) -> Any:
        """Send one message that a RESULT answers, and return its value. Raises as `Node.process` does."""
        kind, value = self.exchange(op, operands, root)
        if kind is not Reply.RESULT:
            self.sandbox.finish(kind, value, op)  # under the lock: it reads the state of the last call
        return value

    @exclusive
    def invoke(self, method: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """See `Node.call`. The state after ``initialize`` becomes the one to restart from, however it was called."""
        result = self.call(Op.CALL, [method, list(arguments), dict(keywords)], "arguments")
        if method == "initialize":
            self.sandbox.take_checkpoint()
        return result

    @exclusive
    def initialize(self) -> Any:
        """See `Node.initialize`. The state after it becomes the one to restart from."""
        result = self.call(Op.INVOKE, ["initialize"], "")
        self.sandbox.take_checkpoint()
        return result

    def check_free(self) -> None:
        """Check that the node is open and its guest at rest.

        Raises:
            ClocheError: this thread is inside a call of the node.
            ClosedError: the node is closed or broken.
        """
        if self.busy:
            raise ClocheError(f"node {self.name!r} was called from inside its own call")
        if self.closed or self.sandbox.closed:
            raise self.closed_error()

    def closed_error(self) -> ClosedError:
        """The error for a call on a closed node."""
        if self.is_parked:
            return ClosedError(f"node {self.name!r} is parked: go on with the node that Runtime.unpark(parked) returns")
        return ClosedError(f"node {self.name!r} is closed")

    @exclusive
    def share(self, size: int) -> memoryview:
        """A buffer of guest memory, which is freed only with the node. See `Node.buffer`."""
        self.check_free()
        return self.sandbox.share(size)

    @exclusive
    def snapshot(self) -> Snapshot:
        """See `Node.snapshot`."""
        self.check_free()
        return self.sandbox.snapshot(self.info)

    @property
    def is_parked(self) -> bool:
        """Whether the node was parked."""
        return isinstance(self.closed, Parked)

    @exclusive
    def park(self) -> Parked:
        """See `Runtime.park`. An interrupted one leaves the node open, or is completed by the next."""
        parked = self.closed
        if not isinstance(parked, Parked):
            state = self.parking_state(None)
            parked = Parked(packed(state), state, replace(self._checked_how(), origin=self.origin))
        self.free_parked(parked)
        return parked

    def parking_state(self, base: Base | None, key: str | None = None) -> State:
        """All that the node's bytes have to hold. Needs the lock.

        Args:
            base: what its state may be a difference from.
            key: key of its session.

        Raises:
            ClocheError: it cannot be parked now; the message says why.
            ClosedError: it is closed or broken.
        """
        self.check_free()
        how, sandbox = self._checked_how(), self.sandbox
        if self._lease is not None:
            raise ClocheError(f"node {self.name!r} cannot be parked while it has a lease open: close that first")
        if tie := sandbox.tie:
            raise ClocheError(f"node {self.name!r} cannot be parked: {tie}")
        snapshot = sandbox.snapshot(self.info) if base is None else sandbox.difference(self.info, base)
        restarts = how.options.policy.on_break == "restart"
        return State(snapshot, sandbox.carried(), sandbox.checkpoint if restarts else None, how.options.session_id, key)

    def _checked_how(self) -> How:
        if self.how is None:
            raise ClocheError(f"node {self.name!r} cannot be parked: it is Cloche's own, or a pool's, or lent")
        return self.how

    def free_parked(self, become: bool | Parked) -> None:
        """Free the sandbox of a node whose bytes are kept elsewhere from now on. Needs the lock; may be called again.

        Args:
            become: the new value of `closed`.
        """
        self.closed = become  # the one step in which the node stops being open
        self._is_cleaned = True
        self.sandbox.end_recovery()
        self.sandbox.close(keep=True)

    @exclusive
    def recording(self) -> Recording:
        """See `Node.recording`."""
        from cloche._recording import recording_of  # few programs record

        self.check_free()
        return recording_of(self.sandbox.recorded, self.name)

    def check_reloadable(self) -> Origin:
        """Check that the node can go on in another sandbox. Needs the lock. Returns how the present one was made.

        Raises:
            ClocheError: it cannot; the message says why.
        """
        self.check_free()
        sandbox = self.sandbox
        if self.origin is None:
            raise ClocheError(
                f"node {self.name!r} cannot be reloaded: Runtime.load has not made it, but a clone, a snapshot or a pool"
            )
        if sandbox.position is not None or (self._stream is not None and self._stream_generation == sandbox.generation):
            raise ClocheError(f"node {self.name!r} has a stream open: exhaust or close it before you reload the node")
        if self._lease is not None:
            raise ClocheError(f"node {self.name!r} has a lease open: close it before you reload the node")
        return self.origin

    def take_over(self, made: NodeCalls) -> NodeCalls:
        """Go on with the sandbox of another node, which has the same lock. Needs the lock.

        Returns:
            what closes the old sandbox.
        """
        old = NodeCalls(self.sandbox, self.info, self.lock)
        old.closed, old.origin = True, self.origin
        try:
            self.info, self.sandbox, self.origin = made.info, made.sandbox, made.origin
        except BaseException:  # an interrupt came between two of these
            whole = made if self.sandbox is made.sandbox else old
            self.info, self.origin = whole.info, whole.origin
            raise
        self._stream = None
        return old

    def give_up(self, taken_by: NodeCalls) -> None:
        """Free the sandbox without ``cleanup``, unless another object has taken it over."""
        if taken_by.sandbox is self.sandbox:
            self.closed = self._is_cleaned = True
        else:
            self.discard()

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
        """Report all further calls to an observer. Raises as `check_free` and `Sandbox.observe` do."""
        self.check_free()
        self.sandbox.observe(observer)

    @exclusive
    def end_observation(self, observer: Observer) -> None:
        """Stop reporting calls to the observer, if it still is the sandbox's."""
        self.sandbox.end_observation(observer)

    @property
    def needs_cleanup(self) -> bool:
        """Whether the node is open and has a ``cleanup``, which `close` would call."""
        return not (self.closed or self.sandbox.closed) and "cleanup" in self.info["methods"]

    def close(self, closing: Closing | None = None) -> None:
        """See `Node.close`.

        Args:
            closing: how long it may take; None: as long as it takes.
        """
        if (
            self.lock.is_lost
        ):  # in the child of a fork, another thread of the parent holds the lock: waiting would never end
            self.closed = self.closed or True
            return
        closing = closing or Closing(None)
        late_s = self.sandbox.limits.grace_s + LATE_S
        is_stuck = False

        def given_up() -> bool:
            nonlocal is_stuck
            if closing.until is None or not closing.late_s:
                return False
            self.closed = self.closed or True
            self.lock.is_refusing = True
            self.interrupt()
            closing.on_late()
            is_stuck = closing.late_s > late_s
            return is_stuck

        try:
            self.lock.run_last(given_up, self._close, closing)
        except ClocheError as error:
            if is_stuck:
                raise ClocheError(
                    f"node {self.name!r} could not be closed within {closing.timeout_s} s: its call is in a service or another "
                    "function of the host that does not return, and Python cannot stop it; close it again afterwards"
                ) from error
            raise

    def _close(self, closing: Closing) -> None:
        sandbox = self.sandbox
        if self.is_parked:
            self.free_parked(self.closed)
            return
        if self._is_cleaned and sandbox.closed:
            return
        if self.busy:
            raise ClocheError(f"node {self.name!r} cannot be closed from inside its own call")
        sandbox.end_recovery()
        try:
            if not (self._is_cleaned or sandbox.closed) and "cleanup" in self.info["methods"]:
                self._clean_up(closing)
        finally:
            self.closed = self._is_cleaned = (
                True  # before the sandbox: after an interrupt here, the next `close` skips cleanup
            )
            sandbox.close(keep=True)

    def _clean_up(self, closing: Closing) -> None:
        """Call the node's ``cleanup``, also if calls are refused already. Needs the lock."""
        seconds, deadline_s = closing.cleanup_s(), self.sandbox.limits.deadline_s
        if seconds is None:
            self._invoke_cleanup()
            return
        if seconds < _LEAST_S:
            raise ClocheError(
                f"no time was left for the cleanup of node {self.name!r}: close it earlier, or with a longer timeout"
            )
        began = time.monotonic()
        try:
            if deadline_s is not None and deadline_s <= seconds:
                self._invoke_cleanup()
            else:
                self._limited(seconds, GIVEN, self._invoke_cleanup)
        finally:
            closing.spend(began)

    def _invoke_cleanup(self) -> None:
        self.lock.busy = True
        try:
            kind, value = self.sandbox.exchange(Op.INVOKE, ["cleanup"], "")
        finally:
            self.lock.busy = False
        if kind is not Reply.RESULT:
            self.sandbox.finish(kind, value, Op.INVOKE)

    def __del__(self) -> None:
        if hasattr(self, "closed") and self.needs_cleanup and not sys.is_finalizing():
            text = f"node {self.name!r} was not closed: its cleanup has not run"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    @exclusive
    def discard(self) -> None:
        """Free the sandbox without running ``cleanup``. For a node whose state nobody needs any more."""
        self.closed = self._is_cleaned = True
        self.sandbox.close(keep=True)

    def in_turn(self, token: object, given_up: Callable[[], bool], function: Callable[[], Any]) -> Any:
        """Wait for the node's lock, then call `function`.

        Args:
            token: identifies this call for `interrupt`.
            given_up: called while waiting; if it returns True, the wait ends, see `NodeLock.wait`.
            function: makes calls of the node.
        """

        def work() -> Any:
            self._token = token
            try:
                return function()
            finally:
                self._token = None

        return self.lock.run_unless(given_up, work)

    def interrupt(self, token: object = None) -> bool:
        """End the call under way, see `Node.interrupt`. Any thread may call this, and a signal's handler.

        Args:
            token: end it only if it was made by `in_turn` with this token; None: whoever made it.

        Returns:
            whether the guest was in a call, and has been told.
        """
        cancel = self.sandbox.canceller()  # before the comparison: later, it might be bound to another caller's call
        return (token is None or self._token is token) and self.busy and cancel()

    def where(self) -> tuple[FrameInfo, ...]:
        """See `Node.where`. Any thread may call this."""
        return self.sandbox.where()

    @exclusive
    def begin_stream(self, steps: object, resume: bool) -> StreamPosition | None:
        """Register `steps` as the node's open stream.

        Args:
            steps: the new `StreamSession`.
            resume: whether it continues the stream of the node's saved state.

        Returns:
            the position to continue from; None: a new stream.

        Raises:
            ClocheError: the node has an open stream already, or `resume` finds none to continue.
        """
        sandbox = self.sandbox
        if self._stream is not None and self._stream_generation == sandbox.generation:
            raise ClocheError(f"node {self.name!r} has a stream open: exhaust or close it before the next one")
        if resume and sandbox.position is None:
            raise ClocheError(f"node {self.name!r} has no stream to resume: begin one with stream()")
        if sandbox.position is not None and not resume:  # an open stream of the restored state, which nobody resumes
            self.call(Op.STREAM_CLOSE, [], "")
        self._stream_generation = sandbox.generation
        self._stream = steps
        return sandbox.position

    def end_stream(self, steps: object, ended: bool, options: CallOptions = NO_OPTIONS) -> bool:
        """Unregister the stream of `steps`, and close the node's generators unless the guest has ended them.

        Args:
            steps: the `StreamSession`.
            ended: whether the guest has ended them.
            options: options of the call that closes them.

        Returns:
            whether `steps` was the node's open stream.
        """
        if self._stream is not steps:
            return False
        self._stream = None
        if not (ended or self.closed or self.sandbox.closed):
            self.run_with(options, partial(self.call, Op.STREAM_CLOSE, [], ""))
        return True
