"""Every error that Cloche raises. Each says whose fault it is, and whether the node can still be used.

`NodeError` and `DeadlineError` leave the node usable. After a `BrokenInstanceError` the node's instance is closed: load or
restore the node again, or let ``on_break`` of `Runtime.load` do that for you.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Self

from cloche import _pickles
from cloche.texts import MAX_TEXT, clean_ends, line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche._records import LogRecord, StreamPosition
    from cloche_wire import Failure, Frame

__all__ = [
    "BrokenInstanceError",
    "BudgetError",
    "CallInterruptedError",
    "ClocheError",
    "ClosedError",
    "DeadlineError",
    "EncodeError",
    "FuelError",
    "GuestExitError",
    "GuestTrapError",
    "HardBudgetError",
    "HardDeadlineError",
    "HardInterruptedError",
    "ImageError",
    "InternalError",
    "LimitError",
    "NodeError",
    "NodeLoadError",
    "NodeRaisedError",
    "OutputError",
    "PoolTimeoutError",
    "ProtocolError",
    "ReloadError",
    "ServiceError",
    "StreamLimitError",
]


_MAX_SHOWN: Final = MAX_TEXT
"""Characters of a guest's traceback that are shown with an error; of a longer one the beginning and the end."""


def _as_note(node: str, traceback: str) -> str:
    """A guest's traceback as a note (PEP 678), which Python prints with an error that nobody catches."""
    text = clean_ends(traceback, _MAX_SHOWN)
    return f"In node {line(node, 200)!r}:\n{text}" if node else f"In the node:\n{text}"


def name_item(error: BaseException, item: int | None) -> None:
    """Set the index of the item that failed, unless the error has one: then it comes from a stream or pool further inside."""
    if isinstance(error, ClocheError) and error.item is None and item is not None:
        error.item = item
        error.add_note(f"It was item {item}, counted from 0.")


class ClocheError(Exception):
    """Base class of every error that Cloche raises.

    Errors can be pickled and copied, so they pass through process pools with all their attributes, notes and causes. An attribute
    that cannot be pickled (``data`` may hold anything of yours) is left out, and a note says so.

    Attributes:
        item: index, from 0, of the item that failed, in a stream or in a pool's map; None elsewhere.
        limit: the field of `Limits` that was exceeded, e.g. "deadline_s", or the setting of the machine, as "vm.max_map_count"; ""
            if the error is about no limit.
        value: what that limit is set to.
        reached: the amount that exceeded it, in the same unit, as far as it was counted.
        recording: path of the file with the recording of the failed call; "" if none was written (``record`` of `Runtime.load`).
    """

    recording: str = ""
    item: int | None = None
    limit: str = ""
    value: float | None = None
    reached: float | None = None

    if not TYPE_CHECKING:  # a checker would take every misspelt attribute for one that this method makes

        def __getattr__(self, name: str) -> Any:
            """Make the first note when somebody looks at the notes: most errors are caught, and it takes a tenth of a call."""
            if name == "__notes__" and (traceback := self._traceback()):
                notes = self.__dict__["__notes__"] = [_as_note(getattr(self, "node", ""), traceback)]
                return notes
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def _traceback(self) -> str:
        """The guest's traceback that is shown as a note; "": none."""
        return ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error with all its attributes, notes and causes; what cannot be pickled of them is left out, with a note."""
        getattr(self, "__notes__", None)  # makes the first one, which is the first in the other process as well
        return _pickles.reduced(self, super().__reduce__(), ClocheError)

    def __copy__(self) -> Self:
        return _pickles.copied(self, super().__reduce__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        import copy  # whoever comes here has imported it

        return _pickles.copied(self, super().__reduce__(), lambda value: copy.deepcopy(value, memo), memo)


class ImageError(ClocheError):
    """The guest image is missing, altered, stale, or built for another ABI or wasmtime. The message says what to run."""


class EncodeError(ClocheError, TypeError):
    """Your value cannot be sent to the guest. It is raised before the guest is entered, so the node's state has not changed.

    Attributes:
        path: which part of the value, e.g. ``params.filters[3].fn``.
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
    """The node, pool or runtime is closed: you closed it, or the node broke in an earlier call (`BrokenInstanceError`)."""


class InternalError(ClocheError):
    """A bug in Cloche, not in your program or the node. Please report it."""


class NodeError(ClocheError):
    """The node's own code failed. The node stays usable.

    Python prints the node's own lines with an error that nobody catches: `guest_traceback` is among the error's notes, cleaned,
    and cut in the middle if it is long.

    You do not get it for a node that runs too long (`DeadlineError`) or crashes its interpreter (`BrokenInstanceError`). A node
    that runs out of memory or stack gets a ``MemoryError`` or ``RecursionError``; if it does not handle that, you get a
    `NodeError` with ``limit`` set.

    Attributes:
        failure: the whole failure as data; its texts are untrusted.
        node: the node's name.
        remedy: what you can do about it, or "".
    """

    def __init__(self, failure: Failure, node: str = "", remedy: str = "") -> None:
        super().__init__(f"{failure.exc_type}: {failure.message}" if failure.message else failure.exc_type)
        self.failure = failure
        self.node = node
        self.remedy = remedy

    def _traceback(self) -> str:
        failure: Failure | None = self.__dict__.get("failure")  # missing while the error is being unpickled
        return failure.format() if failure and (failure.frames or failure.cause or failure.notes) else ""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.remedy}" if self.remedy else super().__str__()

    @property
    def exc_type(self) -> str:
        """Qualified name of the class of the exception that was raised in the guest, e.g. ``ValueError``."""
        return self.failure.exc_type

    @property
    def message(self) -> str:
        """The text of the guest's exception, as ``str()`` gives it."""
        return self.failure.message

    @property
    def frames(self) -> Sequence[Frame]:
        """The guest's traceback, outermost frame first: file, line, function, text."""
        return self.failure.frames

    @property
    def guest_traceback(self) -> str:
        """The guest's traceback as Python would print it, with the exceptions that caused this one."""
        return self.failure.format()

    @property
    def cause(self) -> Failure | None:
        """The chained exception (``__cause__``, or ``__context__``), if any."""
        return self.failure.cause


class NodeLoadError(NodeError):
    """The node could not be loaded: its code does not compile or import, the entry does not exist, or its ``__init__`` raised."""

    @property
    def phase(self) -> str:
        """Which step failed: "compile", "import", "entry" or "init"."""
        return self.failure.phase


class NodeRaisedError(NodeError):
    """The node raised an exception during a call, or returned a value that cannot be encoded."""


class CallInterruptedError(NodeError):
    """The caller ended the call: by `Node.interrupt`, by closing the node with a ``timeout``, or by cancelling the task or future.

    ``cloche_guest.Cancelled`` was raised in the node's Python code, its ``finally`` blocks ran, and the node stays usable with its
    state. If it was still running ``grace_s`` later, you get a `HardInterruptedError` instead. `guest_traceback` says where the
    node was. You do not get it for a node that runs too long: that is a `DeadlineError`.
    """

    def __init__(
        self, message: str, *, node: str = "", failure: Failure | None = None, last_logs: Sequence[LogRecord] = ()
    ) -> None:
        Exception.__init__(self, message)
        self.node = node
        self.remedy = ""
        self.last_logs = tuple(last_logs)
        if failure is None:
            from cloche_wire import Failure  # errors are imported by all modules, and few programs interrupt calls

            failure = Failure("call", "cloche_guest.Cancelled", "")
        self.failure = failure


class StreamLimitError(ClocheError):
    """A stream exceeded ``stream_items`` or ``stream_s``. Its generators have been closed; the node stays usable.

    It is raised between two steps of the stream. A single step that runs too long raises a `DeadlineError` instead.

    Attributes:
        node: the node's name.
    """

    def __init__(self, message: str, *, limit: str, value: float, reached: float, node: str = "") -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value
        self.reached = reached
        self.node = node


class PoolTimeoutError(ClocheError, TimeoutError):
    """An item waited too long for a node of the pool (``acquire_timeout_s``), or for room in its queue (``queue_timeout_s``); or a
    block of `cloche.parking.Sessions.node` for its turn (``timeout_s``).

    No node was touched. ``limit``, ``value`` and ``reached`` say which of these it was, and how long the item has waited. You do
    not get it for an item that runs too long: that is a `DeadlineError`.
    """

    def __init__(self, message: str, *, limit: str, value: float, reached: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.value = value
        self.reached = reached


class BrokenInstanceError(ClocheError):
    """The node's instance cannot be used any more: it has been closed, and its memory freed. Other nodes are not affected.

    Cloche never repeats the call that broke. Whether the node itself continues in a new instance depends on ``on_break`` of
    `Runtime.load`; `recovered` says whether it does.

    Attributes:
        node: the node's name.
        last_logs: log records that were still in the instance when it broke; they also went to the logger.
        data: the arguments of ``process``, or the item of a stream, that the node was working on; empty for other calls.
        recovered: "restart" or "restore" if the node continues in a new instance; None if the node is broken.
        lost_calls: number of answered calls and stream steps whose effect on the node's state is lost with the instance.
        resume_at: the position at which `Node.resume` continues the stream; None if no stream can be resumed.
        at_load: whether it broke while it was being loaded, so that there is no node.
        in_pool: whether the node was one of a pool, which puts a new one in its place: there is nothing to load again.
    """

    data: tuple[Any, ...] = ()
    recovered: Literal["restart", "restore"] | None = None
    lost_calls: int = 0
    resume_at: StreamPosition | None = None
    at_load: bool = False
    in_pool: bool = False

    def __init__(self, message: str, *, node: str = "", last_logs: Sequence[LogRecord] = ()) -> None:
        super().__init__(message)
        self.node = node
        self.last_logs = tuple(last_logs)

    def __str__(self) -> str:
        if self.at_load:
            remedy = f": raise Limits.{self.limit}" if isinstance(self, LimitError) else ""
            return f"{super().__str__()}; so there is no node to use{remedy}"
        if self.in_pool:
            return f"{super().__str__()}; its instance is closed, and the pool makes a new one for the next item"
        if self.recovered is None:
            return f"{super().__str__()}; its instance is closed: load it again"
        lost = f", and what {self.lost_calls} calls since then changed is lost" if self.lost_calls else ""
        state = "it was loaded" if self.recovered == "restart" else "of its last checkpoint"
        return f"{super().__str__()}; the node goes on from the state {state}{lost}"


class LimitError(ClocheError):
    """A call exceeded a limit and was ended: ``limit``, ``value`` and ``reached`` say which one and by how much.

    Attributes:
        node: the node's name.
        last_logs: log records of the call that had not been delivered when it ended; they also went to the logger.
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

    The node was interrupted: ``cloche_guest.DeadlineExceeded`` was raised in its Python code, its ``finally`` blocks ran, and it
    stays usable with its state. (A node that was still loading is not loaded.) If the node was still running ``grace_s`` after
    its deadline, you get a `HardDeadlineError` instead.

    Attributes:
        guest_traceback: where the node was interrupted, as Python would print it; untrusted text.
        failure: the node's failure as data; None if the node could not report one.
    """

    failure: Failure | None = None

    def __init__(self, message: str, *, guest_traceback: str = "", **facts: Any) -> None:
        super().__init__(message, **facts)
        self.guest_traceback = guest_traceback

    def _traceback(self) -> str:
        return str(self.__dict__.get("guest_traceback", ""))


class HardDeadlineError(DeadlineError, BrokenInstanceError):
    """The node was still running ``grace_s`` after its deadline, so its instance was stopped and closed."""


class BudgetError(LimitError):
    """A `Budget` is used up. The node stays usable: call it again when there is something left.

    A call or load that finds the budget used up is refused, and the guest is not entered. A call that is under way when the
    processor time is used up is interrupted, as at a deadline. ``limit`` names the argument of `Budget`: "processor_s",
    "memory_bytes" or "calls_per_s".

    Attributes:
        budget: the budget's name.
        retry_after_s: seconds after which it is worth trying again; None: it depends on something else than time.
        guest_traceback: where the node was interrupted, as Python would print it, untrusted; "" if the call was refused.
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str = "",
        retry_after_s: float | None = None,
        guest_traceback: str = "",
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.budget = budget
        self.retry_after_s = retry_after_s
        self.guest_traceback = guest_traceback


class HardBudgetError(BudgetError, BrokenInstanceError):
    """The node was still running ``grace_s`` after its budget was used up, so its instance was stopped and closed."""

    def __str__(self) -> str:
        if self.at_load:
            return f"{Exception.__str__(self)}; so there is no node to use"
        return super().__str__()


class HardInterruptedError(CallInterruptedError, BrokenInstanceError):
    """The caller ended the call, and the node was still running ``grace_s`` later: its instance was stopped and closed."""


class FuelError(LimitError, BrokenInstanceError):
    """The call used more WebAssembly instructions than `Limits.fuel`."""


class OutputError(LimitError, BrokenInstanceError):
    """The call wrote more than ``output_bytes`` to stdout and stderr."""


class GuestTrapError(BrokenInstanceError):
    """The guest trapped: its interpreter crashed. The crash does not affect this process.

    Attributes:
        trap_code: wasmtime's name of the trap, e.g. "MEMORY_OUT_OF_BOUNDS", or "" if it has no name.
        guest_traceback: where the node was, as Python would print it. It is read from the memory of the crashed interpreter, so it
            is untrusted text.
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

    def _traceback(self) -> str:
        return str(self.__dict__.get("guest_traceback", ""))


class GuestExitError(BrokenInstanceError):
    """The guest ended its own process (``os._exit``).

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, *, code: int, node: str = "", last_logs: Sequence[LogRecord] = ()) -> None:
        super().__init__(message, node=node, last_logs=last_logs)
        self.code = code


class ProtocolError(BrokenInstanceError):
    """The guest sent bytes or addresses that violate the protocol: its interpreter was tampered with, or is damaged."""


class ReloadError(ClocheError):
    """A node was not reloaded (`Node.reload`), and goes on as before.

    Attributes:
        report: the `cloche.replay.ReloadReport`, which says where the new code differs; None: it was not compared.
    """

    report: Any = None


class ServiceError(ClocheError):
    """Raise it in a service (`Grants.services`) to give the node a message. Of other exceptions the node learns only the class.

    The node sees a ``RuntimeError``. If your class derives from a builtin exception as well, as in
    ``class Gone(ServiceError, LookupError)``, the node sees that one.
    """
