"""A crash of the host itself still ends it, whatever was done to the signal handlers before."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CRASH = """
import ctypes, faulthandler
{before}
from cloche._wasm.engine import Engine, Module
from tests.host.guests import guest
engine = Engine("epoch", lambda engine: Module.compiled(engine, bytes(guest())))
{after}
engine.fault_handlers.look()
ctypes.string_at(8)
"""


@pytest.mark.parametrize("before", ["faulthandler.enable()", "faulthandler.disable()"], ids=["on", "off"])
@pytest.mark.parametrize("after", ["faulthandler.enable()", "faulthandler.disable()"], ids=["on", "off"])
def test_a_crash_of_the_host_is_not_swallowed(before, after):
    """wasmtime chains to faulthandler, which does nothing while it is disabled: that must not become an endless loop."""
    code = CRASH.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGSEGV
