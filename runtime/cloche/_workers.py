"""Where a service runs that must not hold up its node: daemon threads, and an event loop for what is ``async``.

Python cannot stop a thread. Who does not want to wait any longer abandons its future; so many may be abandoned, and then nothing is
started until one of them has come to its end.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future
    from queue import SimpleQueue

    _Job = tuple[Future[Any], Callable[[], Any]]

__all__ = ["MAX_ABANDONED", "Busy", "Workers", "workers"]

MAX_ABANDONED: Final = 16
_IDLE_S: Final = 2.0
"""An idle thread ends after that."""


class Busy(Exception):
    """MAX_ABANDONED functions that nobody waits for any longer are still running."""


class Workers:
    """Thread-safe. One for the process: `workers`."""

    def __init__(self) -> None:
        self._start_over()

    def _start_over(self) -> None:
        """The state without a thread: at the start, and in the child of a fork, which has none of its parent's."""
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job]] = []
        self._abandoned = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Run it on a thread.

        Raises:
            Busy: too many abandoned ones still run.
        """
        from concurrent.futures import Future  # slow to import, and only services need it

        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._abandoned >= MAX_ABANDONED:
                raise Busy
            queue = self._idle.pop() if self._idle else self._start()
        queue.put((future, function))
        return future

    def submit_async(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run it on the process's own event loop, whose thread starts with the first one. Cancelling the future cancels it."""
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="cloche-services", daemon=True).start()
            loop = self._loop
        context = copy_context()
        if sniffio := sys.modules.get("sniffio"):  # a caller inside trio has said so in its context
            context.run(sniffio.current_async_library_cvar.set, None)
        future: Future[Any] = context.run(asyncio.run_coroutine_threadsafe, coroutine, loop)
        return future

    def abandon(self, future: Future[Any]) -> None:
        """Wait for it no longer: cancel it, or count it until it ends."""
        if future.cancel() or future.done():
            return
        with self._lock:
            self._abandoned += 1
        future.add_done_callback(self._ended)

    def _ended(self, _: Future[Any]) -> None:
        with self._lock:
            self._abandoned -= 1

    def _start(self) -> SimpleQueue[_Job]:
        from queue import SimpleQueue

        queue: SimpleQueue[_Job] = SimpleQueue()
        threading.Thread(target=self._work, args=(queue,), name="cloche-service", daemon=True).start()
        return queue

    def _work(self, queue: SimpleQueue[_Job]) -> None:
        from queue import Empty

        while True:
            try:
                future, function = queue.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if queue in self._idle:
                        self._idle.remove(queue)
                        return
                continue  # it has just been taken: a job is on its way
            try:
                result = function()
            except BaseException as error:  # whoever waits raises it, a KeyboardInterrupt too
                self._free(queue)
                future.set_exception(error)
            else:
                self._free(queue)
                future.set_result(result)
                del result
            del future, function

    def _free(self, queue: SimpleQueue[_Job]) -> None:
        """Before the outcome is known: who has it may come back at once and finds this thread."""
        with self._lock:
            self._idle.append(queue)


workers: Final = Workers()
os.register_at_fork(after_in_child=workers._start_over)
