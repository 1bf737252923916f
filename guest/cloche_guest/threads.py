"""Replaces thread functions of the standard library, since the guest has no threads.

An executor's ``submit`` runs the function at once. A daemon thread, which base classes often start for housekeeping, is not
started, and a warning is logged. Starting any other thread raises RuntimeError.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from typing import TYPE_CHECKING, Any

from cloche_guest.loop import run_inline

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.Logger("cloche")  # noqa: LOG001  # from `getLogger`, a node's dictConfig would disable it
_log.parent = logging.root


def install() -> None:
    """Replace the methods that start threads, for the rest of the process."""
    executor: Any = concurrent.futures.ThreadPoolExecutor
    executor.submit = _submit
    thread: Any = threading.Thread
    thread.start = _start
    thread.join = _join
    thread.is_alive = _is_alive


def _submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
    """Run `fn` at once, and return a future that is done."""
    if self._shutdown:
        raise RuntimeError("cannot schedule new futures after shutdown")
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    initializer, self._initializer = getattr(self, "_initializer", None), None
    if initializer is not None:
        initializer(*self._initargs)
    run_inline(future, fn, *args, **kwargs)
    return future


def _start(self: threading.Thread) -> None:
    what = f"thread {self.name!r} cannot start: this sandbox has no threads"
    if not self.daemon:
        raise RuntimeError(f"{what} (use asyncio, or an executor: it runs inline)")
    _log.warning("%s; as a daemon it is skipped", what)


def _join(self: threading.Thread, timeout: float | None = None) -> None:
    """Does nothing: no thread is ever running."""


def _is_alive(self: threading.Thread) -> bool:
    return self is threading.main_thread()
