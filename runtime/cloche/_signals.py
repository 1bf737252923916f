"""Keeps wasmtime's signal handlers in place.

Compiled WebAssembly relies on them: an access out of bounds is a SIGSEGV that wasmtime turns into a trap. A handler
installed later (`faulthandler.enable()`, which pytest calls) would get the signal first and end the process. wasmtime
installs its own once a process, with the first engine, so they are noted then and put back before a guest is entered. A
handler that was there before the first engine is chained by wasmtime itself; one that is replaced here no longer sees
crashes of the host.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

__all__ = ["Handlers", "handlers"]

_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGSEGV", "SIGILL", "SIGFPE", "SIGBUS"))
_ACTION_BYTES: Final = 256  # struct sigaction takes 152 on Linux x86-64; the handler's address comes first
_LOOK_EVERY_S: Final = 0.05


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class Handlers:
    """The signal handlers that wasmtime installed. Use `handlers()`: there is one for the process.

    Args:
        libc: the C library, or None where this module does not know `struct sigaction`: then it does nothing.
    """

    def __init__(self, libc: Any) -> None:
        self._libc = libc
        self._saved: dict[int, bytes] = {}
        if libc is not None:
            self._note()
        self._faulthandler = self._chained = faulthandler.is_enabled()
        self._look_at = 0.0

    def _note(self) -> None:
        """Note wasmtime's handlers; faulthandler may lie over them if somebody made an engine before us."""
        covered = faulthandler.is_enabled() and not self._is_wasmtime(self._read(signal.SIGSEGV))
        if covered:
            faulthandler.disable()  # puts back what it found, if it found wasmtime's
        saved = {number: self._read(number) for number in _SIGNALS}
        if covered:
            faulthandler.enable()
        self._saved = {number: action for number, action in saved.items() if self._is_wasmtime(action)}

    def _is_wasmtime(self, action: bytes) -> bool:
        info = _DlInfo()
        handler = ctypes.c_void_p(int.from_bytes(action[:8], sys.byteorder))
        return bool(self._libc.dladdr(handler, ctypes.byref(info))) and b"wasmtime" in (info.file or b"")

    def _read(self, number: int) -> bytes:
        action = ctypes.create_string_buffer(_ACTION_BYTES)
        self._libc.sigaction(number, None, action)
        return action.raw

    def ensure(self, *, closely: bool = False) -> None:
        """Put the handlers back if `faulthandler` was switched; look at the handlers themselves every 50 ms (5 us).

        Args:
            closely: look at them in any case: a guest is about to fault.
        """
        enabled = faulthandler.is_enabled()
        now = time.monotonic()
        if enabled is self._faulthandler and now < self._look_at and not closely:
            return
        if self._chained and not enabled:
            # wasmtime hands a crash of the host on to faulthandler, whose handler returns at once while it is disabled: the
            # faulting instruction would run again, for ever. So it stays enabled, but writes to nowhere.
            faulthandler.enable(_nowhere())
            enabled = True
        self._faulthandler = enabled
        self._look_at = now + _LOOK_EVERY_S
        for number, saved in self._saved.items():
            if self._read(number) != saved:
                self._libc.sigaction(number, saved, None)


@functools.cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")  # for the life of the process


@functools.cache
def handlers() -> Handlers:
    """The process's `Handlers`. Call it first when an engine exists."""
    return Handlers(ctypes.CDLL(None) if sys.platform == "linux" else None)
