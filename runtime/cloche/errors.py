"""Every error that Cloche raises, and for each: whose fault it is and whether the node can still be used.

`NodeError` leaves the node usable. `BrokenInstanceError` means that its instance has been closed: load or restore it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche._logs import LogRecord
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
    "ImageError",
    "InternalError",
    "LimitError",
    "NodeError",
    "NodeLoadError",
    "NodeRaisedError",
    "OutputError",
    "ProtocolError",
    "ServiceError",
]


class ClocheError(Exception):
    """Base of every error that Cloche raises by itself."""


class ImageError(ClocheError):
    """The guest image is missing, altered, stale, or built for another ABI or wasmtime. The message says what to run."""


class EncodeError(ClocheError, TypeError):
    """Your value cannot be sent to the guest. Raised before the guest is entered: the node is as it was.

    Attributes:
        path: where in the value, e.g. ``params.filters[3].fn``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class ClosedError(ClocheError):
    """The node or runtime has been closed, by you or by a `BrokenInstanceError` before."""


class InternalError(ClocheError):
    """A bug in Cloche, not in your program or the node. Please report it."""


class NodeError(ClocheError):
    """The node's own code failed. The node stays usable.

    You do not get it for a node that overruns a limit or brings its interpreter down: see `BrokenInstanceError`.

    Attributes:
        failure: the whole failure as data; all of it is untrusted text.
        node: the node's name.
    """

    def __init__(self, failure: Failure, node: str = "", remedy: str = "") -> None:
        head = f"{failure.exc_type}: {failure.message}" if failure.message else failure.exc_type
        super().__init__(head + (f"\n{remedy}" if remedy else ""))
        self.failure = failure
        self.node = node
        self.remedy = remedy

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


class BrokenInstanceError(ClocheError):
    """The instance is beyond use and has been closed. Other nodes are not affected.

    Attributes:
        node: the node's name.
        last_logs: the records drained after the break; they also went to the logger.
    """

    def __init__(self, message: str, *, node: str = "", last_logs: Sequence[LogRecord] = ()) -> None:
        super().__init__(message)
        self.node = node
        self.last_logs = tuple(last_logs)


class LimitError(BrokenInstanceError):
    """A limit that ends the instance was passed.

    Attributes:
        limit: the field of `Limits`, e.g. "deadline_s".
        value: what it was set to.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        value: float | int | None,
        node: str = "",
        last_logs: Sequence[LogRecord] = (),
    ) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self.limit = limit
        self.value = value


class DeadlineError(LimitError, TimeoutError):
    """The call ran longer than ``deadline_s``."""


class FuelError(LimitError):
    """The call burned more than ``fuel``."""


class OutputError(LimitError):
    """The call wrote more than ``output_bytes`` to stdout and stderr."""


class GuestTrapError(BrokenInstanceError):
    """The guest trapped: a crash of its interpreter, which stays inside.

    Attributes:
        trap_code: wasmtime's name of the trap, e.g. "MEMORY_OUT_OF_BOUNDS", or "" when it has none.
    """

    def __init__(
        self, message: str, *, trap_code: str = "", node: str = "", last_logs: Sequence[LogRecord] = ()
    ) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self.trap_code = trap_code


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
