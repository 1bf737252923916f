"""Runs guests only where the native stack is large enough for them.

wasmtime bounds a guest's stack by counting down from where it was entered; on a thread with less than that, a deep
recursion would overflow for real and end the process.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, TypeVar

__all__ = ["GUEST_STACK_BYTES", "run", "sufficient"]

T = TypeVar("T")

GUEST_STACK_BYTES: Final = 4 << 20
"""Native stack that a guest may use. CPython's own recursion limit (500 levels of C on WASI) fits well."""
_MARGIN: Final = 1 << 20
_thread = threading.local()


def _stack_bytes() -> int:
    """Stack of the calling thread, in bytes; a guess of plenty where the platform does not tell."""
    if sys.platform != "linux":
        return 8 << 20
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(64)
    libc.pthread_self.restype = ctypes.c_void_p
    if libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes):
        return 0
    size = ctypes.c_size_t()
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    libc.pthread_attr_destroy(attributes)
    return size.value


def sufficient() -> bool:
    """Whether the calling thread's stack has room for a guest. Asked once a thread."""
    try:
        return bool(_thread.sufficient)
    except AttributeError:
        _thread.sufficient = _stack_bytes() >= GUEST_STACK_BYTES + _MARGIN
        return bool(_thread.sufficient)


def run(function: Callable[[], T]) -> T:
    """Run `function` on a thread with enough stack, in the caller's context, and wait for it."""
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and rarely needed

    previous = threading.stack_size(GUEST_STACK_BYTES + 4 * _MARGIN)
    try:
        pool = ThreadPoolExecutor(1, "cloche-stack")
        future = pool.submit(copy_context().run, function)
    finally:
        threading.stack_size(previous)
    with pool:
        return future.result()
