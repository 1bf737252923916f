"""The numbers of messages, replies and requests. Each of them is one CBOR array that begins with its number.

- The host sends a *message* ``[op, call, *operands]``, and the guest returns a *reply* ``[reply, value]``. ``call`` counts the
calls
  of an instance from 1.
- While the guest works on a message, it may make *requests* ``[ask, *operands]``. The host *answers* each with ``[true, value]`` or
  ``[false, failure]``, where the failure is an errno of WASI, or ``[type name, message]`` of a builtin exception.
"""

from __future__ import annotations

from enum import IntEnum


class Op(IntEnum):
    """Messages of the host: operands in brackets -> the reply."""

    PROFILE = 0
    """["start", builtins] -> RESULT [inner, outer]; ["take"] -> RESULT [text, bstr, dropped]; ["stop"] (docs/reference/wire.md)"""
    LOAD = 1
    """[map: see docs/reference/wire.md] -> RESULT {entry, kind, streaming, source, sink, methods}"""
    PROCESS = 2
    """[*arguments] -> RESULT what the node's process returned, awaited. With keyword arguments: CALL"""
    INVOKE = 3
    """[method, *arguments] -> RESULT what the method returned; null if the node lacks the method initialize, flush or cleanup"""
    GET = 4
    """[name] -> RESULT value of that attribute of the node"""
    RESEED = 5
    """[32 bytes] seed the random generators anew, in a clone or a restored snapshot -> RESULT null"""
    STREAM_OPEN = 6
    """[] -> NEED, YIELD or END; [true]: there is no input, so process is called without one, if that is possible"""
    STREAM_FEED = 7
    """[item] the next input -> YIELD_NEED, YIELD, NEED or END"""
    STREAM_NEXT = 8
    """[] go on after a YIELD -> YIELD_NEED, YIELD, NEED or END"""
    STREAM_END = 9
    """[] the host's input has ended -> YIELD_NEED, YIELD, NEED or END"""
    STREAM_THROW = 10
    """[type name, message] the host's input raised this exception -> YIELD_NEED, YIELD, NEED or END"""
    STREAM_CLOSE = 11
    """[] close the node's generators now, running their finally blocks -> RESULT null"""
    CALL = 12
    """[method or null, [*arguments], {keyword arguments}] null: what PROCESS calls -> RESULT what it returned, awaited"""
    STREAM_BATCH = 13
    """[[[*items], end]] the next inputs of the open stream, one after the other; end: no more follow -> BATCH"""
    STREAM_TAKE = 14
    """[call, number] -> RESULT the outputs of that item of the batch with that call number, if they cannot all be sent together;
    null if the last batch was another one"""
    DEBUG = 15
    """["start", {settings}], ["breakpoints", {breakpoints}], ["count", number] or ["stop"] -> RESULT (docs/reference/wire.md)"""


class Reply(IntEnum):
    """Replies of the guest; below each is its value."""

    RESULT = 0
    """the result, as the message describes it"""
    FAILURE = 1
    """a `Failure` as a map: the node raised, or its result cannot be encoded"""
    YIELD = 2
    """one output of a stream; more may follow at once (STREAM_NEXT)"""
    YIELD_NEED = 3
    """one output of a stream, and the next input is wanted (STREAM_FEED)"""
    NEED = 4
    """null: the next input is wanted (STREAM_FEED, STREAM_END or STREAM_THROW)"""
    END = 5
    """null: the stream has ended"""
    BATCH = 6
    """[outcomes, failure, ended]: for each item that was worked on the list of its outputs, and after the input's end that of what
    flush gives; the `Failure` of the item after those, or null; whether the stream has ended"""


class Ask(IntEnum):
    """Requests of the guest, through the import ``call``: operands in brackets -> the value of the answer."""

    SERVICE = 1
    """[name, [*arguments], {keyword arguments}] -> what the service returned"""
    SERVICES = 2
    """[] -> the names of the services that the node was granted, sorted"""
    DEBUG = 3
    """[event, value] of the guest's debugger -> [command, *operands] (docs/reference/wire.md)"""
    OPEN = 16
    """[path, flags of `files.Open`] -> [handle, kind]. Paths are bytes, absolute without the leading slash, "" is the root"""
    CLOSE = 17
    """[handle] -> null"""
    READ = 18
    """[handle, position, number of bytes] -> bytes; fewer at the end of the file, and at most `files.CHUNK_BYTES`"""
    WRITE = 19
    """[handle, bytes, position], or [handle, bytes] to append -> number of bytes written; fewer if the quota is used up"""
    STATUS = 20
    """[path or handle] -> [kind, size, nanoseconds since 1970 of the last change]"""
    LIST = 21
    """[handle, 1 to start over or 0 to go on] -> [name, kind, name, kind, ...] of the next entries; empty after the last one"""
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
