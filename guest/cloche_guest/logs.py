"""Sends records of `logging` and `warnings` to the host, through the log ring.

A record on the wire is ``[level, logger, message, extra or None, exception text or None, ns]`` (docs/reference/wire.md).
Logging must never break a node, so a record that cannot be formatted is replaced by a description.

Records are taken where a logger hands them to its handlers (`logging.Logger.callHandlers`), and no handler of ours is in the lists
of `logging`. So nothing that a node configures can remove the way to the host: ``basicConfig(force=True)``, ``dictConfig``,
``shutdown``. The node's own handlers run afterwards. A line that one of them then writes to stdout or stderr, and that has the
formatted record in it, would say the same thing again: `Echo` leaves it out.
"""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TextIO

from cloche_guest.failure import as_text, describe, text, type_name
from cloche_guest.plain import Budget, fields

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

    from cloche_guest._host import Host

_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}
_MAX_KEPT: Final = 1 << 20
"""Characters kept of what one handler writes for one record."""
_MOST_SHOWN: Final = 500
"""Characters kept of what stands in place of a part that raises."""
_RAISED: Final = "<it raised {}>".format
_STANDARD_COUNT: Final = len(vars(logging.LogRecord("", 0, "", 0, "", (), None)))


class RecordWriter:
    """Writes log records to the ring.

    Attributes:
        log_bytes: maximum characters of one record; longer texts are cut.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.log_bytes = 64 * 1024

    def write(self, record: logging.LogRecord) -> None:
        """Send one record. Raises no `Exception` but MemoryError and RecursionError."""
        try:
            self._host.emit(self._plain(record))
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a record's attributes can be anything
            self._host.emit(self._salvaged(record))

    def _plain(self, record: logging.LogRecord) -> list[Any]:
        budget = Budget(self.log_bytes)
        message = budget.text(record.getMessage(), budget.left)
        traceback = None
        if record.exc_info and record.exc_info[1] is not None:
            traceback = describe(record.exc_info[1], "log").format()
        elif record.exc_text:
            traceback = str(record.exc_text)
        if record.stack_info:
            traceback = f"{traceback}\n{record.stack_info}" if traceback else str(record.stack_info)
        if traceback is not None:
            traceback = budget.text(traceback, budget.left)
        given = record.__dict__
        extra = {key: given[key] for key in given if key not in _STANDARD} if len(given) > _STANDARD_COUNT else None
        return [
            int(record.levelno),
            budget.text(str(record.name), 200),
            message,
            fields(extra, budget) if extra else None,
            traceback,
            int(record.created * 1e9),
        ]

    def _salvaged(self, record: logging.LogRecord) -> list[Any]:
        """A record with a part that cannot be sent: that part is replaced by a description, and the others are kept."""
        budget = Budget(self.log_bytes)

        def extra() -> dict[str, Any] | None:
            return fields({key: value for key, value in vars(record).items() if key not in _STANDARD}, budget) or None

        def traceback() -> str | None:
            info = record.exc_info
            raised = describe(info[1], "log").format() if info and info[1] is not None else record.exc_text
            parts = [as_text(part) for part in (raised, record.stack_info) if part]
            return budget.text("\n".join(parts), budget.left) if parts else None

        def unformatted(why: str) -> str:
            shown = text(_tried(lambda: as_text(record.msg), _RAISED), _MOST_SHOWN)
            return f"{shown} [arguments do not fit: {why}]"

        return [
            _tried(lambda: int(record.levelno), lambda why: int(logging.ERROR)),
            budget.text(_tried(lambda: as_text(record.name), _RAISED), 200),
            budget.text(_tried(record.getMessage, unformatted), budget.left),
            _tried(extra, lambda why: None),
            _tried(traceback, _RAISED),
            _tried(lambda: int(record.created * 1e9), lambda why: time.time_ns()),
        ]


def _tried(make: Callable[[], Any], otherwise: Callable[[str], Any]) -> Any:
    """What `make` returns, or, if it raises, what `otherwise` makes of the exception's name and message."""
    try:
        return make()
    except (MemoryError, RecursionError):
        raise
    except Exception as broken:  # code of the node
        return otherwise(f"{type_name(broken)}: {text(as_text(broken), _MOST_SHOWN)}")


class _Told(float):
    """A record's ``relativeCreated``, once the record has been offered to the host.

    An attribute that every record has anyway: copies of the record keep it (`logging.handlers.QueueHandler` makes some), and
    formatters that show all attributes show nothing new.
    """


class Echo:
    """Texts that handlers of the node write for records that the host has already.

    Args:
        streams: the guest's stdout and stderr.

    Attributes:
        window: what the handler that is at work writes; None: no handler is.
    """

    __slots__ = ("_streams", "window")

    def __init__(self, streams: Sequence[io.TextIOBase]) -> None:
        self._streams = streams
        self.window: Window | None = None

    def around(self, handle: Callable[..., Any], handler: logging.Handler, record: logging.LogRecord) -> Any:
        """Have `handler` handle a record that the host has already."""
        before, own = self.window, Window(self)
        self.open(own)
        try:
            return handle(handler, record)
        finally:
            self.open(before)
            own.close()

    def open(self, window: Window | None) -> None:
        """Have the streams write to a window; None: as usual."""
        self.window = window
        for stream in self._streams:
            if window is None:
                vars(stream).pop("write", None)
            else:
                vars(stream)["write"] = partial(window.write, stream)


class Window:
    """What one handler writes to stdout and stderr while it handles one record: kept until its end, when a repetition shows.

    Attributes:
        text: the record as the handler has formatted it; None: it has not.
    """

    __slots__ = ("_echo", "_size", "_written", "text")

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self.text: str | None = None
        self._written: dict[io.TextIOBase, list[str]] = {}
        self._size = 0

    def write(self, stream: io.TextIOBase, text: str) -> int:
        """In place of a stream's ``write``: keep the text. If it becomes too much, the window ends."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._written.setdefault(stream, []).append(text)
        self._size += len(text)
        if self._size > _MAX_KEPT:
            self._echo.open(None)
            self.close()
        return len(text)

    def close(self) -> None:
        """Write what was kept, without the line that has the formatted record in it."""
        written, self._written, self._size = self._written, {}, 0
        for stream, parts in written.items():
            text = "".join(parts)
            if self.text is not None:
                text = _without(text, self.text)
            if text:
                stream.write(text)


def _without(written: str, text: str) -> str:
    """A text without the lines in which another one stands for the first time."""
    at = written.find(text)
    if at < 0:
        return written
    line_end = written.find("\n", at + len(text))
    return written[: written.rfind("\n", 0, at) + 1] + (written[line_end + 1 :] if line_end >= 0 else "")


class _Below:
    """Takes the place of a compiled pattern in a warning filter: matches the modules of one package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def match(self, name: str) -> bool:
        """Whether the module is the package or lies in it; warning filters only test the truth of `re.Pattern.match`."""
        return name == self._package or name.startswith(f"{self._package}.")


class Logs:
    """Logging of one guest: the way of records to the host, and the level below which none is sent.

    Args:
        host: receives the records.
        streams: the guest's stdout and stderr.

    Attributes:
        writer: sends the records.
        level: the threshold, a level of `logging`; None: not set yet.
        echo: tells the standard streams what a handler of the node repeats.
    """

    def __init__(self, host: Host, streams: Sequence[io.TextIOBase]) -> None:
        self.writer = RecordWriter(host)
        self.level: int | None = None
        self.echo = Echo(streams)

    def install(self) -> Callable[[], None]:
        """Take the records of every logger, and the warnings.

        Returns:
            a function that undoes this.
        """
        before = _taker.logs, logging.raiseExceptions, warnings.showwarning
        is_new = _patch()
        _taker.logs, logging.raiseExceptions, warnings.showwarning = self, False, self.show_warning

        def undo() -> None:
            _taker.logs, logging.raiseExceptions, warnings.showwarning = before
            if is_new:
                _unpatch()

        return undo

    def configure(self, level: int, log_bytes: int) -> None:
        """Set the threshold (a level of `logging`) and the maximum size of one record."""
        self.writer.log_bytes = log_bytes
        self.apply(level)

    def apply(self, level: int) -> None:
        """Apply the threshold: loggers without a level of their own make no records below it."""
        self.level = level
        if (
            logging.root.level != level
        ):  # usually the image's own level; setting it again would clear every logger's cache
            logging.root.setLevel(level)

    def offer(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Send a record that a logger has let pass, then let the node's handlers have it, as ``callHandlers`` does.

        A record that only a NullHandler would get, because ``propagate`` is off, is not sent: that is how logging is switched off.
        """
        handlers: list[logging.Handler] = []
        current: logging.Logger | None = logger
        while current is not None:
            if current.handlers:
                handlers += current.handlers
            if not current.propagate:
                break
            current = current.parent
        if not handlers:
            self._send(record)
            return
        if current is None or any(type(one) is not logging.NullHandler for one in handlers):
            self._send(record)
        if type(getattr(record, "relativeCreated", None)) is not _Told:
            record.relativeCreated = _Told(getattr(record, "relativeCreated", 0.0))
        for handler in handlers:
            if record.levelno >= handler.level:
                handler.handle(record)

    def _send(self, record: logging.LogRecord) -> None:
        if self.level is None or record.levelno >= self.level:
            self.writer.write(record)

    def show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Replaces `warnings.showwarning`: sends the warning with its category as a record of ``py.warnings``.

        Past the logger of that name, which a node may have disabled: natively, warnings do not depend on `logging` either.
        """
        record = logging.LogRecord(
            "py.warnings", logging.WARNING, filename, lineno, "%s: %s", (category.__name__, message), None
        )
        record.__dict__.update(category=category.__name__, file=filename, line=lineno)
        self._send(record)

    def show_warnings_of(self, module: str) -> None:
        """Show DeprecationWarnings of the node's own package, as Python does for ``__main__``: once for each place."""
        # `warnings.filterwarnings` would compile a regular expression, which takes as long as the rest of a load
        pattern = _Below(module.partition(".")[0])
        warnings.filters.insert(0, ("default", None, DeprecationWarning, pattern, 0))  # type: ignore[attr-defined]  # a list
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as filterwarnings does


class _Taker:
    """Where `logging` sends records at the moment."""

    logs: Logs | None = None


_taker: Final = _Taker()
_call_handlers, _handle, _format = logging.Logger.callHandlers, logging.Handler.handle, logging.Handler.format


def _call_handlers_and_tell(self: logging.Logger, record: logging.LogRecord) -> None:
    """Replaces `logging.Logger.callHandlers`."""
    logs = _taker.logs
    if logs is None:
        _call_handlers(self, record)
    else:
        logs.offer(self, record)


def _handle_told(self: logging.Handler, record: logging.LogRecord) -> Any:
    """Replaces `logging.Handler.handle`."""
    logs = _taker.logs
    if logs is not None and type(getattr(record, "relativeCreated", None)) is _Told:
        return logs.echo.around(_handle, self, record)
    return _handle(self, record)


def _format_told(self: logging.Handler, record: logging.LogRecord) -> str:
    """Replaces `logging.Handler.format`."""
    text = _format(self, record)
    logs = _taker.logs
    if logs is not None and logs.echo.window is not None and isinstance(text, str):
        logs.echo.window.text = text
    return text


def _patch() -> bool:
    """Replace the methods of `logging`, if that has not been done. Returns whether it had not."""
    if logging.Logger.callHandlers is _call_handlers_and_tell:
        return False
    logging.Logger.callHandlers = _call_handlers_and_tell  # type: ignore[method-assign]
    logging.Handler.handle = _handle_told  # type: ignore[method-assign]
    logging.Handler.format = _format_told  # type: ignore[method-assign]
    return True


def _unpatch() -> None:
    logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]
    logging.Handler.handle = _handle  # type: ignore[method-assign]
    logging.Handler.format = _format  # type: ignore[method-assign]


def prepare() -> None:
    """Replace the methods of `logging` for the life of the process.

    Then `install` changes no class, which would empty the caches of the bytecode that uses it.
    """
    _patch()
