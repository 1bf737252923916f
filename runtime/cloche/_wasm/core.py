"""The native core (runtime/native): its library, its functions, and the numbers of its contract, cloche.h.

Every call into a guest goes through this module. `Core.call` crosses from Python into C once: the core arms the deadline, copies
the request into linear memory, enters the guest, and disarms the deadline. The core never calls Python back. When the running guest
sends a request of its own to the host, `Core.call` returns early with `Status.ASKS`; Python carries the guest's request out, and
resumes the guest with `Core.answer`.

C gets the enums below, with their comments, from runtime/native/write_numbers.py: run it after a change here.
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

__all__ = [
    "ClockMode",
    "Function",
    "Image",
    "Metering",
    "Reason",
    "Sampled",
    "State",
    "Status",
    "Word",
    "core",
    "library_name",
]


class Status(IntEnum):
    """What a call into a guest has come to; negative: the guest has not run (``enum cloche_status``)."""

    DONE = 0  # the guest has returned; it is at rest
    ASKS = 1  # it waits inside the import `call`: request at WORD_ADDRESS, WORD_LENGTH
    POLLS = 2  # it waits while Python looks at its signals: cloche_go_on
    TRAPPED = 3  # it was stopped or has crashed: free it. WORD_STOPPED, WORD_TRAP_CODE, cloche_message
    NO_GUEST = -1  # the handle names no guest any more
    OTHER_PROCESS = -2  # the guest was in a call of another thread when this process was forked
    BUSY = -3  # it is not at rest (or, for an answer, does not wait); or it is another thread's
    NO_MEMORY = -4  # the system has no more memory or address space
    NO_ROOM = -5  # the guest's own allocator has no block of that size left
    ENGINE_FAILED = -6  # the engine refused; cloche_message
    REFUSED = -7  # a range that lies outside the guest's memory
    NO_THREAD = -8  # the system starts no thread that would keep a deadline


class Reason(IntEnum):
    """Why a guest was stopped, or told to stop (``enum cloche_reason``)."""

    NONE = 0
    DEADLINE = 1
    CANCELLED = 2
    EXITED = 3
    REENTERED = 4
    ABANDONED = 5
    BUDGET = 6


class State(IntEnum):
    """What a guest is doing (``enum cloche_state``)."""

    FREE = 0
    AT_REST = 1
    RUNNING = 2
    WAITING = 3
    BROKEN = 4
    BETWEEN = 5  # a call is about to begin, or the guest is being freed


class Function(IntEnum):
    """The exports that a guest is entered by (``enum cloche_function``)."""

    NODE_CALL = 0
    NODE_ALLOC = 1
    NODE_FREE = 2
    NODE_CHECK = 3


class Metering(IntEnum):
    """How a guest is stopped (``enum cloche_metering``)."""

    GUARD = 0
    EPOCH = 1
    FUEL = 2
    UNMETERED = 3


METERINGS: Final = ("guard", "epoch", "fuel", "none")
"""What a user calls each `Metering`, in its order."""


class ClockMode(IntEnum):
    """What the guest's clocks show (``enum cloche_clock_mode``)."""

    REAL = 0  # the host's time
    MOVING = 1  # a time of the guest's own, which advances by sleeping and by being read
    STANDING = 2  # a time that stands still


class JournalMode(IntEnum):
    """What the core does with the journal of a guest (``enum cloche_journal_mode``)."""

    OFF = 0
    RECORD = 1  # notes what the imports answer
    REPLAY = 2  # the imports answer what the journal has


class Answered(IntEnum):
    """Which import has answered, in a journal (``enum cloche_answered``)."""

    REALTIME = 0
    MONOTONIC = 1
    CPU_TIME = 2
    RANDOM = 3
    SLEEP = 4


class Taped(IntEnum):
    """What an entry of a recorded guest's tape is (``enum cloche_taped``)."""

    SENT = 6  # a frame that went in: a message, or the answer to a request
    CAME = 7  # a frame that came out: a request, or the reply
    ANSWERED = 8  # a request was answered by a code: one byte, and one of enum cloche_reason
    ENDED = 9  # the call has ended: twice four bytes: its part of the journal; enum cloche_reason; whether it can be replayed


class Sampled(IntEnum):
    """The kinds of what a sampler has found (``enum cloche_sampled``)."""

    FUNCTION = 0
    PLACE = 1
    NODE = 2
    LANE = 3


class Word(IntEnum):
    """What Python and the core share of a guest; times are nanoseconds (``enum cloche_word``)."""

    # set by Python, between calls
    REQUEST_AT = 0  # the guest's request buffer, of REQUEST_BUFFER_BYTES
    MAX_NODES = 1  # third argument of node_call
    MAX_DEPTH = 2  # fourth argument of node_call
    DEADLINE_NS = 3  # how long a call may take until the guest is told to stop; 0: without end
    GRACE_NS = 4  # how much longer until it is stopped
    POLL_NS = 5  # how often Python wants to look at its signals meanwhile; 0: never
    FUEL = 6  # instructions for the next call, under CLOCHE_FUEL
    CLOCK_MODE = 7  # enum cloche_clock_mode
    CLOCK_START = 8
    CLOCK_SLEPT = 9
    CLOCK_STEPPED = 10
    CLOCK_STEP = 11
    SEEDED = 12  # whether random words come from the key below
    DRAWN = 13  # random words drawn so far
    KEY = 14  # 4 words: 32 bytes of key
    GRANTED = 18  # whether the import `call` asks Python; 0: it answers that nothing is granted
    ACCOUNT = 19  # address of the struct cloche_account that pays for the processor time of calls; 0: none
    ITEMS = 20  # items of the batch in the next message, each of which has a deadline of its own; 0: it is no batch
    JOURNAL_MODE = 21  # enum cloche_journal_mode
    JOURNAL = 22  # address of the journal, which Python owns
    JOURNAL_BYTES = 23  # its size
    # set by the core
    STATE = 24  # enum cloche_state
    ADDRESS = 25  # of a request of the guest
    LENGTH = 26
    RESULT = 27  # what the export returned
    STOPPED = 28  # enum cloche_reason: why it was stopped; 0: the trap was its own
    TOLD = 29  # enum cloche_reason: what the guest was told in this call (DEADLINE or CANCELLED); 0: nothing
    TRAP_CODE = 30  # the engine's number of the trap; -1: none
    EXIT_CODE = 31
    RECORDS = 32  # whether the log ring has records, or has lost some
    MEMORY_BYTES = 33  # size of linear memory
    TOOK_NS = 34  # how long the last call took, waiting for Python included
    BURNED = 35  # fuel of the last call
    TELL_AT = 36  # CLOCK_MONOTONIC at which the call under way is told to stop; 0: never
    STOP_AT = 37  # CLOCK_MONOTONIC at which it is stopped; 0: never
    BASE = 38  # address of linear memory in this process; it never changes
    RING = 39  # addresses in linear memory: of the log ring,
    NOTICE = 40  # of the notice words,
    LAYOUT = 41  # of the layout table
    SERIAL = 42  # number of the call under way, or of the last one: for cloche_cancel
    SPENT_NS = 43  # processor time of the last call, as its account has paid it; 0 without an account
    JOURNAL_AT = 44  # bytes of the journal that are written, or that have been taken; Python sets it to 0
    JOURNAL_LOST = 45  # answers for which it had no room, or which it did not have; likewise
    JOURNAL_TOLD = 46  # whether a sleep that it has was cut short, so that the guest was told there; likewise
    TAPE = 48  # address of the tape, which Python owns, as the journal; set by Python, between calls
    TAPE_BYTES = 49  # its size; likewise
    TAPE_AT = 50  # bytes that are written; Python sets it to 0
    TAPE_WANTS = 51  # 1: Python has to empty it before the next call; 2: a call on it cannot be replayed; likewise
    TAPE_CALLS = 52  # calls that have ended on it; likewise
    TAPE_MOST = 53  # calls after which Python wants to empty it; set by Python, between calls
    SAMPLER = 54  # the sampler that looks at the guest: its number << 16 | a lane; 0: none; set by Python at any time


WORDS: Final = 64
"""So many words a guest has; those that `Word` does not name are not used."""


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
            "ring_held_at",
            "ring_header_bytes",
            "ring_capacity",
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
    "compare": (_INT, (_U64, _U64, _P, ctypes.c_size_t, _P, _P)),
    "gather": (_INT, (_U64, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)),
    "patch": (_INT, (_U64, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)),
    "is_clean": (_INT, (_U64,)),
    "message": (ctypes.c_size_t, (_U64, _P, ctypes.c_size_t)),
    "count_guests": (_U64, ()),
    "count_stacks": (_U64, ()),
    "note_handlers": (_INT, ()),
    "keep_handlers": (_INT, ()),
    "checksum": (_U64, (_P, ctypes.c_size_t)),
    "sampler_begin": (_INT, (_P, ctypes.c_size_t, _U64)),
    "sampler_end": (_INT, (_INT,)),
    "sampled": (_INT, (_INT, _INT, _U32, _P, _U32)),
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
    compare: Any
    gather: Any
    patch: Any
    is_clean: Any
    message: Any
    count_guests: Any
    count_stacks: Any
    note_handlers: Any
    keep_handlers: Any
    checksum: Any
    sampler_begin: Any
    sampler_end: Any
    sampled: Any

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
