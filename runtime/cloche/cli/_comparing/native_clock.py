"""`NativeClock`: has the Python code of this process see the clocks of `Grants.clock`, as a sandboxed node sees them.

For the process in which a node is run natively, and for all of it: modules that took a function of `time` before see the real
clocks. They are cloche's own, which measure how long a node takes.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import gc
import selectors
import time
from collections.abc import Callable
from time import monotonic  # the real one
from typing import Any, Final

from cloche.clock import Clock

__all__ = ["NativeClock"]

_BEGINS_NS: Final = 10**9
"""What ``time.monotonic`` begins with, as in the sandbox."""
_CPU_CLOCKS: Final = ("CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID")


class NativeClock:
    """Frozen or virtual clocks.

    Args:
        clock: its mode is not "real", and its start is given.
    """

    def __init__(self, clock: Clock) -> None:
        self._start = clock.start_ns(0)
        self._step = clock.step_ns if clock.mode == "virtual" else 0
        self._moves = clock.mode == "virtual"
        self._slept = self._read = 0

    def begin(self) -> None:
        """Set the clocks to their start, for a node that is about to be loaded."""
        self._slept = self._read = 0

    def install(self) -> None:
        """Put the clocks in place of the real ones, for the rest of the process."""
        # asyncio's usual loop waits in the operating system, which does not move these clocks: with them it would wait forever
        asyncio.BaseEventLoop.time = lambda self: monotonic()  # type: ignore[method-assign]
        made: dict[str, Callable[[], int]] = {
            "time": self._wall_ns,
            "monotonic": self._monotonic_ns,
            "perf_counter": self._monotonic_ns,
            "process_time": self._cpu_ns,
            "thread_time": self._cpu_ns,
        }
        for name, reading in made.items():
            setattr(time, f"{name}_ns", reading)
            setattr(time, name, _seconds(reading))
        vars(time).update(sleep=self._sleep, clock_gettime=self._gettime, clock_gettime_ns=self._gettime_ns)
        for name, arguments in {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}.items():
            setattr(time, name, self._with_now(getattr(time, name), arguments, seconds=name in _OF_SECONDS))
        # nodes hold the classes themselves, so the methods are replaced in them, and not the classes by others
        _replace(datetime.datetime, "now", classmethod(self._now))
        _replace(datetime.datetime, "utcnow", classmethod(self._utcnow))
        _replace(datetime.date, "today", classmethod(self._today))

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that does not wait for its timers, as that of a sandbox with these clocks."""
        return _Loop(_Selector(self._sleep))

    def _reading(self) -> int:
        read = self._read
        self._read = read + self._step
        return read

    def _wall_ns(self) -> int:
        return self._start + self._slept + self._reading()

    def _monotonic_ns(self) -> int:
        return _BEGINS_NS + self._slept + self._reading()

    def _cpu_ns(self) -> int:
        return self._reading()

    def _gettime_ns(self, which: int) -> int:
        if which in (getattr(time, name, None) for name in _CPU_CLOCKS):
            return self._cpu_ns()
        return self._wall_ns() if which == time.CLOCK_REALTIME else self._monotonic_ns()

    def _gettime(self, which: int) -> float:
        return self._gettime_ns(which) / 1e9

    def _sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if self._moves:
            self._slept += int(seconds * 1e9)

    def _with_now(self, real: Callable[..., Any], arguments: int, *, seconds: bool) -> Callable[..., Any]:
        """A function of `time` that takes the present time for an argument that is left out.

        Args:
            real: the function.
            arguments: the arguments before that one.
            seconds: whether it is a number of seconds; False: a `time.struct_time`, of local time.
        """

        def function(*given: Any) -> Any:
            if len(given) > arguments and not (seconds and given[arguments] is None):
                return real(*given)
            now = self._wall_ns() // 10**9
            return real(*given[:arguments], now if seconds else localtime(now))

        localtime = time.localtime
        function.__name__ = real.__name__
        return function

    def _now(self, kind: Any, tz: datetime.tzinfo | None = None) -> Any:
        seconds, rest = divmod(self._wall_ns(), 10**9)
        return kind.fromtimestamp(seconds, tz).replace(microsecond=rest // 1000)

    def _utcnow(self, kind: Any) -> Any:
        return self._now(kind, datetime.UTC).replace(tzinfo=None)

    def _today(self, kind: Any) -> Any:
        return kind.fromtimestamp(self._wall_ns() / 1e9)


class _Selector(selectors.DefaultSelector):
    """Looks for what is ready, and does not wait for it.

    Args:
        sleep: called with the seconds that it was to wait.

    Attributes:
        ahead: their sum.
    """

    def __init__(self, sleep: Callable[[float], object]) -> None:
        super().__init__()
        self._skip = sleep
        self.ahead = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0 if timeout else timeout)
        if timeout and not found:
            self._skip(timeout)
            self.ahead += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    """Takes what its selector did not wait for as time that has passed."""

    def __init__(self, selector: _Selector) -> None:
        self._waits = selector
        super().__init__(selector)

    def time(self) -> float:
        return monotonic() + self._waits.ahead


_OF_SECONDS: Final = ("localtime", "gmtime", "ctime")


def _seconds(reading: Callable[[], int]) -> Callable[[], float]:
    return lambda: reading() / 1e9


def _replace(kind: type, name: str, method: Any) -> None:
    """Set a method of a class that is written in C."""
    (attributes,) = gc.get_referents(vars(kind))
    attributes[name] = method
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
