"""Frames of the Debug Adapter Protocol: a header with ``Content-Length``, an empty line, and a JSON object."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from cloche.errors import ClocheError

__all__ = ["FramingError", "Stream", "frame", "read_message"]

_MAX_BODY: Final = 4 << 20
_MAX_HEADER: Final = 4096
_MAX_DIGITS: Final = 8


class FramingError(ClocheError):
    """The client sent something that is not a message of the protocol."""


class Stream(Protocol):
    """A buffered binary stream to read from."""

    def readline(self, size: int, /) -> bytes:
        """A line, with its end; of `size` bytes at most."""

    def read(self, size: int, /) -> bytes:
        """Exactly so many bytes, or fewer at the end."""


def read_message(stream: Stream) -> dict[str, Any] | None:
    """The next message; None at the end of the stream.

    Raises:
        FramingError: it is malformed, or too long.
        OSError: the stream cannot be read.
    """
    length = -1
    room = _MAX_HEADER
    while True:
        line = stream.readline(room)
        if not line:
            if length < 0 and room == _MAX_HEADER:
                return None
            raise FramingError("the stream ends inside a header")
        room -= len(line)
        if not line.endswith(b"\n"):
            raise FramingError("a header is too long")
        name, colon, value = line.strip().partition(b":")
        if not name:
            break
        if name.lower() == b"content-length":
            digits = value.strip()
            if not digits.isdigit() or len(digits) > _MAX_DIGITS:
                raise FramingError("Content-Length is not a number")
            length = int(digits)
        elif not colon:
            raise FramingError("a line of the header has no colon")
    if not 0 <= length <= _MAX_BODY:
        raise FramingError("a header has no Content-Length, or too large a one")
    body = stream.read(length)
    if len(body) < length:
        raise FramingError("the stream ends inside a message")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FramingError(f"a message is not JSON: {error}") from None
    if type(message) is not dict:
        raise FramingError("a message is not an object")
    return message


def frame(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
