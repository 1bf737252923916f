"""The figures of one runtime: what its nodes have used together, the closed ones included."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from cloche import _forks
from cloche._html import table
from cloche._requests import hold

if TYPE_CHECKING:
    from cloche._sandbox import CheckedSandbox, Exchange
    from cloche.errors import ClocheError
    from cloche_wire import Reply

__all__ = ["RuntimeStats", "SandboxWatch", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStats:
    """What the nodes of a runtime have used so far, together. All numbers are of the same moment.

    Attributes:
        nodes: nodes that live now: neither closed nor broken.
        loads: nodes that were made so far, by `Runtime.load`, `Runtime.restore`, `Node.clone` and pools.
        calls: calls into guests, including loading and the steps of streams; of closed nodes, too.
        seconds: wall time in guests. It grows when a call ends.
        breaks: how many sandboxes have broken, while loading or later.
        idle_stores: sandboxes of closed nodes that this process keeps for the next nodes, some 0.7 MB each. Those in worker
            processes are not counted.
        workers: living worker processes (`Runtime.workers`).
        private_bytes: sum of `Stats.private_bytes` of the nodes that live when this attribute is read. It takes a look at the
            kernel's page tables for each node, which ``stats`` itself does not: up to a millisecond for each node.
    """

    nodes: int
    loads: int
    calls: int
    seconds: float
    breaks: int
    idle_stores: int
    workers: int
    _measure: Callable[[], int] | int = field(default=0, repr=False, compare=False)

    @property
    def private_bytes(self) -> int:
        """See the class."""
        return self._measure if isinstance(self._measure, int) else self._measure()

    def _repr_html_(self) -> str:
        names = (*(each.name for each in fields(self)[:-1]), "private_bytes")
        return table("RuntimeStats", ((name, getattr(self, name)) for name in names))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with the number that `private_bytes` has now."""
        numbers = {each.name: getattr(self, each.name) for each in fields(self)[:-1]}
        return _stats_of, (numbers, self.private_bytes)


def _stats_of(numbers: dict[str, Any], private_bytes: int) -> RuntimeStats:
    return RuntimeStats(**numbers, _measure=private_bytes)


class Used(NamedTuple):
    """Calls and wall time of one or more sandboxes."""

    calls: int = 0
    seconds: float = 0.0

    def plus(self, other: Used) -> Used:
        """The sum."""
        return Used(self.calls + other.calls, self.seconds + other.seconds)


class Tally:
    """Adds up the calls and times of all sandboxes of a runtime. Thread-safe, and safe in finalizers.

    Nothing is counted while a node is called: a living sandbox has its own counts, and leaves them here when it is closed.
    """

    def __init__(self) -> None:
        self._watches: weakref.WeakSet[SandboxWatch] = weakref.WeakSet()
        self._past = Used()
        self._late: deque[SandboxWatch] = deque()
        self._is_adding = False
        self.loads = self.breaks = 0
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Get a lock that no thread of the parent process holds."""
        self._lock = threading.RLock()
        self._is_adding = False

    def follow(self, sandbox: CheckedSandbox, watch: SandboxWatch) -> None:
        """Count what a new sandbox uses, until it is closed."""
        hold(self._lock, self._watches.add, watch)
        sandbox.watch = watch

    def count_load(self) -> None:
        """Count a node that was made."""
        hold(self._lock, self._count, "loads")

    def count_break(self) -> None:
        """Count a sandbox that broke."""
        hold(self._lock, self._count, "breaks")

    def _count(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def retire(self, watch: SandboxWatch) -> None:
        """Keep the counts of a sandbox that is closed."""
        self._late.append(watch)
        hold(self._lock, self._add)

    def _add(self) -> None:
        if self._is_adding:  # the garbage collector has closed a sandbox in the middle of this very function
            return
        self._is_adding = True
        try:
            while self._late:
                watch = self._late.popleft()
                self._watches.discard(watch)
                self._past = self._past.plus(watch.used)
        finally:
            self._is_adding = False

    def sum(self) -> Used:
        """What all sandboxes have used so far."""
        return hold(self._lock, self._sum)

    def _sum(self) -> Used:
        self._add()
        total = self._past
        for watch in list(self._watches):
            total = total.plus(watch.used)
        return total


class SandboxWatch:
    """Follows one sandbox for a `Tally`. Has the interface `cloche._sandbox.Watch`.

    Args:
        tally: the runtime's.
        sandbox: the sandbox.
        calls: number of calls that the sandbox has inherited.
    """

    __slots__ = ("__weakref__", "_calls", "_final", "_sandbox", "_seconds", "_tally", "is_supervised")

    def __init__(self, tally: Tally, sandbox: CheckedSandbox, calls: int) -> None:
        self._tally = tally
        self._sandbox = weakref.ref(sandbox)
        self._calls = calls
        self._seconds = 0.0
        self._final: Used | None = None
        self.is_supervised = False

    @property
    def used(self) -> Used:
        """What the sandbox has used, without what it has inherited."""
        sandbox = self._sandbox()
        if self._final is not None or sandbox is None:
            return self._final or Used()
        return Used(sandbox.calls - self._calls, sandbox.guest_seconds - self._seconds)

    def inherit(self, seconds: float) -> None:
        """See `Watch`."""
        self._seconds += seconds

    def around(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Watch`."""
        return exchange(op, operands, root)

    def explained(self, error: ClocheError) -> ClocheError:
        """See `Watch`. There is nothing to explain."""
        return error

    def broke(self, error: BaseException, op: int, call: int) -> None:
        """See `Watch`."""
        self._tally.count_break()

    def report_break(self, recovered: str | None = None) -> None:
        """See `Watch`. Nobody wants to know."""

    def closed(self, calls: int, seconds: float) -> None:
        """See `Watch`."""
        if self._final is None:
            self._final = Used(calls - self._calls, seconds - self._seconds)
            self._tally.retire(self)
