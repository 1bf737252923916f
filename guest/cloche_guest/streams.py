"""``sys.stdout`` and ``sys.stderr`` whose lines become log records, and a ``sys.stdin`` at its end."""

from __future__ import annotations

import codecs
import io
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from cloche_guest.failure import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloche_guest._host import Host

_MAX_PARTIAL: Final = 8192
"""Characters of an unfinished line that are kept (a single longer write is, too); beyond them it is sent as it is."""


class LineStream(io.TextIOBase):
    """A text stream: every whole line is one record, and the rest follows when the call ends.

    Attributes:
        partial: the unfinished line.
        level: its records' level.
        enabled: whether `level` reaches the threshold.
        line_chars: characters kept of one line.
    """

    def __init__(self, host: Host, name: str, level: int) -> None:
        self._host = host
        self._name = name
        self.level = level
        self.partial = ""
        self.enabled = True
        self.line_chars = 64 * 1024
        self._bytes = _Bytes(self)

    def write(self, s: str) -> int:
        """Take any text. It is charged to the call's output before anything else happens."""
        if not isinstance(s, str):
            raise TypeError(f"write() argument must be str, not {type(s).__name__}")
        size = len(s)
        self._host.count_output(size if s.isascii() else len(s.encode("utf-8", "surrogatepass")))
        if s == "\n":  # print() writes its line end by itself
            line, self.partial = self.partial, ""
            self._send(line)
        elif "\n" in s:
            *lines, rest = (self.partial + s).split("\n")
            self.partial = rest
            for line in lines:
                self._send(line)
        else:
            if len(self.partial) + size > min(_MAX_PARTIAL, self.line_chars):
                self.finish()
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

    def _send(self, line: str) -> None:
        if self.enabled:
            line = text(line, self.line_chars, f": log_bytes={self.line_chars}")
            self._host.emit([self.level, self._name, line, None, None, time.time_ns()])

    @property
    def buffer(self) -> io.BufferedIOBase:
        """A byte stream in front of this one."""
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What `failure.text` does with lone surrogates."""
        return "backslashreplace"

    @property
    def name(self) -> str:
        """As CPython names its own."""
        return f"<{self._name}>"

    @property
    def line_buffering(self) -> bool:
        """Always: a record is a line."""
        return True

    def reconfigure(self, **options: Any) -> None:
        """Accept what `io.TextIOWrapper` does; nothing changes."""

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Send what there is. The stream stays open: the next call of the node prints to it too."""
        self.finish()


class _Bytes(io.BufferedIOBase):
    def __init__(self, target: LineStream) -> None:
        self._target = target
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._target.write(self._decoder.decode(content))
        return len(content)

    def writable(self) -> bool:
        return True


class Streams:
    """The three standard streams of a node."""

    def __init__(self, host: Host) -> None:
        self.stdout = LineStream(host, "stdout", logging.INFO)
        self.stderr = LineStream(host, "stderr", logging.WARNING)
        self.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    def install(self) -> None:
        """Replace the interpreter's streams, for the life of the process."""
        sys.stdout = sys.__stdout__ = self.stdout  # type: ignore[misc, assignment]  # a text stream
        sys.stderr = sys.__stderr__ = self.stderr  # type: ignore[misc, assignment]
        sys.stdin = sys.__stdin__ = self.stdin  # type: ignore[misc]

    def configure(self, level: int, log_bytes: int) -> None:
        """Set the threshold (as in `logging`) and the cap of one line."""
        for stream in (self.stdout, self.stderr):
            stream.enabled = stream.level >= level
            stream.line_chars = log_bytes

    def finish(self) -> None:
        """Send both unfinished lines: the call has ended."""
        self.stdout.finish()
        self.stderr.finish()
