"""Every import, export and number of the guest image, named once for C and Python.

Two C headers are generated from this module: ``wire/abi.h`` for the guest, and ``runtime/native/numbers.h`` with the numbers that
the native core needs. The host compares the imports and exports of an image with this module when it loads the image. Types are
those of the WebAssembly core specification.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 4
"""Version of the ABI: increased whenever anything below changes its meaning. It is part of the import module's name."""

IMPORT_MODULE: Final = f"cloche_v{VERSION}"

IMPORTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # name: (parameters, results). These functions are all that a guest can call in the host; only `call` takes an address.
    "clock": (("i32",), ("i64",)),  # clock id -> nanoseconds
    "random": ((), ("i64",)),  # 8 random bytes
    "sleep": (("i64",), ("i32",)),  # nanoseconds -> 0, or an errno; WASI_EINTR: ended early by a notice
    "poll": ((), ("i32",)),  # the host handles pending signals -> what the guest must raise, one of NOTICE_*
    "exit": (("i32",), ()),  # exit code, which the host records; the shim traps right after the call
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
    # message: address, length; reply: max nodes, max depth -> packed reply
    "node_call": (("i32", "i32", "i32", "i32"), ("i64",)),
    # the validator. Address, length, max nodes, max depth -> nonzero if the bytes are one valid item
    "node_check": (("i32", "i32", "i32", "i32"), ("i32",)),
}

CLOCK_ID_REALTIME: Final = 0
CLOCK_ID_MONOTONIC: Final = 1
CLOCK_ID_PROCESS_CPU: Final = 2
CLOCK_ID_THREAD_CPU: Final = 3

# Errnos of WASI (wasi_snapshot_preview1) with a special meaning in this ABI; those of file requests are in `files.ERRNOS`.
WASI_EINTR: Final = 27  # `sleep` ended early: there is a notice for the guest
WASI_ENOSYS: Final = 52  # no handler of the host answers this kind of request

# node_call returns (address << 32 | length) of the reply. If the address is 0, there is no reply, and the low half is one of these.
REPLY_NONE: Final = 0  # not even the failure could be encoded, usually because no memory is left
REPLY_INVALID: Final = 1  # the validator refused the reply: malformed, an unknown tag, too many nodes or levels

# `call` returns (address << 32 | length) of the answer. If the address is 0, there is no answer, and the low half is one of these.
ANSWER_NONE: Final = 0  # the node has no grants
ANSWER_NO_MEMORY: Final = 1  # node_alloc had no memory left for the answer
ANSWER_INTERRUPTED: Final = 2  # the host stopped waiting, because there is a notice for the guest

HOLD_REPLY: Final = 1 << 31
"""Flag in node_call's max depth: bodies of earlier replies stay allocated until the next call without this flag."""

# Exit codes of the shim itself. `os._exit` keeps only the low eight bits, so a node cannot exit with one of these.
# EXIT_OUTPUT: one call wrote more than `output_bytes` to stdout and stderr; or'ed with the number of bytes written.
EXIT_OUTPUT: Final = 1 << 31
EXIT_INIT: Final = 0x10002  # the initialiser failed, which can happen only while the image is built

# The log ring: a header of eight 32-bit words, little-endian, then RING_CAPACITY bytes, then twice RING_HELD_BYTES.
RING_MAGIC: Final = 0x676F6C63  # b"clog"
RING_CAPACITY: Final = 256 * 1024
RING_WORDS: Final = ("magic", "capacity", "head", "used", "records", "dropped", "held1", "held2")
RING_HEADER_BYTES: Final = 4 * len(RING_WORDS)
RING_ITEM: Final = 3
"""First number of the record ``[RING_ITEM, number]``: the records behind it belong to that item of a batch (STREAM_BATCH)."""
RING_HELD_BYTES: Final = 4096
"""Size of each of the two places behind the ring, for a line of stdout (1) and one of stderr (2) that was flushed before its end.
``held1`` and ``held2`` are the lengths of the records there; 0: none."""

OUT_OF_LINE_BYTES: Final = 4096
"""Bytes from which on a byte string, text or array body is sent out of line: beside the message, which holds its address."""

NUMBERS_SHORTEST: Final = 64
"""Items from which on a list of only integers, or only floats, is sent as one byte string (tag NUMBERS)."""

USUAL_REPLY_BYTES: Final = 64 << 20
USUAL_VALUE_DEPTH: Final = 64
USUAL_STACK_DEPTH: Final = 10_000
"""Limits of the guest until LOAD sets them, e.g. while the image is built. They equal the defaults of `cloche.Limits`."""

REQUEST_BUFFER_BYTES: Final = 64 * 1024
"""Size of the buffer that the host keeps in each instance for messages; a larger message gets a block of its own."""

# A notice asks a running guest to raise an exception. Another thread of the host writes one of these numbers into the word
# `request` (NOTICE_WORDS), and then ORs `breaker_bit` into the word at `breaker` (LAYOUT_WORDS), which makes CPython check.
# The thread repeats the OR every millisecond until `request` is NOTICE_NONE, because the guest changes the breaker without an
# atomic instruction and can lose the bit. At its next check the guest clears `request`, and raises the exception.
NOTICE_NONE: Final = 0
NOTICE_DEADLINE: Final = 1  # raises cloche_guest.DeadlineExceeded
NOTICE_CANCEL: Final = 2  # raises cloche_guest.Cancelled
NOTICE_POLL: Final = 3  # the guest calls the import `poll`, which returns the notice to act on
NOTICE_WORDS: Final = ("request", "live", "begun", "pause")
"""``live``: the host sets it before a call whose log records it wants at once. Then the guest calls the import `poll` after each
record, and sends a line that the node flushes before its end, instead of holding it.
``begun``: how many items of a batch (STREAM_BATCH) the guest has begun, so that each of them gets a deadline of its own.
``pause``: a debugger of the host sets it while the guest waits inside `poll`; then the guest clears it, and calls its own
debugger."""

LAYOUT_WORDS: Final = (
    "breaker",  # address of the main thread state's eval_breaker
    "breaker_bit",  # what to OR into it
    "current_frame",  # address of the word that points to the running frame (0: none)
    "frame_executable",  # offsets in a frame (_PyInterpreterFrame), up to frame_owner: its code object
    "frame_previous",  # the calling frame, or 0
    "frame_instr_ptr",  # address of the instruction that runs, or that runs next
    "frame_owner",  # a byte
    "frame_owned_by_cstack",  # value of frame_owner in frames that stand for C code and have no code object
    "object_type",  # offset of an object's type
    "object_size",  # offset of the number of items of an object of variable size: bytes, or instructions of 2 bytes
    "code_type",  # address of the type of code objects
    "code_filename",  # offsets in a code object, up to code_instructions: text
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
    "text_kind_shift",  # position in text_state of the bytes per character (1, 2 or 4)
    "text_kind_mask",  # mask of the bytes per character, after the shift
    "text_compact_bit",  # mask in text_state: the characters follow the header
    "text_ascii_bit",  # mask in text_state: all characters are ASCII
    "text_ascii_data",  # offset of the first character of a compact ASCII text
    "text_data",  # offset of the first character of any other compact text
)
"""32-bit words at the export `cloche_layout`: what a host needs to raise a notice, and to read the Python frames of a guest that
runs or was stopped. They never change, but a hostile node could overwrite them: read them from an instance in which no node has
run yet."""

STOP_PAGE: Final = 0
"""Address of the stop page."""
STOP_PAGE_BYTES: Final = 64 * 1024
"""Size of the stop page, which holds no data. In each round of every loop, and of every cycle of calls, the image loads a word from
its first 4096 bytes. Once the host has made those inaccessible, the guest traps within a bounded number of instructions."""
