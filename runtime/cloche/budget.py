"""What the nodes of one tenant may use together: processor time, memory, calls in a second."""

from __future__ import annotations

import math
import threading
import time
import weakref
from array import array
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn

from cloche import _forks
from cloche._html import table
from cloche._pickles import handle
from cloche._requests import hold
from cloche.errors import BudgetError
from cloche.limits import any_float, whole_number
from cloche.texts import short

__all__ = ["Budget", "BudgetStats"]

_NS: Final = 1_000_000_000
_LEAST: Final = 0.01
"""The part of a bucket that has to be there again before it is worth coming again."""
_ENDLESS: Final = (1 << 62) - 1
_LIMIT, _ELSEWHERE, _USED = 0, 1, 2
"""Places in ``struct cloche_account`` (runtime/native/cloche.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStats:
    """What has been used of a budget so far.

    Attributes:
        processor_s: seconds of processor time that calls have used in all. It grows when a call ends.
        processor_left_s: seconds that are left now; negative if calls that ran at the same time have used more; None: no limit.
        memory_bytes: linear memory of the nodes that live, as of the end of their last calls.
        nodes: number of these nodes.
        calls: calls that were let in.
        refused: calls and loads that were refused.
    """

    processor_s: float
    processor_left_s: float | None
    memory_bytes: int
    nodes: int
    calls: int
    refused: int

    def _repr_html_(self) -> str:
        return table("BudgetStats", ((each.name, getattr(self, each.name)) for each in fields(self)))


class Seat:
    """The memory of one node, as a budget counts it.

    Attributes:
        bytes: linear memory; 0 once the node is closed.
    """

    __slots__ = ("__weakref__", "bytes")

    def __init__(self) -> None:
        self.bytes = 0


class Budget:
    """What all nodes that share it may use together, in whatever runtimes of this process. Thread-safe.

    Give the same object to every load of a tenant: ``runtime.load(..., budget=budget)``, also to `Runtime.restore` and
    `Runtime.pool`; clones have the budget of their original. Where it is used up, calls and loads raise a `BudgetError`, which says
    when to come again. Nodes without a budget pay nothing for this.

    - *Processor time* is that of the threads on which calls run, with encoding and decoding, and with services and mounts that are
      carried out on the same thread. Sleeping and waiting are free. A call that is under way when the time is used up is ended as
      at a deadline (`BudgetError`; after `Limits.grace_s` a `HardBudgetError`). With ``metering="none"`` it is not.
    - *Memory* is linear memory: for each node at least the 41 MiB of the interpreter, though most are shared with the image. A
      node that needs more than is left gets a MemoryError.
    - *Calls* are loads, calls of methods, `Node.get`, and streams: a stream is one, whatever it yields.

    Args:
        name: whose budget it is, for errors.
        processor_s: seconds of processor time; None: no limit.
        per_s: seconds in which `processor_s` refills, evenly; None: it does not refill.
        memory_bytes: bytes of linear memory of all living nodes; None: no limit.
        calls_per_s: calls in a second, on average; None: no limit.
        burst: calls that may come at once, after a pause; None: as many as in a second, and at least one.
        clock: returns seconds, for `per_s` and `calls_per_s`; a test may give its own.

    Raises:
        TypeError: an argument has the wrong class; the message names it.
        ValueError: a number is out of range, or does not go with the others.
    """

    def __init__(
        self,
        name: str = "",
        *,
        processor_s: float | None = None,
        per_s: float | None = None,
        memory_bytes: int | None = None,
        calls_per_s: float | None = None,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name is {short(name)}: give a text")
        if not callable(clock):
            raise TypeError(f"clock is {short(clock)}: give a function that returns seconds")
        if per_s is not None and processor_s is None:
            raise ValueError("per_s is for processor_s: give both")
        if burst is not None and calls_per_s is None:
            raise ValueError("burst is for calls_per_s: give both")
        self.name = name
        self.processor_s = _seconds("processor_s", processor_s)
        self.per_s = _seconds("per_s", per_s)
        self.memory_bytes = _count("memory_bytes", memory_bytes)
        self.calls_per_s = _seconds("calls_per_s", calls_per_s)
        least = max(1, math.ceil(self.calls_per_s)) if self.calls_per_s is not None else None
        self.burst = _count("burst", burst) if burst is not None else least
        if self.processor_s is self.memory_bytes is self.calls_per_s is None:
            raise ValueError("a budget of nothing: give processor_s, memory_bytes or calls_per_s")
        self._clock = clock
        self._account = array("q", [_ENDLESS, 0, 0, 0, 0, 0])
        now = clock()
        self._used = 0.0, 0, now
        """Seconds in the bucket, the nanoseconds of the account that are in there, and when that was. Replaced as a whole."""
        self._tokens = float(self.burst or 0), now
        """Calls that may come, and when that was. Replaced as a whole."""
        self._seats: weakref.WeakSet[Seat] = weakref.WeakSet()
        self._calls = self._refused = 0
        self.after_fork()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Get a lock that no thread of the parent process holds. The child's copy goes on by itself."""
        self._lock = threading.RLock()

    @property
    def stats(self) -> BudgetStats:
        """What has been used so far."""
        return hold(self._lock, self._stats)

    def _stats(self) -> BudgetStats:
        seats = [seat for seat in self._seats if seat.bytes]
        return BudgetStats(
            processor_s=self._spent_ns() / _NS,
            processor_left_s=None if self.processor_s is None else self._left_s(),
            memory_bytes=sum(seat.bytes for seat in seats),
            nodes=len(seats),
            calls=self._calls,
            refused=self._refused,
        )

    # What follows is for Cloche's own modules.

    @property
    def account(self) -> int:
        """Address of the account from which the native core pays."""
        return self._account.buffer_info()[0]

    def admit(self, node: str, *, costs: bool) -> None:
        """Let in a call, or refuse it.

        Args:
            node: name of the node, for the error.
            costs: whether it counts as one of `calls_per_s`.

        Raises:
            BudgetError: processor time or calls are used up.
        """
        hold(self._lock, self._admit, node, costs, True)

    def check(self, node: str, *, costs: bool) -> None:
        """Refuse a load early, before anything is made for it. Raises as `admit` does, and takes nothing."""
        hold(self._lock, self._admit, node, costs, False)

    def _admit(self, node: str, costs: bool, takes: bool) -> None:
        if self.processor_s is not None and self._left_s() <= 0:
            self._refused += 1
            raise self.exceeded(node)
        if costs and self.calls_per_s is not None and self.burst is not None:
            tokens, at = self._tokens
            now = self._clock()
            tokens = min(self.burst, tokens + max(0.0, now - at) * self.calls_per_s)
            if tokens < 1:
                self._refused += 1
                raise self._error(
                    node,
                    f"{self.calls_per_s:g} calls in a second are allowed, {self.burst} at once",
                    "calls_per_s",
                    self.calls_per_s,
                    self.burst + 1 - tokens,
                    (1 - tokens) / self.calls_per_s,
                )
            self._tokens = tokens - takes, now
        self._calls += takes

    def left_ns(self) -> int | None:
        """Nanoseconds of processor time that are left, 0 at least; None: no limit."""
        return None if self.processor_s is None else max(0, round(hold(self._lock, self._left_s) * _NS))

    def exceeded(self, node: str) -> BudgetError:
        """The error of a budget whose processor time is used up."""
        limit = self.processor_s or 0.0
        hold(self._lock, self._left_s)
        used = self._used[0]
        text = f"{used:.3f} s of processor time are used, {limit:g} s are allowed"
        if self.per_s is None:
            return self._error(node, text, "processor_s", limit, used, None)
        wait = max(0.0, used - (1 - _LEAST) * limit) * self.per_s / limit
        return self._error(node, f"{text} in {self.per_s:g} s", "processor_s", limit, used, wait)

    def charge(self, nanoseconds: int) -> None:
        """Count processor time that was used outside of the native core."""
        if nanoseconds > 0:
            hold(self._lock, self._charge, nanoseconds)

    def _charge(self, nanoseconds: int) -> None:
        self._account[_ELSEWHERE] += nanoseconds

    def enter(self, seat: Seat, size: int, node: str) -> None:
        """Count the memory of a new node.

        Raises:
            BudgetError: there is not so much left.
        """
        hold(self._lock, self._enter, seat, size, node)

    def _enter(self, seat: Seat, size: int, node: str) -> None:
        left = self._room(seat)
        if left is not None and size > left and self.memory_bytes is not None:
            self._refused += 1
            used = self.memory_bytes - left
            text = f"its nodes have {used} bytes, this one needs {size}, {self.memory_bytes} are allowed: close nodes"
            raise self._error(node, text, "memory_bytes", self.memory_bytes, used + size, None)
        seat.bytes = size
        self._seats.add(seat)

    def room(self, seat: Seat) -> int | None:
        """Bytes that the node of a seat may have, if the others keep what they have; None: no limit."""
        return None if self.memory_bytes is None else hold(self._lock, self._room, seat)

    def _room(self, seat: Seat) -> int | None:
        if self.memory_bytes is None:
            return None
        return self.memory_bytes - sum(other.bytes for other in list(self._seats) if other is not seat)

    def _spent_ns(self) -> int:
        return self._account[_ELSEWHERE] + self._account[_USED]

    def _left_s(self) -> float:
        """Seconds that are left now. Tells the native core as well."""
        if self.processor_s is None:
            return math.inf
        level, seen, at = self._used
        spent, now = self._spent_ns(), self._clock()
        level += (spent - seen) / _NS
        if self.per_s is not None:
            level = max(0.0, level - max(0.0, now - at) * self.processor_s / self.per_s)
        self._used = level, spent, now
        left = self.processor_s - level
        self._account[_LIMIT] = spent + max(0, round(left * _NS))
        return left

    def _error(
        self, node: str, text: str, limit: str, value: float, reached: float, retry_after_s: float | None
    ) -> BudgetError:
        again = "" if retry_after_s is None else f"; try again in {retry_after_s:.3f} s"
        whose = f"the budget {self.name!r}" if self.name else "its budget"
        return BudgetError(
            f"node {node!r} may not go on: of {whose}, {text} (Budget.{limit}){again}",
            limit=limit,
            value=value,
            reached=reached,
            node=node,
            budget=self.name,
            retry_after_s=retry_after_s,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(handle("a Budget", "make one in the other process: it counts what is used in its own"))

    def __repr__(self) -> str:
        names = ("name", "processor_s", "per_s", "memory_bytes", "calls_per_s", "burst")
        given = {name: getattr(self, name) for name in names}
        return f"cloche.Budget({', '.join(f'{name}={value!r}' for name, value in given.items() if value)})"


def _seconds(name: str, value: Any) -> float | None:
    """A positive number, or None."""
    if value is None:
        return None
    number = any_float(value)
    if number is None:
        raise TypeError(f"{name} is {short(value)}: give a number, or None")
    if not 1e-6 <= number <= 1e9:
        raise ValueError(f"{name} is {short(value)}: give a number from 0.000001 to 1000000000")
    return number


def _count(name: str, value: Any) -> int | None:
    """A whole number from 1, or None."""
    if value is None:
        return None
    number = whole_number(value)
    if number is None:
        raise TypeError(f"{name} is {short(value)}: give a whole number, or None")
    if not 1 <= number <= 1 << 60:
        raise ValueError(f"{name} is {short(value)}: give a number from 1")
    return number
