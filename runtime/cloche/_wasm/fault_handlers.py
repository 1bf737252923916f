"""Lets the native core find wasmtime's handlers of faults (runtime/native/handlers.c), where faulthandler's hide them."""

from __future__ import annotations

import faulthandler
import sys
from functools import cache

from cloche._wasm.core import core

__all__ = ["note_fault_handlers"]


@cache
def note_fault_handlers() -> None:
    """Call it when an engine exists."""
    if not core().note_handlers() and faulthandler.is_enabled() and sys.platform == "linux":
        # It was enabled after somebody else had made an engine: look beneath it.
        faulthandler.disable()
        core().note_handlers()
        faulthandler.enable()
