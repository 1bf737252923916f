"""`Closing`: how long closing nodes may take; and what happens to nodes that are still open when the interpreter exits."""

from __future__ import annotations

import atexit
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Protocol, Self

__all__ = ["LATE_S", "SPARE_S", "Closable", "ClosedByWith", "Closing", "close_at_exit"]

SPARE_S: Final = 1.0
"""Seconds for ``cleanup``s that begin after the timeout, all nodes together."""
LATE_S: Final = 1.0
"""Seconds after the timeout and `Limits.grace_s` at which waiting ends for a node in a service that does not return."""
_EXIT_S: Final = 5.0
"""Seconds that closing the open nodes may take at the interpreter's exit."""


class ClosedByWith:
    """For ``with``: the end of the block closes the object, however it comes."""

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Closable(ClosedByWith):
    """For ``with`` and ``async with``."""

    def close(self, timeout: float | None = None) -> None:
        """Close it."""
        raise NotImplementedError

    async def aclose(self, timeout: float | None = None) -> None:
        """As `close`, awaitable."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Closing:
    """The time that closing may take, shared by all nodes that are closed together.

    Args:
        timeout_s: seconds for which calls under way are waited for; then they are interrupted. None: as long as they take.
        on_late: called again and again while a call is waited for after that.

    Attributes:
        timeout_s: the argument of that name.
        until: time of `time.monotonic` at which calls are interrupted; None: never.
    """

    def __init__(self, timeout_s: float | None, on_late: Callable[[], object] = lambda: None) -> None:
        self.timeout_s = timeout_s
        self.until = None if timeout_s is None else time.monotonic() + timeout_s
        self.on_late = on_late
        self._spare_s = SPARE_S

    @property
    def left_s(self) -> float | None:
        """Seconds until calls are interrupted, 0 or more; None: they never are."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    @property
    def late_s(self) -> float:
        """Seconds since calls are interrupted, 0 or more."""
        return 0.0 if self.until is None else max(0.0, time.monotonic() - self.until)

    def cleanup_s(self) -> float | None:
        """Seconds that the next ``cleanup`` may take; 0: none is left; None: `Limits.deadline_s` alone bounds it."""
        left = self.left_s
        return None if left is None else left + max(0.0, self._spare_s)

    def spend(self, began: float) -> None:
        """Take the time since `began` from that of the ``cleanup``s, as far as it lies after the timeout."""
        if self.until is not None:
            self._spare_s -= max(0.0, time.monotonic() - max(began, self.until))


class _Closable(Protocol):
    """A `NodeCalls`, as far as it is needed here."""

    name: str

    @property
    def needs_cleanup(self) -> bool:
        """Whether it is open and has a ``cleanup``."""

    def close(self, closing: Closing) -> None:
        """Close it within that time."""


class _Open(Protocol):
    """A `Runtime`, as far as it is needed here."""

    @property
    def closes_in(self) -> int:
        """Number of the process that made it, and is to close it."""

    @property
    def logger(self) -> Any:
        """Gets errors."""

    def living(self) -> Iterable[_Closable]:
        """Its open nodes."""


_open: weakref.WeakSet[_Open] = weakref.WeakSet()


def close_at_exit(runtime: _Open) -> None:
    """Close the runtime's nodes that have a ``cleanup`` when the interpreter exits, if they are still open then."""
    _open.add(runtime)
    atexit.unregister(_close_all)  # registered last, it runs first: before worker processes are ended
    atexit.register(_close_all)


def _close_all() -> None:
    closing = Closing(_EXIT_S)
    for runtime in list(_open):
        if runtime.closes_in != os.getpid():  # in the child of a fork: its nodes are the parent's
            continue
        for node in runtime.living():
            if not node.needs_cleanup:
                continue
            text = f"node {node.name!r} was not closed: its cleanup runs at the interpreter's exit"
            try:
                warnings.warn(text, ResourceWarning, stacklevel=2)
            except ResourceWarning:  # warnings are errors, and nobody is left to catch this one
                runtime.logger.warning(text)
            try:
                node.close(closing)
            except Exception as error:
                runtime.logger.error(
                    "a node could not be closed at the interpreter's exit", node=node.name, exc_info=error
                )
