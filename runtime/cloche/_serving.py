"""Tells a service that runs on another thread than its node, or on an event loop, that it is inside that node's call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cloche.errors import ClocheError

if TYPE_CHECKING:
    from cloche._wasm.call_state import CallState

__all__ = ["PORTAL", "Turns", "serving"]

PORTAL: ContextVar[Any] = ContextVar("cloche_portal", default=None)
"""An `anyio.from_thread.BlockingPortal` of the event loop that awaits the node's call, if one does."""


class _Service:
    """A service under way. Contexts are copied and live on, so it says by itself when it is over."""

    __slots__ = ("active", "host")

    def __init__(self, host: int) -> None:
        self.host = host
        self.active = True


_under_way: ContextVar[tuple[_Service, ...]] = ContextVar("cloche_serving", default=())


@contextmanager
def serving(host: CallState) -> Iterator[None]:
    """In the block, contexts copied from this one are inside a call of `host`'s node."""
    service = _Service(id(host))
    token = _under_way.set((*_under_way.get(), service))
    try:
        yield
    finally:
        _under_way.reset(token)
        service.active = False


class Turns:
    """The lock of a node whose services may run elsewhere: reentrant, and refuses what would wait for itself."""

    __slots__ = ("_host", "_lock", "_name")

    def __init__(self, host: CallState) -> None:
        self._lock = threading.RLock()
        self._host = id(host)
        self._name = host.node

    def serve(self, host: CallState) -> None:
        """The node lives in another instance from now on."""
        self._host = id(host)

    def __enter__(self) -> bool:
        if any(service.active and service.host == self._host for service in _under_way.get()):
            raise ClocheError(f"node {self._name!r} was called from inside its own call")
        return self._lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)
