"""The messages between the host and a worker process: a fixed header, tables, and one frame that only the host and the guest read.

Each node has a socket of its own (SOCK_SEQPACKET: a message arrives whole or not at all). A header is followed by a payload of
tables and one frame, which is the guest's own message; a payload larger than `INLINE` lies in the node's area of shared
memory instead, at its start. File descriptors are sent by the host only, never by the worker.

Requests are numbered; each message that a worker sends for a request carries the request's number. An exception (Ctrl-C) can end a
call in the host at any moment while its answer is still on the way: the number tells a late answer from the answer to the next
request. Requests without an answer have number 0.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from cloche._sandbox import GIVEN

__all__ = [
    "ANSWER",
    "BODY",
    "ENDLESS_US",
    "FRAMES_BYTES",
    "INBOX",
    "INLINE",
    "LENGTH",
    "LIMITED_BY",
    "LIVE",
    "PRIVATE",
    "RANGE",
    "REQUEST",
    "SAMPLE",
    "SHARED",
    "SNAPSHOT",
    "WHERE",
    "Answer",
    "Request",
    "StopReason",
]

INLINE: Final = 32 * 1024
"""Largest payload in bytes that is sent inside of the message."""

INBOX: Final = 256 * 1024
"""Size of a receive buffer in bytes: no message is larger."""


WHERE: Final = (1 << 64) - 1
"""Replaces the request number on a worker's control socket: the worker then sends the Python frames of a node (`Node.where`) to the
socket that came along."""

PRIVATE: Final = WHERE - 1
"""As WHERE: the worker sends the node's private memory in bytes (`Stats.private_bytes`), as eight bytes, the lowest first."""

SAMPLE: Final = WHERE - 2
"""As WHERE, with a third number, nanoseconds between two samples: the worker samples the node, and says what it has found on the
socket that came along, a stream (`samples`)."""

FRAMES_BYTES: Final = 64 * 1024
"""Largest answer to WHERE in bytes."""


class Request(IntEnum):
    """Requests of the host to a worker, for one node. `a` and `b` are the two numbers in the header."""

    OPEN = 1
    """frame: options of the new instance. With a snapshot comes a descriptor of shared memory: `a` bytes of pages, masks and
    words, in this order"""
    CALL = 2
    """frame: a message for the guest, with its bodies (BODY) and the shared buffers that it names (SHARED); `a`: microseconds
    that the call may take, 0 for `Limits.deadline_s`, ENDLESS_US for as long as it takes; `b`: index in `LIMITED_BY` of what bounds
    it, or'ed with LIVE if log records are wanted at once, and with
    65,536 times the items of a batch, each of which may take that long"""
    READ = 3
    """copy `b` bytes at guest address `a` to the shared memory that comes as a descriptor. Changes nothing in the guest"""
    SHARE = 4
    """make `a` bytes of shared memory, which comes as a descriptor, the guest's buffer number `b` -> frame: its guest address"""
    SNAPSHOT = 5
    """-> frame: SNAPSHOT and `Snapshot.outside`; shared memory: pages, masks and words, in this order"""
    ROOM = 6
    """use the shared memory of `a` bytes that comes as a descriptor from now on; 0: use none. Not answered"""
    RENAME = 7
    """frame: the node's new name. Not answered"""
    ANSWER = 8
    """the host's answer to ASK, with its bodies as in CALL; `b`: a `StopReason`"""
    CLOSE = 9
    """close the instance, whose guest is at rest. Not answered"""
    PAY = 10
    """count the processor time of the next CALL, which may use `a` - 1 nanoseconds; 0: as many as it needs. Not answered"""
    BOUND = 11
    """the guest's memory may have `a` bytes from now on. Not answered"""
    GO_ON = 12
    """the host has taken RECORDS out of the shared memory, which the worker may use again. Not answered"""
    LOADED = 13
    """the node of a recorded instance is loaded: its first checkpoint is to be taken"""
    RECORDING = 14
    """what has been recorded, in at most `a` bytes; also of an instance that has broken -> frame: a list, see `NodeServer`; shared
    memory: the columns of the states, and the events"""


LIMITED_BY: Final = ("deadline_s", "stream_s", "load_s", GIVEN)
"""What can bound the time of a call: fields of `Limits`, or a deadline for that call alone."""
ENDLESS_US: Final = (1 << 64) - 1
"""In place of the microseconds that a call may take: it has no deadline."""


LIVE: Final = 1 << 8
"""Flag in `b` of CALL: the worker sends the guest's log records as they come (`Answer.RECORDS`)."""


class StopReason(IntEnum):
    """Why the guest is told to stop, if it is. While the guest waits for an answer of the host, the host's clock decides."""

    NONE = 0
    CANCELLED = 1
    DEADLINE = 2
    BUDGET = 3


class Answer(IntEnum):
    """Messages of a worker."""

    DONE = 1
    """frame: the guest's reply, with copies of the ranges of guest memory that the reply refers to (RANGE)"""
    FAILED = 2
    """frame: an error as data (`remote_errors`)"""
    NEED = 3
    """the worker needs `memory` bytes of shared memory for its answer: send ROOM, and the answer follows"""
    ASK = 4
    """frame: a request of the guest to the host, during a call; empty if it has more than value_nodes items. Send ANSWER"""
    RECORDS = 5
    """log records of a call with the flag LIVE, which goes on. If they are in the shared memory, send GO_ON; otherwise nothing"""


REQUEST: Final = Struct(
    "<BB2xQIIIQQ"
)  # kind, whether the payload is in the area, number, bodies, shared, bytes of the frame, a, b
ANSWER: Final = Struct(
    "<BBBxQIIIIQQQ"
)  # kind, payload in the area, `StopReason`, number of the request, ranges, bytes of the frame, of the logs, dropped, memory, fuel,
# nanoseconds of processor time
BODY: Final = Struct("<III")  # where in the frame its address is to be written, offset in the area, length
SHARED: Final = Struct("<III")  # number of the buffer, offset in it, length
RANGE: Final = Struct("<III")  # guest address, length, offset in the area
SNAPSHOT: Final = Struct("<QIIQI")  # bytes of linear memory, of pages, masks and words, address of the request buffer
LENGTH: Final = Struct("<I")  # in front of each log record
