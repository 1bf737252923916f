"""The guest's standard streams: lines written to stdout and stderr become log records, and stdin is empty."""

from __future__ import annotations

import codecs
import io
import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.failure import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloche_guest._host import Host

_MAX_PARTIAL: Final = 8192
"""Characters of an unfinished line that are buffered. A write that would exceed them first sends the line so far as a record."""
_NAMES: Final = {1: "stdout", 2: "stderr"}


class LineStream(io.TextIOBase):
    """A text stream that sends each complete line as one log record, and an unfinished line when the call ends.

    An unfinished line that the node has flushed is held where the host finds it, should the sandbox break before the line's end.

    Args:
        host: receives the records.
        number: 1 is stdout, 2 is stderr; the name is the records' logger.
        level: level of the records, as in `logging`.
        unfinished: gets what has something left to do when the call ends: a stream with an unfinished line, and for good the
            byte stream that the node has taken, because another text stream may keep what it was given for it.

    Attributes:
        partial: the unfinished line.
        level: level of the records.
        enabled: whether `level` reaches the threshold; if not, lines are counted but not sent.
        line_chars: characters kept of one line.
    """

    def __init__(self, host: Host, number: int, level: int, unfinished: set[object]) -> None:
        self._host = host
        self._unfinished = unfinished
        self._number = number
        self._name = _NAMES[number]
        self._is_held = False
        self.level = level
        self.partial = ""
        self.enabled = True
        self.line_chars = 64 * 1024
        self._bytes = _Bytes(self)

    def write(self, s: str) -> int:
        """Write a text. Its bytes are charged to the call's `output_bytes` first."""
        if not isinstance(s, str):
            raise TypeError(f"write() argument must be str, not {type(s).__name__}")
        size = len(s)
        self._host.count_output(size if s.isascii() else len(s.encode("utf-8", "surrogatepass")))
        if s == "\n":  # print() writes the line end separately: a fast path
            line, self.partial = self.partial, ""
            if line:
                self._unfinished.discard(self)
            self._send(line)
        elif "\n" in s:
            *lines, rest = (self.partial + s).split("\n")
            self.partial = rest
            if rest:
                self._unfinished.add(self)
            for line in lines:
                self._send(line)
        else:
            if len(self.partial) + size > min(_MAX_PARTIAL, self.line_chars):
                self.finish()
            if not self.partial:
                self._unfinished.add(self)
            self.partial += s
        return size

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write each line as it is."""
        for line in lines:
            self.write(line)

    def finish(self) -> None:
        """Send an unfinished line."""
        line, self.partial = self.partial, ""
        if line:
            self._send(line)

    def flush(self) -> None:
        """Hold the unfinished line where the host finds it after a break; send it if it is too long, or wanted at once."""
        if self.partial and self.enabled:
            if self._host.hold(self._number, self._record(self.partial)):
                self._is_held = True
            else:
                self.finish()

    def _send(self, line: str) -> None:
        if self.enabled:
            self._host.emit(self._record(line))
            if self._is_held:
                self._is_held = False
                self._host.hold(self._number, None)

    def _record(self, line: str) -> list[Any]:
        if len(line) > self.line_chars or not line.isascii():
            line = text(line, self.line_chars, f": log_bytes={self.line_chars}")
        return [self.level, self._name, line, None, None, time.time_ns()]

    @property
    def buffer(self) -> io.BufferedIOBase:
        """A byte stream that decodes UTF-8 and writes to this one."""
        self._unfinished.add(self._bytes)
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Always "backslashreplace", which is how `failure.text` treats lone surrogates."""
        return "backslashreplace"

    @property
    def name(self) -> str:
        """The name in CPython's form, e.g. "<stdout>"."""
        return f"<{self._name}>"

    @property
    def line_buffering(self) -> bool:
        """Always true: each line is a record."""
        return True

    def reconfigure(self, **options: Any) -> None:
        """Does nothing; accepts the options of `io.TextIOWrapper.reconfigure`."""

    def writable(self) -> bool:
        """Always true."""
        return True

    def detach(self) -> io.BufferedIOBase:  # type: ignore[override]  # typeshed has BinaryIO
        """The byte stream, around which nodes put a text stream with an encoding of their choice. This one stays usable."""
        return self.buffer

    def close(self) -> None:
        """Send the unfinished line. The stream stays open, because later calls of the node print to it, too."""
        self.finish()


class _Bytes(io.BufferedIOBase):
    def __init__(self, target: LineStream) -> None:
        self._target = target
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._target.write(self._decoder.decode(content))
        return len(content)

    def flush(self) -> None:
        self._target.flush()

    def close(self) -> None:
        self.flush()  # a text stream around this one closes it when it is freed

    def writable(self) -> bool:
        return True


class Streams:
    """The three standard streams of a node.

    Attributes:
        unfinished: what has something left to do when the call ends; while it is empty, `finish` need not be called.
    """

    def __init__(self, host: Host) -> None:
        self.unfinished: set[object] = set()
        self.stdout = LineStream(host, 1, logging.INFO, self.unfinished)
        self.stderr = LineStream(host, 2, logging.WARNING, self.unfinished)
        self.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    def install(self) -> None:
        """Replace the interpreter's standard streams for the rest of the process."""
        sys.stdout = sys.__stdout__ = self.stdout  # type: ignore[misc, assignment]  # a text stream
        sys.stderr = sys.__stderr__ = self.stderr  # type: ignore[misc, assignment]
        sys.stdin = sys.__stdin__ = self.stdin  # type: ignore[misc]

    def configure(self, level: int, log_bytes: int) -> None:
        """Set the threshold (a level of `logging`) and the maximum characters of one line."""
        for stream in (self.stdout, self.stderr):
            stream.enabled = stream.level >= level
            stream.line_chars = log_bytes

    def finish(self) -> None:
        """Send the unfinished lines of both streams, at the end of a call."""
        ours = self.stdout, self.stderr
        if self.unfinished.difference(ours):
            for current in (sys.stdout, sys.stderr):
                if current not in ours:
                    with suppress(Exception):  # code of the node
                        current.flush()
        for stream in ours:
            stream.finish()
        self.unfinished.difference_update(ours)
