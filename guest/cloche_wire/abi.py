"""Every import, export and number of the guest image, named once.

The guest's C gets these numbers as ``wire/abi.h`` when it is compiled, the native core those that it needs as
``runtime/native/numbers.h``. The host compares a module's imports and
exports with it at load. Types are those of the WebAssembly core specification.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2
"""Raised whenever anything below changes its meaning. It is part of the import module's name."""

IMPORT_MODULE: Final = f"cloche_v{VERSION}"

IMPORTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # name: (parameters, results). This is the whole attack surface of the host: only `call` takes an address.
    "clock": (("i32",), ("i64",)),  # clock id -> nanoseconds
    "random": ((), ("i64",)),  # 8 random bytes
    "sleep": (("i64",), ("i32",)),  # nanoseconds -> 0, or an errno; WASI_EINTR: a notice waits
    "poll": ((), ("i32",)),  # the host looks at what waits for it (signals) -> one of NOTICE_*; NOTICE_NONE: go on
    "exit": (("i32",), ()),  # records the code; the shim traps right after
    "call": (("i32", "i32"), ("i64",)),  # request (address, length) -> answer (address << 32 | length), or 0
}

EXPORTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]] | str]] = {
    "memory": "memory",
    "__stack_pointer": "global",
    "cloche_ring": "global",  # address of the log ring's header
    "cloche_notice": "global",  # address of NOTICE_WORDS
    "cloche_layout": "global",  # address of LAYOUT_WORDS
    "node_alloc": (("i32",), ("i32",)),  # size -> address (0: no memory left)
    "node_free": (("i32",), ()),
    "node_call": (("i32", "i32", "i32", "i32"), ("i64",)),  # address, length, max nodes, max depth -> packed reply
    "node_check": (
        ("i32", "i32", "i32", "i32"),
        ("i32",),
    ),  # as node_call's arguments -> whether it is one item of the profile
}

CLOCK_ID_REALTIME: Final = 0
CLOCK_ID_MONOTONIC: Final = 1
CLOCK_ID_PROCESS_CPU: Final = 2
CLOCK_ID_THREAD_CPU: Final = 3

# Errors of WASI (wasi_snapshot_preview1, errno) that mean something of their own here; `files.ERRNOS` has those of files.
WASI_EINTR: Final = 27  # a notice waits for the guest
WASI_ENOSYS: Final = 52  # the host answers requests, but not this one

# node_call answers (address << 32 | length); with address 0 the low half is one of these.
REPLY_NONE: Final = 0  # not even the error could be encoded (no memory left, as a rule)
REPLY_INVALID: Final = 1  # the validator refused the reply: malformed, a foreign tag, over a budget

# `call` answers in the same way; with address 0 the low half is one of these.
ANSWER_NONE: Final = 0  # nothing is granted
ANSWER_NO_MEMORY: Final = 1  # node_alloc had no memory left for the answer
ANSWER_INTERRUPTED: Final = 2  # the host stopped waiting, because a notice waits for the guest

HOLD_REPLY: Final = 1 << 31
"""Or'ed to node_call's max depth: what earlier replies point to stays alive, until a call without it."""

# Exit codes that the shim itself uses; `os._exit` keeps the low eight bits, so a node cannot pick one of these.
EXIT_OUTPUT: Final = 1 << 31  # or'ed to the bytes written: more than `output_bytes` to stdout and stderr in one call
EXIT_INIT: Final = 0x10002  # the initialiser failed (only while the image is built)

# The log ring: a header of eight 32-bit words, little-endian, then RING_CAPACITY bytes.
RING_MAGIC: Final = 0x676F6C63  # b"clog"
RING_CAPACITY: Final = 256 * 1024
RING_WORDS: Final = ("magic", "capacity", "head", "used", "records", "dropped", "reserved0", "reserved1")
RING_HEADER_BYTES: Final = 4 * len(RING_WORDS)

OUT_OF_LINE_BYTES: Final = 4096
"""Byte strings, texts and array bodies of at least this size travel beside the message, not in it."""

NUMBERS_SHORTEST: Final = 64
"""Lists of nothing but integers, or floats, of at least this length travel as one byte string."""

USUAL_REPLY_BYTES: Final = 64 << 20
USUAL_VALUE_DEPTH: Final = 64
USUAL_STACK_DEPTH: Final = 10_000
"""What the guest goes by until its limits are set, as while the image is built: the defaults of `cloche.Limits`."""

REQUEST_BUFFER_BYTES: Final = 64 * 1024
"""The host allocates one request buffer of this size per instance, and another for each larger message."""

# A notice: the host writes one of these into `request` from another thread while the guest runs, and then ORs `breaker_bit` into
# the word at `breaker` (LAYOUT_WORDS), again every millisecond until `request` is NOTICE_NONE: the guest changes that word without
# an atomic instruction, and may lose the bit. The guest clears `request` and raises, at its next check, which exception it is.
NOTICE_NONE: Final = 0
NOTICE_DEADLINE: Final = 1  # raises cloche_guest.DeadlineExceeded
NOTICE_CANCEL: Final = 2  # raises cloche_guest.Cancelled
NOTICE_POLL: Final = 3  # the guest calls the import `poll`, and does what that answers
NOTICE_WORDS: Final = ("request", "reserved0", "reserved1", "reserved2")

LAYOUT_WORDS: Final = (
    "breaker",  # address of the main thread state's eval_breaker
    "breaker_bit",  # what to OR into it
    "current_frame",  # address of the word that points to the running frame (0: none)
    "frame_executable",  # offsets in a frame (_PyInterpreterFrame): its code object
    "frame_previous",  # the frame that called it, or 0
    "frame_instr_ptr",  # address of the instruction that runs, or that runs next
    "frame_owner",  # a byte
    "frame_owned_by_cstack",  # the value of that byte in frames that stand for C code: they have no code object
    "object_type",  # offset of an object's type
    "object_size",  # offset of the number of items of an object of variable size: bytes, or instructions of 2 bytes
    "code_type",  # address of the type of code objects
    "code_filename",  # offsets in a code object: text
    "code_name",  # text
    "code_qualname",  # text
    "code_firstlineno",  # a signed 32-bit number
    "code_linetable",  # bytes
    "code_instructions",  # the first instruction
    "bytes_type",  # address of the type of byte strings
    "bytes_data",  # offset of a byte string's first byte
    "text_type",  # address of the type of texts
    "text_length",  # offset of the number of characters
    "text_state",  # offset of the word that has the bits below
    "text_kind_shift",  # where the bytes of one character (1, 2 or 4) are in it ...
    "text_kind_mask",  # ... and their mask, once shifted
    "text_compact_bit",  # the characters follow the header; masks
    "text_ascii_bit",  # all of them are ASCII
    "text_ascii_data",  # offset of the first character of a compact ASCII text
    "text_data",  # and of another compact one
)
"""What a host needs to raise a notice, and to read the frames of a guest that runs or has been stopped: 32-bit words at
`cloche_layout`, which never change. Read them from an instance in which no node has run yet."""

STOP_PAGE: Final = 0
STOP_PAGE_BYTES: Final = 64 * 1024
"""The image uses these bytes for nothing. Every loop and every cycle of calls loads a word from the first 4096 of them on each way
round: once the host has made those inaccessible, the guest traps within a bounded number of instructions."""
