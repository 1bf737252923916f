"""`BudgetWatch`: has each call of a sandbox pay from a `Budget`, and says so where the budget has ended one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloche._runtime.hooks import ReportingWatch
from cloche._wasm import Stop
from cloche.budget import Seat
from cloche.errors import BrokenInstanceError, BudgetError, ClocheError, DeadlineError, HardBudgetError, NodeError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._runtime.figures import Tally
    from cloche._runtime.hooks import Hooks
    from cloche._sandbox import CheckedSandbox, Exchange
    from cloche.budget import Budget

__all__ = ["BudgetWatch"]

_FREE: Final = frozenset(
    map(int, (Op.RESEED, Op.STREAM_FEED, Op.STREAM_NEXT, Op.STREAM_END, Op.STREAM_THROW, Op.STREAM_CLOSE))
)
"""Messages that do not count as calls: a stream has counted when it was opened, and a clone does so at its first call."""
_ENDING: Final = frozenset(map(int, (Op.RESEED, Op.STREAM_CLOSE)))
"""Messages that are charged, but neither refused nor ended, as ``cleanup`` is: what was begun shall be ended in order, and a node
that was brought back shall not be lost. Each follows a call that was let in, and has the deadline of any call."""


def _size(sandbox: CheckedSandbox) -> int:
    """Linear memory of a sandbox. A worker process may say anything, but no more than the node may have counts."""
    return min(sandbox.memory_bytes, sandbox.limits.memory_bytes)


class _Here(threading.local):
    """Processor time, in nanoseconds, of the calls with a budget that have ended inside the current one on this thread."""

    inside = 0


_here: Final = _Here()


class BudgetWatch(ReportingWatch):
    """Follows one sandbox whose node has a budget.

    Args:
        tally: see `ReportingWatch`.
        sandbox: see there.
        calls: see there.
        hooks: see there.
        lock: see there.
        session_id: see there.
        budget: the budget.
    """

    __slots__ = ("_budget", "_seat")

    def __init__(
        self,
        tally: Tally,
        sandbox: CheckedSandbox,
        calls: int,
        hooks: Hooks,
        lock: NodeLock,
        session_id: str | None,
        budget: Budget,
    ) -> None:
        super().__init__(tally, sandbox, calls, hooks, lock, session_id)
        self._budget = budget
        self._seat = Seat()

    def enter(self, sandbox: CheckedSandbox) -> None:
        """Count the memory of the sandbox.

        Raises:
            BudgetError: there is not so much left.
        """
        self._budget.enter(self._seat, _size(sandbox), sandbox.name)

    def around(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Watch`."""
        return super().around(partial(self._paid, exchange), op, operands, root)

    def _paid(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        sandbox, budget = self._sandbox(), self._budget
        if sandbox is None:
            return exchange(op, operands, root)
        if op in _ENDING or (op == Op.INVOKE and operands and operands[0] == "cleanup"):
            sandbox.pay_from(0, None)  # charged below
        else:
            budget.admit(sandbox.name, costs=op not in _FREE)
            sandbox.pay_from(budget.account, budget.left_ns())
        room = budget.room(self._seat)
        if room is not None:
            sandbox.bound_memory(min(sandbox.limits.memory_bytes, max(self._seat.bytes, room)))
        try:
            return self._charged(sandbox, exchange, op, operands, root)
        except DeadlineError as error:
            raise self._explained(error) from error.__cause__

    def _charged(
        self, sandbox: CheckedSandbox, exchange: Exchange, op: int, operands: Sequence[Any], root: str
    ) -> tuple[Reply, Any]:
        """Make a call, and charge what the native core has not: encoding and decoding, and all that a worker process does."""
        outer, began = _here.inside, time.thread_time_ns()
        _here.inside = 0
        try:
            return exchange(op, operands, root)
        finally:
            here = time.thread_time_ns() - began
            self._budget.charge(sandbox.unpaid_ns(here - _here.inside))
            _here.inside = outer + here
            self._seat.bytes = _size(sandbox)

    def _explained(self, error: ClocheError) -> ClocheError:
        """See `Watch.explained`. An error about a limit that is the budget's becomes a `BudgetError`, or says so."""
        sandbox, budget = self._sandbox(), self._budget
        if sandbox is None:
            return error
        if isinstance(error, DeadlineError) and not isinstance(error, BudgetError) and sandbox.told is Stop.BUDGET:
            return self._ended(sandbox, error)
        room = budget.room(self._seat)
        if isinstance(error, NodeError) and error.limit == "memory_bytes" and room is not None:
            most = max(room, self._seat.bytes)
            if most < sandbox.limits.memory_bytes:
                error.value = most
                error.remedy = (
                    f"It had {sandbox.memory_bytes} bytes and wanted more: the nodes of its budget may have "
                    f"{budget.memory_bytes} together (Budget.memory_bytes). Close others of them, or raise that."
                )
        return error

    def _ended(self, sandbox: CheckedSandbox, error: DeadlineError) -> BudgetError:
        made = self._budget.exceeded(sandbox.name)
        facts: dict[str, Any] = {
            name: getattr(made, name) for name in ("limit", "value", "reached", "node", "budget", "retry_after_s")
        }
        text, kind = Exception.__str__(made), BudgetError
        if isinstance(error, BrokenInstanceError):
            text, kind = f"{text}; its call went on for the grace, and was stopped", HardBudgetError
        raised = kind(text, guest_traceback=error.guest_traceback, last_logs=error.last_logs, **facts)
        if isinstance(error, BrokenInstanceError) and isinstance(raised, BrokenInstanceError):
            raised.data = error.data
        raised.recording = error.recording
        return raised

    def closed(self, calls: int, seconds: float) -> None:
        """See `Watch`."""
        self._seat.bytes = 0
        super().closed(calls, seconds)
