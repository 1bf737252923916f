"""Shows wasmtime's fault handlers to the native core (runtime/native/handlers.c), even where Python's faulthandler hides them."""

from __future__ import annotations

import faulthandler
import sys
from functools import cache

from cloche._wasm.core import core

__all__ = ["note_fault_handlers"]


@cache
def note_fault_handlers() -> None:
    """Have the core remember wasmtime's fault handlers. Call it once an engine exists; calling it again does nothing."""
    if not core().note_handlers() and faulthandler.is_enabled() and sys.platform == "linux":
        # other code made an engine before Cloche did, and faulthandler then replaced wasmtime's handlers: without taking
        # faulthandler's away for a moment, the core could not find them
        faulthandler.disable()
        core().note_handlers()
        faulthandler.enable()
