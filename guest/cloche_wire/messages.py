"""Requests and replies, and what the guest asks in between. A message is one CBOR array whose first item says what it is.

A request is ``[op, call, *operands]``, a reply ``[reply, value]``. ``call`` counts the calls on an instance from 1.
While it works on a request, the guest may ask the host: ``[ask, *operands]``, answered by ``[true, value]`` or
``[false, failure]``; a failure is an errno of WASI, or ``[type name, message]`` of a builtin exception.
"""

from __future__ import annotations

from enum import IntEnum


class Op(IntEnum):
    """What the host asks of the guest; operands in brackets."""

    PROFILE = 0
    """["start", builtins] -> RESULT [inner, outer]; ["take"] -> RESULT [text, bstr, dropped]; ["stop"] (docs/reference/wire.md)"""
    LOAD = 1
    """[map: see docs/reference/wire.md] -> RESULT {entry, kind, streaming, source, sink, methods}"""
    PROCESS = 2
    """[*arguments] -> RESULT what the node's process returned, awaited"""
    INVOKE = 3
    """[method, *arguments] -> RESULT; initialize, flush or cleanup: absent methods answer null"""
    GET = 4
    """[name] -> RESULT value of that attribute of the node"""
    RESEED = 5
    """[32 bytes] seed the random generators anew, in a clone or a restored snapshot -> RESULT null"""
    STREAM_OPEN = 6
    """[] -> NEED, YIELD or END"""
    STREAM_FEED = 7
    """[item] the item that the guest asked for -> YIELD_NEED, YIELD, NEED, END"""
    STREAM_NEXT = 8
    """[] go on after a YIELD -> as STREAM_FEED"""
    STREAM_END = 9
    """[] the host's input has ended -> as STREAM_FEED"""
    STREAM_THROW = 10
    """[type name, message] the host's input raised -> as STREAM_FEED"""
    STREAM_CLOSE = 11
    """[] close the generators now, run their finally blocks -> RESULT null"""


class Reply(IntEnum):
    """What the guest answers; the value is described beside each."""

    RESULT = 0
    """the value asked for"""
    FAILURE = 1
    """a Failure as a map: the node raised, or its value cannot be encoded"""
    YIELD = 2
    """one output of a stream; more may follow at once (STREAM_NEXT)"""
    YIELD_NEED = 3
    """one output of a stream, and the next input is wanted (STREAM_FEED)"""
    NEED = 4
    """null: the next input is wanted (STREAM_FEED, STREAM_END or STREAM_THROW)"""
    END = 5
    """null: the stream has ended"""


class Ask(IntEnum):
    """What the guest asks of the host, through the import ``call``; operands in brackets."""

    SERVICE = 1
    """[name, [*arguments], {keyword arguments}] -> what the service returned"""
    SERVICES = 2
    """[] -> the names of the services that the node was granted, sorted"""
    OPEN = 16
    """[path, flags of `files.Open`] -> [handle, kind]. Paths are bytes, absolute without the leading slash, "" is the root"""
    CLOSE = 17
    """[handle] -> null"""
    READ = 18
    """[handle, position, number of bytes] -> bytes, fewer at the end or over `files.CHUNK_BYTES`"""
    WRITE = 19
    """[handle, bytes, position; none: at the end] -> number of bytes written, fewer if the quota ends there"""
    STATUS = 20
    """[path or handle] -> [kind, size, nanoseconds since 1970 of the last change]"""
    LIST = 21
    """[handle, 1 to begin anew or 0 to go on] -> [name, kind, name, kind, ...] of some entries; none: that was all"""
    MKDIR = 22
    """[path] -> null"""
    UNLINK = 23
    """[path] -> null"""
    RMDIR = 24
    """[path] -> null"""
    RENAME = 25
    """[old path, new path] -> null"""
    RESIZE = 26
    """[handle, number of bytes] -> null"""
    TOUCH = 27
    """[path or handle, nanoseconds since 1970] -> null"""
