"""`ServiceHandler`: answers a node's calls of granted services (host functions).

Each call goes through four steps: check the arguments, ask the service's gate, run the service, record the call. The node learns
the result or the kind of failure. Details of a failure on the host go only to the logger.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cloche import texts
from cloche._requests.node_lock import NodeLock, run_inside
from cloche._requests.router import RequestRefused
from cloche._requests.service_threads import ASYNC_PORTAL, AbandonedCalls, Busy, Outcome, contained, threads
from cloche.errors import EncodeError, ProtocolError, ServiceError
from cloche.services import ServiceCall, ServiceRecord
from cloche_wire import Ask
from cloche_wire.failure import MAX_MESSAGE

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloche._requests.router import Operation, RequestHandler
    from cloche._wasm import CallState
    from cloche.services import Service

__all__ = ["KEPT_RECORDS", "ServiceHandler"]

KEPT_RECORDS: Final = 100
"""Records of services (`ServiceRecord`) that a node keeps; older ones are dropped."""
LOGGED_FAILURES: Final = 10
"""Failures of services that are logged for each call of a node, since a node can provoke any number of them."""

_REPORTED: Final = frozenset({
    ArithmeticError, AssertionError, AttributeError, BlockingIOError, BrokenPipeError, BufferError, ConnectionError,
    ConnectionRefusedError, ConnectionResetError, EOFError, FileExistsError, FileNotFoundError, FloatingPointError,
    ImportError, IndexError, IsADirectoryError, KeyError, LookupError, NotADirectoryError, NotImplementedError, OSError,
    OverflowError, PermissionError, RecursionError, ReferenceError, RuntimeError, TimeoutError, TypeError, ValueError,
    ZeroDivisionError,
})  # fmt: skip
"""Exceptions of services whose name the node learns; for any other, it learns the nearest base class in this set. The guest can
construct each of them from one text."""


class ServiceHandler:
    """Answers the service requests of one node.

    Args:
        services: name -> granted service.
        host: state of the node's current call.
        logger: receives failures of services with their details, and each call at debug level.
        records: calls of services that are logged at debug level for each call of the node, at most.

    Attributes:
        count: calls of services so far, including refused ones.
        has_async: whether one of the services is ``async def``.
        host: state of the node's current call.
        lock: lock of the node, which is held while a service runs.
        abandoned: count of the node's services that were abandoned and still run.
    """

    def __init__(self, services: Mapping[str, Service], host: CallState, logger: Any, records: int) -> None:
        self._services = services
        self.host = host
        self.lock = NodeLock(host.node)
        self.abandoned = AbandonedCalls()
        self._logger = logger
        self._max_records = records
        self._records: deque[tuple[Any, ...]] = deque(maxlen=KEPT_RECORDS)
        self._call = 0
        self._used: dict[str, int] = {}
        self._failures = self._calls_logged = 0
        self.count = 0
        self.has_async = any(service.binder.is_async for service in services.values())

    @classmethod
    def among(cls, handlers: Sequence[RequestHandler]) -> ServiceHandler | None:
        """The service handler among an instance's handlers; None: there is none."""
        return next((handler for handler in handlers if isinstance(handler, cls)), None)

    @property
    def operations(self) -> Mapping[int, Operation]:
        """Number of each request -> the method that performs it."""
        return {Ask.SERVICE: self._serve, Ask.SERVICES: self._names}

    @property
    def records(self) -> tuple[ServiceRecord, ...]:
        """The last KEPT_RECORDS calls of services, oldest first."""
        return tuple(ServiceRecord(*record) for record in list(self._records))

    def continue_from(self, other: ServiceHandler) -> None:
        """Take over the records, the counts and the lock of an earlier instance of the same node."""
        self._records.extendleft(reversed(other._records))
        self.count += other.count
        self.lock, self.abandoned = other.lock, other.abandoned

    def close(self) -> None:
        """Does nothing: this handler holds no resources."""

    def on_encode_error(self, operands: list[Any], error: EncodeError) -> list[str]:
        """TypeError: a service has returned a value that cannot be sent. The details are logged, not sent to the node."""
        name = operands[0]
        self._failed(name, error, "service returned what cannot be sent")
        return ["TypeError", f"service {name!r} returned what cannot be sent to a node"]

    def _names(self, _operands: list[Any]) -> list[str]:
        return sorted(self._services)

    def _serve(self, operands: list[Any]) -> Any:
        match operands:
            case [str(name), list(arguments), dict(keywords)] if not keywords or set(map(type, keywords)) == {str}:
                pass
            case _:
                raise ProtocolError("a request for a service is [name, [*arguments], {keyword arguments}]")
        host = self.host
        if host.calls != self._call:
            self._call = host.calls
            self._used.clear()
            self._failures = self._calls_logged = 0
        size = host.router.request_bytes if host.router else 0
        outcome = "stopped"
        began = time.perf_counter()
        try:
            value = run_inside(self.lock, host.deadline, self._checked_call, name, arguments, keywords, size)
            outcome = "returned"
            return value
        except _ServiceFailure as failure:
            outcome = failure.outcome
            raise RequestRefused([failure.kind, failure.message]) from None
        finally:
            self._record(texts.name(name), size, time.perf_counter() - began, outcome)

    def _checked_call(self, name: str, arguments: list[Any], keywords: dict[str, Any], size: int) -> Any:
        """Call a service if it is granted, `max_calls` is not used up, the arguments match its signature, and its gate agrees."""
        service = self._services.get(name)
        if service is None:
            granted = f"granted are {', '.join(sorted(self._services))}"
            raise _ServiceFailure(
                "refused", "LookupError", f"no service {texts.name(name)!r} is granted to this node: {granted}"
            )
        if service.max_calls is not None:
            self._used[name] = used = self._used.get(name, 0) + 1
            if used > service.max_calls:
                text = f"service {name!r} may be called {service.max_calls} times in one call (max_calls)"
                raise _ServiceFailure("refused", "RuntimeError", text)
        try:
            service.binder.check(arguments, keywords)
        except TypeError as error:
            raise _ServiceFailure("refused", "TypeError", f"{name}(): {error}") from None
        if service.gate is not None:
            self._pass_gate(
                service, ServiceCall(name, self.host.node, self.host.calls, tuple(arguments), keywords, size)
            )
        if service.deadline_s is not None or service.binder.is_async:
            return self._run_elsewhere(name, service, arguments, keywords)
        try:
            value = service.function(*arguments, **keywords)
        except Exception as error:
            self._raised(name, error)
        return value

    def _pass_gate(self, service: Service, call: ServiceCall) -> None:
        try:
            verdict = service.gate(call)  # type: ignore[misc]  # not None: see above
        except Exception as error:  # without a verdict the call is refused
            self._failed(call.service, error, "gate of a service raised")
            verdict = False
        if verdict is not True:
            text = verdict if isinstance(verdict, str) else f"service {call.service!r} refused this call"
            raise _ServiceFailure("refused", "PermissionError", text)

    def _run_elsewhere(self, name: str, service: Service, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Run a service on another thread or an event loop, where it can be abandoned at its deadline."""
        call = partial(service.function, *arguments, **keywords)
        try:
            future = self._submit(service, call)
        except Busy as busy:
            raise _ServiceFailure("refused", "RuntimeError", f"service {name!r} is not available: {busy}") from None
        try:
            done = self.host.wait(service.deadline_s, future)
        except BaseException:
            threads.abandon(self.abandoned, future)
            raise
        if not done:
            threads.abandon(self.abandoned, future)
            raise _ServiceFailure(
                "timed out", "TimeoutError", f"service {name!r} took longer than {service.deadline_s:g} s"
            )
        if future.cancelled():  # the event loop is being closed
            raise _ServiceFailure("raised", "RuntimeError", f"service {name!r} was cancelled")
        error, value = future.exception(), None
        if error is None:
            value = future.result()
            if isinstance(value, Outcome):
                value, error = value
        if error is None:
            return value
        if isinstance(error, Exception):
            self._raised(name, error)
        raise error

    def _submit(self, service: Service, call: partial[Any]) -> Future[Any]:
        if not service.binder.is_async:
            return threads.submit(self.abandoned, call)
        portal = ASYNC_PORTAL.get()
        if portal is not None:  # the caller's own event loop
            try:
                future: Future[Any] = portal.start_task_soon(contained, call)
            except RecursionError:  # a RuntimeError as well
                raise
            except RuntimeError:  # the loop has ended; or this is its own thread, which would wait for itself
                pass
            else:
                return future
        return threads.submit_async(self.abandoned, call)

    def _raised(self, name: str, error: Exception) -> NoReturn:
        """Report a failed service to the node: the kind of exception, and the message only if it is a `ServiceError`."""
        kind = next((known.__name__ for known in type(error).__mro__ if known in _REPORTED), "RuntimeError")
        if isinstance(error, ServiceError):
            raise _ServiceFailure("raised", kind, str(error))
        self._failed(name, error, "service raised")
        raise _ServiceFailure("raised", kind, f"service {name!r} failed on the host")

    def _failed(self, name: str, error: Exception, event: str) -> None:
        self._failures += 1
        if self._failures > LOGGED_FAILURES:
            return
        more = {"note": "further ones of this call are not logged"} if self._failures == LOGGED_FAILURES else {}
        self._logger.error(event, node=self.host.node, call=self.host.calls, service=name, exc_info=error, **more)

    def _record(self, name: str, size: int, seconds: float, outcome: str) -> None:
        host = self.host
        self.count += 1
        self._records.append((name, host.node, host.calls, size, seconds, outcome))
        if self._calls_logged < self._max_records:
            self._calls_logged += 1
            about = {"request_bytes": size, "seconds": seconds, "outcome": outcome}
            self._logger.debug("service called", node=host.node, call=host.calls, service=name, **about)


class _ServiceFailure(Exception):
    """A call of a service has ended without a value.

    Args:
        outcome: the `outcome` of the call's `ServiceRecord`.
        kind: name of the builtin exception that the node raises.
        message: message of that exception, cut to MAX_MESSAGE characters.
    """

    def __init__(self, outcome: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.kind = kind
        self.message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} [cut]"
