"""Notices when Python code has changed the handlers of the signals by which the processor tells of a trap.

Compiled WebAssembly relies on wasmtime's handlers: an access out of bounds is a SIGSEGV that wasmtime turns into a trap. The native
core notes them and puts them back (runtime/native/signals.c). It looks at SIGSEGV before each call and at the others every few
milliseconds, because a look is a system call; what Python code has set through `signal` is noticed here without one.
"""

from __future__ import annotations

import _signal
import faulthandler
import functools
import os
import signal
from pathlib import Path
from typing import Any, Final, TextIO

from cloche._wasm.core import core

__all__ = ["FaultHandlers", "fault_handlers"]

_ILL, _FPE, _BUS = (int(getattr(signal, name, 0)) for name in ("SIGILL", "SIGFPE", "SIGBUS"))
_handler: Final = _signal.getsignal  # signal.getsignal makes an enum's member of the answer, in a microsecond


class FaultHandlers:
    """Use `fault_handlers()`: there is one for the process."""

    __slots__ = ("_chained", "_replaced", "_seen")

    def __init__(self) -> None:
        enabled = faulthandler.is_enabled()
        if (
            enabled and not core().note_handlers()
        ):  # it was enabled after somebody else had made an engine: look beneath it
            faulthandler.disable()
            core().note_handlers()
            faulthandler.enable()
        else:
            core().note_handlers()
        # wasmtime hands a crash of the host on to the handler that it found when it was loaded
        self._chained = enabled
        self._replaced: Any = core().handlers_replaced
        self._seen = self._now()

    def _now(self) -> tuple[object, ...]:
        return self._replaced[0], _handler(_ILL), _handler(_FPE), _handler(_BUS)

    def look(self) -> None:
        """Put wasmtime's handlers back, if Python code has changed any since the last look."""
        if self._now() != self._seen:
            self._changed()

    def _changed(self) -> None:
        if self._chained and not faulthandler.is_enabled():
            # While faulthandler is disabled, its handler returns at once, and a crash of the host would run its faulting
            # instruction again, for ever. So it stays enabled, but writes to nowhere.
            faulthandler.enable(_nowhere())
        core().keep_handlers()
        self._seen = self._now()


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")  # for the life of the process


@functools.cache
def fault_handlers() -> FaultHandlers:
    """The process's `FaultHandlers`. Call it first when an engine exists."""
    return FaultHandlers()
