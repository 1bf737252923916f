"""Every error that Cloche raises, and for each: whose fault it is and whether the node can still be used.

`NodeError` and `DeadlineError` leave the node usable. `BrokenInstanceError` means that its instance has been closed: load or
restore it again, or have ``on_break`` of `Runtime.load` do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche._records import LogRecord, StreamPosition
    from cloche_wire import Failure, Frame

__all__ = [
    "BrokenInstanceError",
    "ClocheError",
    "ClosedError",
    "DeadlineError",
    "EncodeError",
    "FuelError",
    "GuestExitError",
    "GuestTrapError",
    "HardDeadlineError",
    "ImageError",
    "InternalError",
    "LimitError",
    "NodeError",
    "NodeLoadError",
    "NodeRaisedError",
    "OutputError",
    "ProtocolError",
    "ServiceError",
    "StreamLimitError",
]


class ClocheError(Exception):
    """Base of every error that Cloche raises by itself.

    Attributes:
        item: index, from 0, of the item that it belongs to, in a stream or in a pool's map; None elsewhere.
        limit: the field of `Limits` that was passed, e.g. "deadline_s"; "" if it was none.
        value: what that is set to.
        reached: how far it had come, in the same unit.
    """

    item: int | None = None
    limit: str = ""
    value: float | None = None
    reached: float | None = None


class ImageError(ClocheError):
    """The guest image is missing, altered, stale, or built for another ABI or wasmtime. The message says what to run."""


class EncodeError(ClocheError, TypeError):
    """Your value cannot be sent to the guest. Raised before the guest is entered: the node is as it was.

    Attributes:
        path: where in the value, e.g. ``params.filters[3].fn``.
    """

    def __init__(
        self, message: str, path: str = "", *, limit: str = "", value: float | None = None, reached: float | None = None
    ) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.limit = limit
        self.value = value
        self.reached = reached


class ClosedError(ClocheError):
    """The node or runtime has been closed, by you or by a `BrokenInstanceError` before."""


class InternalError(ClocheError):
    """A bug in Cloche, not in your program or the node. Please report it."""


class NodeError(ClocheError):
    """The node's own code failed. The node stays usable.

    You do not get it for a node that overruns its time or brings its interpreter down: see `BrokenInstanceError`. Memory and
    stack that run out reach the node as ``MemoryError`` and ``RecursionError``, and you as this, with ``limit`` set.

    Attributes:
        failure: the whole failure as data; all of it is untrusted text.
        node: the node's name.
        remedy: what to do about it, or "".
    """

    def __init__(self, failure: Failure, node: str = "", remedy: str = "") -> None:
        super().__init__(f"{failure.exc_type}: {failure.message}" if failure.message else failure.exc_type)
        self.failure = failure
        self.node = node
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.remedy}" if self.remedy else super().__str__()

    @property
    def exc_type(self) -> str:
        """Qualified name of the exception's class in the guest, e.g. ``ValueError``."""
        return self.failure.exc_type

    @property
    def message(self) -> str:
        """What ``str()`` of the guest's exception said."""
        return self.failure.message

    @property
    def frames(self) -> Sequence[Frame]:
        """The guest's traceback, outermost frame first: file, line, function, text."""
        return self.failure.frames

    @property
    def guest_traceback(self) -> str:
        """The guest's traceback as Python would print it, causes included."""
        return self.failure.format()

    @property
    def cause(self) -> Failure | None:
        """The chained exception (``__cause__``, or ``__context__``), if any."""
        return self.failure.cause


class NodeLoadError(NodeError):
    """The node does not compile or import, has no such entry, or its ``__init__`` raised.

    Attributes:
        phase: "compile", "import", "entry" or "init".
    """

    @property
    def phase(self) -> str:
        """Which step failed: "compile", "import", "entry" or "init"."""
        return self.failure.phase


class NodeRaisedError(NodeError):
    """The node raised during a call, or returned what cannot be encoded."""


class StreamLimitError(ClocheError):
    """A stream passed ``stream_items`` or ``stream_s`` between two steps. Its generators have been closed; the node stays usable.

    You do not get it for a single step that runs too long: that is a `DeadlineError`.

    Attributes:
        node: the node's name.
    """

    def __init__(self, message: str, *, limit: str, value: float, reached: float, node: str = "") -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value
        self.reached = reached
        self.node = node


class BrokenInstanceError(ClocheError):
    """The instance is beyond use and has been closed, and its memory freed. Other nodes are not affected.

    The call that broke is never made again by itself. Whether the *node* can go on is for ``on_break`` of `Runtime.load` to
    say, and for `recovered` to tell.

    Attributes:
        node: the node's name.
        last_logs: the records drained after the break; they also went to the logger.
        data: what the node was given when it broke: the arguments of ``process``, the item of a stream; empty otherwise.
        recovered: "restart" or "restore" if the node lives on, in a new instance; None if it is broken.
        lost_calls: answered calls and steps of streams whose effect on the node's state is gone with the instance.
        resume_at: where the stream goes on that `Node.resume` takes up again; None: there is none.
    """

    data: tuple[Any, ...] = ()
    recovered: Literal["restart", "restore"] | None = None
    lost_calls: int = 0
    resume_at: StreamPosition | None = None

    def __init__(self, message: str, *, node: str = "", last_logs: Sequence[LogRecord] = ()) -> None:
        super().__init__(message)
        self.node = node
        self.last_logs = tuple(last_logs)

    def __str__(self) -> str:
        if self.recovered is None:
            return f"{super().__str__()}; its instance is closed: load it again"
        lost = f", and what {self.lost_calls} calls since then changed is lost" if self.lost_calls else ""
        state = "it was loaded" if self.recovered == "restart" else "of its last checkpoint"
        return f"{super().__str__()}; the node goes on from the state {state}{lost}"


class LimitError(ClocheError):
    """A limit that ends a call was passed: ``limit``, ``value`` and ``reached`` say which.

    Attributes:
        node: the node's name.
        last_logs: the records drained afterwards; they also went to the logger.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        value: float,
        reached: float,
        node: str = "",
        last_logs: Sequence[LogRecord] = (),
    ) -> None:
        Exception.__init__(self, message)
        self.limit = limit
        self.value = value
        self.reached = reached
        self.node = node
        self.last_logs = tuple(last_logs)


class DeadlineError(LimitError, TimeoutError):
    """The call ran longer than ``deadline_s``, its stream than ``stream_s``, or loading than ``load_s``.

    The node was interrupted: its Python code raised ``cloche_guest.DeadlineExceeded`` where it was, its ``finally`` blocks ran, and
    it stays usable, with its state; one that was loading has not been loaded. You get a `HardDeadlineError` instead if it was still
    running when the grace was over.

    Attributes:
        guest_traceback: where the node was, as Python would print it; untrusted text.
        failure: the node's failure as data; None if it did not get so far.
    """

    failure: Failure | None = None

    def __init__(self, message: str, *, guest_traceback: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.guest_traceback = guest_traceback


class HardDeadlineError(DeadlineError, BrokenInstanceError):
    """The node was still running ``grace_s`` after its deadline: its instance was stopped and is closed."""


class FuelError(LimitError, BrokenInstanceError):
    """The call burned more than ``fuel``."""


class OutputError(LimitError, BrokenInstanceError):
    """The call wrote more than ``output_bytes`` to stdout and stderr."""


class GuestTrapError(BrokenInstanceError):
    """The guest trapped: a crash of its interpreter, which stays inside.

    Attributes:
        trap_code: wasmtime's name of the trap, e.g. "MEMORY_OUT_OF_BOUNDS", or "" when it has none.
        guest_traceback: where the node was, as Python would print it, read from the crashed interpreter; untrusted text.
    """

    def __init__(
        self,
        message: str,
        *,
        trap_code: str = "",
        node: str = "",
        last_logs: Sequence[LogRecord] = (),
        guest_traceback: str = "",
    ) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self.trap_code = trap_code
        self.guest_traceback = guest_traceback


class GuestExitError(BrokenInstanceError):
    """The guest ended its own process (``os._exit``).

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, *, code: int, node: str = "", last_logs: Sequence[LogRecord] = ()) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self.code = code


class ProtocolError(BrokenInstanceError):
    """The guest's bytes or pointers break the protocol: its interpreter has been tampered with, or is broken."""


class ServiceError(ClocheError):
    """Raise it in a service (`Grants.services`): the node gets its message. Of any other exception it gets no more than the kind.

    The node sees a RuntimeError, or the builtin exception that a subclass also is, as in ``class Gone(ServiceError, LookupError)``.
    """
