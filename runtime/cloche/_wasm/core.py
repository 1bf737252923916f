"""The native core (runtime/native): its library, its functions, and the numbers of its contract, cloche.h.

Every call into a guest goes through this module. `Core.call` crosses from Python into C once: the core arms the deadline, copies
the request into linear memory, enters the guest, and disarms the deadline. The core never calls Python back. When the running guest
sends a request of its own to the host, `Core.call` returns early with `Status.ASKS`; Python carries the guest's request out, and
resumes the guest with `Core.answer`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final

from cloche._wasm import bindings
from cloche._wasm.checkout import built_core
from cloche.errors import ImageError, InternalError

__all__ = ["Function", "Image", "Reason", "State", "Status", "Word", "core", "library_name"]


class Status(IntEnum):
    """What a call into a guest has come to (``enum cloche_status``)."""

    DONE = 0
    ASKS = 1
    POLLS = 2
    TRAPPED = 3
    NO_GUEST = -1
    OTHER_PROCESS = -2
    BUSY = -3
    NO_MEMORY = -4
    NO_ROOM = -5
    ENGINE_FAILED = -6
    REFUSED = -7


class Reason(IntEnum):
    """Why a guest was stopped, or told to stop (``enum cloche_reason``)."""

    NONE = 0
    DEADLINE = 1
    CANCELLED = 2
    EXITED = 3
    REENTERED = 4
    ABANDONED = 5


class State(IntEnum):
    """``enum cloche_state``."""

    FREE = 0
    AT_REST = 1
    RUNNING = 2
    WAITING = 3
    BROKEN = 4
    BETWEEN = 5


class Function(IntEnum):
    """The exports that a guest is entered by (``enum cloche_function``)."""

    NODE_CALL = 0
    NODE_ALLOC = 1
    NODE_FREE = 2
    NODE_CHECK = 3


class Word(IntEnum):
    """What Python and the core share of a guest (``enum cloche_word``)."""

    REQUEST_AT = 0
    MAX_NODES = 1
    MAX_DEPTH = 2
    DEADLINE_NS = 3
    GRACE_NS = 4
    POLL_NS = 5
    FUEL = 6
    CLOCK_MODE = 7
    CLOCK_START = 8
    CLOCK_SLEPT = 9
    CLOCK_STEPPED = 10
    CLOCK_STEP = 11
    SEEDED = 12
    DRAWN = 13
    KEY = 14
    GRANTED = 18
    STATE = 24
    ADDRESS = 25
    LENGTH = 26
    RESULT = 27
    STOPPED = 28
    TOLD = 29
    TRAP_CODE = 30
    EXIT_CODE = 31
    RECORDS = 32
    MEMORY_BYTES = 33
    TOOK_NS = 34
    BURNED = 35
    TELL_AT = 36
    STOP_AT = 37
    BASE = 38
    RING = 39
    NOTICE = 40
    LAYOUT = 41
    SERIAL = 42


WORDS: Final = 48
METERINGS: Final = ("guard", "epoch", "fuel", "none")
"""By ``enum cloche_metering``."""


class Image(ctypes.Structure):
    """``struct cloche_image``: the facts that all guests of one image on one engine share. The fields are explained in cloche.h."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "engine",
            "instance_pre",
            "metering",
            "wasm_stack_bytes",
            "ring_bytes",
            "ring_used_at",
            "ring_dropped_at",
            "request_buffer_bytes",
            "notice_bit",
            "notice_bit_at",
        )
    )


# wasmtime functions that the core calls, in the order of ``struct cloche_engine``: the core reads the addresses by position
_ENGINE_FUNCTIONS: Final = (
    "wasmtime_store_new",
    "wasmtime_store_delete",
    "wasmtime_store_context",
    "wasmtime_store_limiter",
    "wasmtime_store_epoch_deadline_callback",
    "wasmtime_context_set_epoch_deadline",
    "wasmtime_context_set_fuel",
    "wasmtime_context_get_fuel",
    "wasmtime_engine_increment_epoch",
    "wasmtime_instance_pre_instantiate",
    "wasmtime_instance_export_get",
    "wasmtime_func_call_unchecked",
    "wasmtime_memory_data",
    "wasmtime_memory_data_size",
    "wasmtime_memory_grow",
    "wasmtime_global_get",
    "wasmtime_trap_new",
    "wasmtime_trap_code",
    "wasm_trap_message",
    "wasm_trap_delete",
    "wasmtime_error_new",
    "wasmtime_error_message",
    "wasmtime_error_delete",
    "wasm_byte_vec_delete",
)

_INT: Final = ctypes.c_int
_U64: Final = ctypes.c_uint64
_U32: Final = ctypes.c_uint32
_P: Final = ctypes.c_void_p
# name without the prefix ``cloche_``: (result, parameters)
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "start": (_INT, (_P, ctypes.c_size_t)),
    "new": (_INT, (_P, _U64, _P, _P)),
    "free": (_INT, (_U64,)),
    "limit_memory": (_INT, (_U64, _U64)),
    "call": (_INT, (_U64, ctypes.c_char_p, ctypes.c_size_t)),
    "enter": (_INT, (_U64, _INT, _U32, _U32, _U32, _U32)),
    "answer": (_INT, (_U64, ctypes.c_char_p, ctypes.c_size_t, _U64)),
    "go_on": (_INT, (_U64,)),
    "end_call": (_INT, (_U64,)),
    "abandon": (_INT, (_U64,)),
    "cancel": (_INT, (_U64, _U64, _INT, _INT)),
    "read": (_INT, (_U64, _U64, _P, ctypes.c_size_t)),
    "grow": (_INT, (_U64, _U64)),
    "is_clean": (_INT, (_U64,)),
    "message": (ctypes.c_size_t, (_U64, _P, ctypes.c_size_t)),
    "count_guests": (_U64, ()),
    "count_stacks": (_U64, ()),
    "note_handlers": (_INT, ()),
    "keep_handlers": (_INT, ()),
    "checksum": (_U64, (_P, ctypes.c_size_t)),
}
_UNWRAPPED: Final = frozenset({"call", "answer", "go_on", "end_call", "free"})
"""Functions that `_raising_recursion_error` does not wrap. "call", "answer" and "go_on" are the hot path, where `Instance.exchange`
translates the error itself; "end_call" and "free" clean up after an error, perhaps at the very end of Python's stack, where one
more frame of a wrapper would not fit."""
IMPORTS: Final = ("clock", "random", "sleep", "exit", "call", "poll")
"""The imports that the core implements, in the order of the C array ``cloche_imports``, which holds their addresses."""


def _raising_recursion_error(function: Any) -> Callable[..., Any]:
    """Wrap a foreign function so that the end of Python's stack is a RecursionError.

    If Python's stack ends while ctypes converts the arguments, ctypes raises `ctypes.ArgumentError` instead.
    """

    @wraps(function)
    def cross(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ctypes.ArgumentError:
            raise RecursionError("maximum recursion depth exceeded") from None

    return cross


class Core:
    """The core's C functions as methods, named without the prefix ``cloche_``; cloche.h documents each.

    One object for each process, made by `core`.

    Args:
        loaded: the library (`ctypes.CDLL`).

    Attributes:
        imports: address of the C function behind each import of `IMPORTS`.
        handlers_replaced: view of one 64-bit number: how many times the core had to install its fault handlers again.

    Raises:
        InternalError: the library was built for another version of Cloche.
    """

    start: Any
    new: Any
    free: Any
    limit_memory: Any
    call: Any
    enter: Any
    answer: Any
    go_on: Any
    end_call: Any
    abandon: Any
    cancel: Any
    read: Any
    grow: Any
    is_clean: Any
    message: Any
    count_guests: Any
    count_stacks: Any
    note_handlers: Any
    keep_handlers: Any
    checksum: Any

    def __init__(self, loaded: Any) -> None:
        for name, (result, parameters) in _FUNCTIONS.items():
            # by index, not as an attribute: an attribute is one object for all, and other code could change its prototype
            function = loaded[f"cloche_{name}"]
            function.restype, function.argtypes = result, parameters
            setattr(self, name, function if name in _UNWRAPPED else _raising_recursion_error(function))
        self.imports: dict[str, int] = dict(
            zip(IMPORTS, (_P * len(IMPORTS)).in_dll(loaded, "cloche_imports"), strict=True)
        )
        counter = ctypes.c_uint64.in_dll(loaded, "cloche_handlers_replaced")
        self.handlers_replaced: Any = memoryview(counter).cast("B").cast("Q")
        table = (_P * len(_ENGINE_FUNCTIONS))(*map(bindings.address_of_function, _ENGINE_FUNCTIONS))
        if self.start(table, ctypes.sizeof(table)):
            raise InternalError("the native core does not fit this version of Cloche: install the package anew")


def library_name() -> str:
    """File name of the core's library on this platform."""
    return "libcloche.dylib" if sys.platform == "darwin" else "libcloche.so"


def library_path() -> Path:
    """Path of the core's library: the one in the installed package, or the one that was built from this checkout.

    Raises:
        ImageError: the library is missing; the message says which command makes it.
    """
    packaged = Path(__file__).parents[1] / "_native" / library_name()
    if packaged.is_file():
        return packaged
    built = built_core(library_name())
    if built is None:
        raise ImageError(
            "this installation has no native core: install the package anew (pip install --force-reinstall cloche)"
        )
    if not built.is_file():
        raise ImageError(
            "the native core of this checkout has not been built yet, or is stale. Build it: scripts/setup"
        )
    return built


@cache
def core() -> Core:
    """The core; the first call loads its library.

    Raises:
        ImageError: the library is missing.
    """
    return Core(ctypes.CDLL(str(library_path())))
