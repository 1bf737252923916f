"""What the host and a worker say to each other: fixed headers in front of bytes that only the host encodes and decodes.

Each node has a socket of its own (SOCK_SEQPACKET: a message arrives whole or not at all). A header is followed by a payload of
tables and one frame, which is the guest's own message; a payload larger than `INLINE` lies in the node's area of shared
memory instead, at its start. Descriptors travel from the host to the worker only.

Each request that is answered has a number, one more than the last; whatever a worker sends on account of it has the same number. A
call can be interrupted in the host at any moment (Ctrl-C), and its answer may still come: the number tells it from
the answer to the next request. Requests that are not answered have number 0.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

__all__ = [
    "ANSWER",
    "BODY",
    "FRAMES_BYTES",
    "INBOX",
    "INLINE",
    "LENGTH",
    "LIMITED_BY",
    "RANGE",
    "REQUEST",
    "RUN",
    "SHARED",
    "SNAPSHOT",
    "WHERE",
    "Answer",
    "Request",
    "StopReason",
]

INLINE: Final = 32 * 1024
"""Bytes of payload that travel in the message."""

INBOX: Final = 256 * 1024
"""Size of a receive buffer: no message is larger."""


WHERE: Final = (1 << 64) - 1
"""In place of a request's number, on a worker's control socket: answer with the node's frames, on the socket that comes along."""

FRAMES_BYTES: Final = 64 * 1024
"""What that answer has at most."""


class Request(IntEnum):
    """What the host asks of a node's worker. `a` and `b` are the header's two numbers."""

    OPEN = 1
    """frame: how to make the instance; a descriptor, if it starts from a snapshot: `a` bytes of pages, then the runs"""
    CALL = 2
    """a message for the guest, with its bodies (BODY) and the shared buffers that it names (SHARED); `a`: microseconds that it
    has, 0 for its deadline; `b`: which of `LIMITED_BY` that is"""
    READ = 3
    """copy `b` bytes at guest address `a` to the area that comes as a descriptor. It changes nothing in the guest"""
    SHARE = 4
    """`a` bytes for host and guest together, in the area that comes as a descriptor, as buffer number `b` -> frame: the guest's
    address"""
    SNAPSHOT = 5
    """-> frame: SNAPSHOT, and a list of `Snapshot.outside`; the area: pages, then runs"""
    ROOM = 6
    """use the area of `a` bytes that comes as a descriptor from now on; 0: none. Not answered"""
    RENAME = 7
    """frame: the node's new name. Not answered"""
    ANSWER = 8
    """what the host answers to ASK, with its bodies as in CALL; `b`: a `StopReason`"""
    CLOSE = 9
    """the guest is at rest and not wanted any more. Not answered"""


LIMITED_BY: Final = ("deadline_s", "stream_s", "load_s")
"""The fields of `Limits` that can bound a call."""


class StopReason(IntEnum):
    """Whether the guest is told to stop, and why. While it asks the host, the host's clock, which started first, decides."""

    NONE = 0
    CANCELLED = 1
    DEADLINE = 2


class Answer(IntEnum):
    """What a worker answers."""

    DONE = 1
    """frame: the guest's reply, with the ranges of guest memory that it seems to name (RANGE)"""
    FAILED = 2
    """frame: an error as data (`remote_errors`)"""
    NEED = 3
    """`memory` bytes of area: send ROOM, and the answer follows"""
    ASK = 4
    """frame: what the guest asks of the host during a call; empty: it has more than value_nodes items. Send ANSWER"""


REQUEST: Final = Struct(
    "<BB2xQIIIQQ"
)  # kind, whether the payload is in the area, number, bodies, shared, bytes of the frame, a, b
ANSWER: Final = Struct(
    "<BBBxQIIIIQQ"
)  # kind, payload in the area, `StopReason`, number of the request, ranges, bytes of the frame, of the logs, dropped, memory, fuel
BODY: Final = Struct("<III")  # where in the frame its address is to be written, offset in the area, length
SHARED: Final = Struct("<III")  # number of the buffer, offset in it, length
RANGE: Final = Struct("<III")  # guest address, length, offset in the area
RUN: Final = Struct("<II")  # first page, number of pages
SNAPSHOT: Final = Struct(
    "<QQII"
)  # bytes of linear memory, bytes of pages, number of runs, address of the request buffer
LENGTH: Final = Struct("<I")  # in front of each log record
