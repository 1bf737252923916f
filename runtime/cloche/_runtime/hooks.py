"""The hooks of a runtime (``on_call``, ``on_break``, ``telemetry``): what they are told, and what becomes of their exceptions."""

from __future__ import annotations

import inspect
import reprlib
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from cloche._records import BreakRecord, CallRecord
from cloche._requests import run_inside
from cloche._runtime.figures import SandboxWatch
from cloche._sandbox import interruption, raise_failure
from cloche.errors import ClocheError, NodeError
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._requests import NodeLock
    from cloche._runtime.figures import Tally
    from cloche._runtime.tracing import SandboxTrace, Tracing
    from cloche._sandbox import CheckedSandbox, Exchange
    from cloche._times import ItemTimes

__all__ = ["OPS", "Hooks", "ReportingWatch", "method_of"]

P = ParamSpec("P")
T = TypeVar("T", CallRecord, BreakRecord)

OPS: Final = {int(op): op.name.lower() for op in Op}
"""Number of a message -> its name, as in `CallRecord.op`."""
_MAKING: Final = frozenset({int(Op.LOAD), int(Op.RESEED)})
"""Calls that make a node, and so are made before a `Supervisor` has it."""


def _checked(name: str, hook: Callable[[T], object] | None) -> Callable[[T], object] | None:
    """Check a hook that a caller passed.

    Raises:
        TypeError: nobody could call it, or await what it returns.
    """
    given: Any = hook
    if given is not None and (not callable(given) or inspect.iscoroutinefunction(given)):
        raise TypeError(f"{name} is {reprlib.repr(hook)}: give a plain function of one record, or None")
    return hook


class Hooks:
    """The hooks of one runtime. False if there is none.

    Args:
        on_call: see `Runtime`.
        on_break: see `Runtime`.
        telemetry: see `Runtime`.

    Raises:
        TypeError: one of the first two is no plain function.
    """

    __slots__ = ("on_break", "on_call", "telemetry")

    def __init__(
        self,
        on_call: Callable[[CallRecord], object] | None,
        on_break: Callable[[BreakRecord], object] | None,
        telemetry: Tracing | None = None,
    ) -> None:
        self.on_call = _checked("on_call", on_call)
        self.on_break = _checked("on_break", on_break)
        self.telemetry = telemetry

    def __bool__(self) -> bool:
        return self.on_call is not None or self.on_break is not None or self.telemetry is not None


def _tell(name: str, hook: Callable[[T], object], record: T) -> None:
    """Call a hook. An exception of it becomes a warning: the call that it is told about has its own outcome."""
    try:
        hook(record)
    except Exception as error:
        places = traceback.extract_tb(error.__traceback__)
        place = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
        try:
            warnings.warn(
                f"the hook {name} of a runtime raised {type(error).__name__}: {error}{place}; the call was not affected",
                RuntimeWarning,
                stacklevel=2,
            )
        except Exception:  # a warning that is an error, or an error without a text: there is nobody else to tell
            pass


class ReportingWatch(SandboxWatch):
    """Follows one sandbox, and tells the runtime's hooks of its calls and its break.

    Args:
        tally: the runtime's.
        sandbox: the sandbox.
        calls: number of calls that the sandbox has inherited.
        hooks: the runtime's.
        lock: the node's lock.
        session_id: see `CallRecord`.

    Attributes:
        trace: follows the calls for the runtime's telemetry; None: it has none.
        times: gets the time of each call, for ``cloche top``; None: the runtime is not inspectable.
    """

    __slots__ = ("_break", "_hooks", "_lock", "_session_id", "times", "trace")

    def __init__(
        self,
        tally: Tally,
        sandbox: CheckedSandbox,
        calls: int,
        hooks: Hooks,
        lock: NodeLock,
        session_id: str | None,
    ) -> None:
        super().__init__(tally, sandbox, calls)
        self._hooks = hooks
        self._lock = lock
        self._session_id = session_id
        self._break: tuple[BaseException, int, int] | None = None
        self.trace: SandboxTrace | None = None
        self.times: ItemTimes | None = None

    def around(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """See `Watch`."""
        if self.times is None:
            return self._followed(exchange, op, operands, root)
        began = time.perf_counter()
        try:
            return self._followed(exchange, op, operands, root)
        finally:
            self.times.add(1, time.perf_counter() - began)

    def _followed(self, exchange: Exchange, op: int, operands: Sequence[Any], root: str) -> tuple[Reply, Any]:
        """Make a call, and tell the hook and the telemetry of it."""
        sandbox = self._sandbox()
        if sandbox is None:
            return exchange(op, operands, root)
        if self.trace is None:
            return self._told(sandbox, exchange, op, operands, root)
        return self.trace.around(sandbox, partial(self._told, sandbox, exchange), op, operands, root)

    def _told(
        self, sandbox: CheckedSandbox, exchange: Exchange, op: int, operands: Sequence[Any], root: str
    ) -> tuple[Reply, Any]:
        """Make a call, and tell the hook of it."""
        if self._hooks.on_call is None:
            return exchange(op, operands, root)
        traffic = sandbox.traffic
        traffic.sent_bytes = traffic.received_bytes = 0
        began = time.perf_counter()
        try:
            kind, value = exchange(op, operands, root)
        except BaseException as error:
            self._report_call(sandbox, op, operands, time.perf_counter() - began, type(error).__name__)
            raise
        seconds = time.perf_counter() - began
        self._report_call(
            sandbox, op, operands, seconds, self._failure(sandbox, value, op) if kind is Reply.FAILURE else ""
        )
        return kind, value

    def _report_call(
        self, sandbox: CheckedSandbox, op: int, operands: Sequence[Any], seconds: float, error: str
    ) -> None:
        hook, traffic = self._hooks.on_call, sandbox.traffic
        if hook is None:
            return
        record = CallRecord(
            node=sandbox.name,
            session_id=self._session_id,
            op=OPS[int(op)],
            method=method_of(op, operands),
            call=sandbox.calls,
            seconds=seconds,
            error=error,
            bytes_in=traffic.sent_bytes,
            bytes_out=traffic.received_bytes,
        )
        run_inside(self._lock, None, _tell, "on_call", hook, record)

    def _failure(self, sandbox: CheckedSandbox, value: Any, op: int) -> str:
        """Name of the class of the error that the caller will get for the failure that a guest has reported."""
        try:
            raise_failure(value, sandbox.name, Op(op))
        except NodeError as error:
            raised = interruption(error, sandbox.told, sandbox.usage(), sandbox.limits)
            return type(self._explained(raised)).__name__
        except ClocheError as error:
            return type(error).__name__

    def explained(self, error: ClocheError) -> ClocheError:
        """See `Watch`."""
        raised = self._explained(error)
        if self.trace is not None:
            self._inside_call(self.trace.failed, raised)
        return raised

    def _inside_call(self, function: Callable[P, object], *arguments: P.args, **keywords: P.kwargs) -> None:
        """Call a function that could call the node, and is refused that: as if the node's call had not ended."""
        lock, busy = self._lock, self._lock.busy
        try:
            lock.busy = True
            run_inside(lock, None, function, *arguments, **keywords)
        finally:
            lock.busy = busy

    def _explained(self, error: ClocheError) -> ClocheError:
        """See `Watch.explained`. There is nothing to explain without a budget."""
        return error

    def broke(self, error: BaseException, op: int, call: int) -> None:
        """See `Watch`."""
        super().broke(error, op, call)
        self._break = error, op, call
        if not self.is_supervised or op in _MAKING:
            self.report_break()

    def report_break(self, recovered: str | None = None) -> None:
        """See `Watch`."""
        last, hook, sandbox = self._break, self._hooks.on_break, self._sandbox()
        self._break = None
        if last is None or sandbox is None:
            return
        error, op, call = last
        if self.trace is not None:
            self._inside_call(self.trace.broke, error, recovered)
        if hook is None:
            return
        record = BreakRecord(
            node=sandbox.name,
            session_id=self._session_id,
            op=OPS.get(int(op), ""),
            call=call,
            error=type(error).__name__,
            exception=error,
            recovered=recovered,
        )
        run_inside(self._lock, None, _tell, "on_break", hook, record)

    def closed(self, calls: int, seconds: float) -> None:
        """See `Watch`."""
        super().closed(calls, seconds)
        if self.trace is not None:
            self.trace.closed(is_collected=self._sandbox() is None)


def method_of(op: int, operands: Sequence[Any]) -> str:
    """The method that a call names."""
    if op == Op.PROCESS:
        return "process"
    if op in (Op.CALL, Op.INVOKE):
        return operands[0] or "process"
    return ""
