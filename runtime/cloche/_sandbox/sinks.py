"""`Sink`: the host's end of the way of a log record: a logger of the caller's, of `logging` or structlog, or stderr.

A logger that raises costs its record, nothing else: a warning says so, once. KeyboardInterrupt, and what else is no `Exception`,
gets through.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from cloche._records import LogRecord
from cloche.texts import short

__all__ = ["LEVELS", "Sink", "report"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The numbers of `logging`, which is slow to import."""
_KEY: Final = "cloche"
"""The one attribute of a `logging.LogRecord` below which everything of the guest is."""


class Sink:
    """Takes messages with a level and fields, and never raises an `Exception`.

    Args:
        logger: a `logging.Logger` or `logging.LoggerAdapter`; a logger of structlog, or any object with its five methods;
            loguru's; None: structlog's, if the program has configured it, otherwise stderr.

    Attributes:
        inner: that logger; None: none was given.
        is_default: whether no logger was given.

    Raises:
        TypeError: `logger` is something else.
    """

    def __init__(self, logger: Any = None) -> None:
        inner = logger
        if isinstance(inner, types.ModuleType) and inner.__name__ == "logging":
            inner = inner.getLogger()
        if inner is not None and not callable(getattr(inner, "info", None)):
            raise TypeError(
                f"logger is {short(logger)}: give a logging.Logger, a logger of structlog, or an object with the methods "
                f"{', '.join(LEVELS)}"
            )
        self.inner: Any = inner
        self._is_standard = _is_standard(inner)
        self._is_loguru = type(inner).__module__.partition(".")[0] == "loguru"
        self._has_failed = False
        self.is_default = inner is None

    @classmethod
    def of(cls, logger: Any) -> Sink:
        """The sink that a logger is, or else one that leads to it."""
        return logger if isinstance(logger, Sink) else cls(logger)

    def debug(self, message: str, **fields: Any) -> None:
        """Log at level debug."""
        self.log("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Log at level info."""
        self.log("info", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Log at level error."""
        self.log("error", message, fields)

    def deliver(self, records: Iterable[LogRecord], node: str) -> None:
        """Log the records of a guest. Extra fields nest under the key ``guest``, so that they cannot forge another."""
        for record in records:
            fields: dict[str, Any] = {"node": node, "call": record.call, "logger": record.logger}
            if record.item is not None:
                fields["item"] = record.item
            if record.fields:
                fields["guest"] = dict(record.fields)
            if record.exception is not None:
                fields["exception"] = record.exception
            self.log(record.level, record.message, fields)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Log at a level of LEVELS."""
        try:
            if self._is_standard:
                _log_standard(self.inner, level, message, dict(fields))
            elif (
                self._is_loguru
            ):  # its own methods would take the message for a format, and look for the guest's names in it
                self.inner.bind(**{_KEY: dict(fields)}).log(level.upper(), "{}", message)
            else:
                logger = self.inner if self.inner is not None else _default()
                getattr(logger, level)(message, **fields)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                with suppress(Exception):  # at the end of Python's stack, anything raises
                    report("the logger of the runtime", error)


def report(what: str, error: BaseException) -> None:
    """Say that a function of the caller's has raised where nobody can catch it: by a warning, or on stderr if warnings raise."""
    try:
        import warnings

        text = (
            f"{what} raised {type(error).__name__}: {short(str(error))}; its log record is lost, and so may be others"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2, source=error)
    except Exception:
        with suppress(Exception):  # there may be no stderr either
            sys.excepthook(type(error), error, error.__traceback__)


def _is_standard(logger: Any) -> bool:
    logging = sys.modules.get("logging")  # whoever has one of its loggers has imported it
    return logging is not None and isinstance(logger, (logging.Logger, logging.LoggerAdapter))


def _log_standard(logger: Any, level: str, message: str, fields: dict[str, Any]) -> None:
    """Log to a `logging.Logger`, or through an adapter to one.

    The record is made here, because `Logger.log` takes no text of an exception: a guest has no exception objects to give.
    """
    import logging

    number = LEVELS[level]
    error = fields.pop("exc_info", None)
    text = fields.pop("exception", None)
    extra: Any = {}
    while isinstance(logger, logging.LoggerAdapter):
        if not logger.isEnabledFor(number):
            return
        message, keywords = logger.process(message, {"extra": extra})
        extra = keywords.get("extra") or {}
        logger = logger.logger
    if not logger.isEnabledFor(number):
        return
    about = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    record = logger.makeRecord(
        logger.name, number, "<cloche>", 0, message, (), about, None, {**dict(extra), _KEY: fields}, None
    )
    if text is not None:
        record.exc_text = text  # what every formatter of `logging` shows after the message
    logger.handle(record)


class _Stderr:
    """Prints to the current sys.stderr, which a program may replace. Continued lines are indented: none looks like a record."""

    def msg(self, message: str) -> None:
        stream = sys.stderr
        if stream is not None:  # a program without a console has none
            print(message.replace("\n", "\n    "), file=stream, flush=True)

    debug = info = warning = error = critical = msg


def _default() -> Any:
    """Structlog's logger if the program has configured structlog; otherwise one that writes to stderr.

    structlog's own default prints to stdout, which is often a program's result.
    """
    import structlog  # takes 80 ms

    if structlog.is_configured():
        return structlog.get_logger("cloche.node")
    return structlog.wrap_logger(
        _Stderr(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=_is_terminal()),
        ],
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
    )


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
