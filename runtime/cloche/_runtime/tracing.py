"""`Tracing`: what a runtime tells of its calls to `cloche.telemetry`, which alone imports OpenTelemetry.

A runtime without it makes its sandboxes without any of this: nothing here is on the path of their calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from cloche._arguments import checked

if TYPE_CHECKING:
    from cloche._sandbox import CheckedSandbox, Exchange, Stats
    from cloche_wire import Reply

__all__ = [
    "BatchTrace",
    "PoolLike",
    "PoolTrace",
    "RunLike",
    "RunTrace",
    "RuntimeLike",
    "SandboxTrace",
    "Tracing",
    "chosen",
]


class SandboxTrace(Protocol):
    """Follows the calls of one sandbox. No method raises an `Exception` of its own: a call does not fail for its trace."""

    def around(
        self, sandbox: CheckedSandbox, exchange: Exchange, op: int, operands: Sequence[Any], root: str
    ) -> tuple[Reply, Any]:
        """Make a call: call `exchange` with the other arguments, once. What it raises is raised on."""

    def failed(self, error: BaseException) -> None:
        """The guest answered the last call with a failure, for which the caller gets this error."""

    def broke(self, error: BaseException, recovered: str | None) -> None:
        """The guest has broken; `recovered` is that of `BreakRecord`."""

    def closed(self, *, is_collected: bool) -> None:
        """The sandbox is closed. `is_collected`: by the garbage collector, in the midst of anything."""


class PoolTrace(Protocol):
    """Follows the items of a pool. Called without any lock of the pool's; it raises no `Exception`."""

    def ended(self, outcome: str, waited_s: float | None) -> None:
        """An item has ended: "done", "failed", "cancelled" or "timed_out"; it waited so long for a node, or got none."""


class BatchTrace(Protocol):
    """Follows one batch of a node of a pipeline."""

    def answered(self, outcomes: Sequence[object], numbers: Sequence[int | None]) -> None:
        """The node has answered: what became of each item, an exception or its outputs, and the items' numbers."""


class RunTrace(Protocol):
    """Follows one run of a pipeline."""

    def enter(self) -> None:
        """Make the run's span current, in a context that is the run's alone."""

    def fed(self, number: int) -> None:
        """An item enters the pipeline, on the thread that takes the items."""

    def batch(
        self, node: str, place: str, numbers: Sequence[int | None], *, end: bool
    ) -> AbstractContextManager[BatchTrace]:
        """Around one batch: the numbers of its items (None: made at the end of the input), and whether the input ends behind it."""

    def ended(self, error: BaseException | None) -> None:
        """The run has ended, by an error or without one. A second time it changes nothing."""


class _NodeLike(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def stats(self) -> Stats: ...


class RuntimeLike(Protocol):
    """What is read of a runtime when its figures are collected."""

    @property
    def nodes(self) -> Sequence[_NodeLike]:
        """Its living nodes."""


class _PoolStatsLike(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def busy(self) -> int: ...

    @property
    def queued(self) -> int: ...


class PoolLike(Protocol):
    """What is read of a pool.

    Attributes:
        is_closed: whether it is closed, or being closed.
    """

    is_closed: bool

    def stats(self) -> _PoolStatsLike:
        """What it does now."""


class RunLike(Protocol):
    """What is read of a run of a pipeline."""

    def waiting(self) -> Mapping[str, int]:
        """Items that wait for each node."""


class Tracing(ABC):
    """Base class of `cloche.telemetry.Telemetry`. One may serve any number of runtimes.

    Attributes:
        default: for runtimes that are given none; None: they do without. `cloche.telemetry.ClocheInstrumentor` sets it.
    """

    default: ClassVar[Tracing | None] = None

    @abstractmethod
    def follow_runtime(self, runtime: RuntimeLike) -> None:
        """Collect the figures of a runtime, until it is garbage."""

    @abstractmethod
    def follow_pool(self, name: str, pool: PoolLike) -> PoolTrace:
        """Collect the figures of a pool, until it is closed or garbage. Returns what follows its items."""

    @abstractmethod
    def follow_sandbox(self, *, session_id: str | None, isolation: str, info: Mapping[str, Any] | None) -> SandboxTrace:
        """The trace of a new sandbox.

        Args:
            session_id: see `CallRecord`.
            isolation: "none" or "process".
            info: the guest's description of the node, if the sandbox begins with a snapshot; None: it is still to be loaded.
        """

    @abstractmethod
    def follow_run(self, pipeline: str, session_id: str | None) -> RunTrace:
        """The trace of a new run of a pipeline; it begins now."""

    @abstractmethod
    def follow_queues(self, pipeline: str, run: RunLike) -> None:
        """Collect the lengths of a run's queues, until the run is garbage."""


def chosen(telemetry: Tracing | None) -> Tracing | None:
    """The telemetry of a runtime or pipeline: what it was given, or else the default.

    Raises:
        TypeError: it was given something else.
    """
    if telemetry is None:
        return Tracing.default
    return checked("telemetry", telemetry, Tracing, "a cloche.telemetry.Telemetry, or None")  # type: ignore[type-abstract]  # nothing is made of it
