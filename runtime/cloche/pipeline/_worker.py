"""`Worker`: a thread of a run. All code of a node runs on one of them, from its start to its cleanup: databases, event loops and
devices insist on that.

It is a daemon: Python cannot end a thread whose native node does not come back, and the interpreter's exit must not wait for it.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

__all__ = ["Worker"]

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """A thread that calls one function after the other.

    Args:
        name: what it works on, for the thread's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]] | None] = deque()
        """The functions that have not returned, the one under way first; None: the thread ends."""
        self._condition = threading.Condition()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._work,), name=f"cloche-{name}", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def do(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        """Have the thread call a function after those before."""
        future: Future[T] = Future()
        self._add((future, lambda: function(*arguments, **keywords)))
        return future

    def end(self) -> None:
        """End the thread, once the functions before have returned."""
        self._add(None)

    def _add(self, job: tuple[Future[Any], Callable[[], Any]] | None) -> None:
        with self._condition:
            self._jobs.append(job)
            self._condition.notify_all()

    def _work(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._do_next()
            with self._condition:
                self._jobs.popleft()
                self._condition.notify_all()

    def _do_next(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._jobs)
            job = self._jobs[0]
        if job is None:
            return False
        future, function = job
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return True

    def rests(self, timeout_s: float) -> bool:
        """Wait until all functions have returned. Returns False if that takes longer."""
        if self._thread.ident is None:  # an interrupt may have prevented its start
            return True
        with self._condition:
            self._condition.notify_all()  # an interrupt may have prevented that in `_add`
            return self._condition.wait_for(lambda: not self._jobs, timeout_s)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.get_ident() == self._thread.ident

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread.ident is not None:
            self._thread.join()
