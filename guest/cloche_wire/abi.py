"""Every import, export and number of the guest image, named once.

The C header ``wasm/shim/abi.h`` is generated from this module, and the host compares a module's imports and
exports with it at load. Types are those of the WebAssembly core specification.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
"""Raised whenever anything below changes its meaning. It is part of the import module's name."""

IMPORT_MODULE: Final = f"cloche_v{VERSION}"

IMPORTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # name: (parameters, results). This is the whole attack surface of the host: only `call` takes an address.
    "clock": (("i32",), ("i64",)),  # clock id -> nanoseconds
    "random": ((), ("i64",)),  # 8 random bytes
    "sleep": (("i64",), ("i32",)),  # nanoseconds -> 0, or an errno
    "exit": (("i32",), ()),  # records the code; the shim traps right after
    "call": (("i32", "i32"), ("i64",)),  # request (address, length) -> answer (address << 32 | length), or 0
}

EXPORTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]] | str]] = {
    "memory": "memory",
    "__stack_pointer": "global",
    "cloche_ring": "global",  # address of the log ring's header
    "node_alloc": (("i32",), ("i32",)),  # size -> address (0: no memory left)
    "node_free": (("i32",), ()),
    "node_call": (("i32", "i32", "i32", "i32"), ("i64",)),  # address, length, max nodes, max depth -> packed reply
    "node_check": (
        ("i32", "i32", "i32", "i32"),
        ("i32",),
    ),  # as node_call's arguments -> whether it is one item of the profile
}

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPU: Final = 2
CLOCK_THREAD_CPU: Final = 3

# node_call answers (address << 32 | length); with address 0 the low half is one of these.
REPLY_NONE: Final = 0  # not even the error could be encoded (no memory left, as a rule)
REPLY_INVALID: Final = 1  # the validator refused the reply: malformed, a foreign tag, over a budget

# `call` answers in the same way; with address 0 the low half is one of these.
ANSWER_NONE: Final = 0  # nothing is granted
ANSWER_NO_MEMORY: Final = 1  # node_alloc had no memory left for the answer

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

REQUEST_BUFFER_BYTES: Final = 64 * 1024
"""The host allocates one request buffer of this size per instance, and another for each larger message."""
