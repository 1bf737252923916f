"""Sends records of `logging` and `warnings` to the host, through the log ring.

A record on the wire is ``[level, logger, message, extra or None, exception text or None, ns]`` (docs/reference/wire.md).
Logging must never break a node, so a record that cannot be formatted is replaced by a description.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, TextIO

from cloche_guest.failure import describe, type_name
from cloche_guest.plain import Budget, fields

if TYPE_CHECKING:
    from cloche_guest._host import Host

_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}
_STANDARD_COUNT: Final = len(vars(logging.LogRecord("", 0, "", 0, "", (), None)))


class RingHandler(logging.Handler):
    """The root logger's handler: writes each record to the log ring.

    Attributes:
        log_bytes: maximum characters of one record; longer texts are cut.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self.log_bytes = 64 * 1024

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record. Raises no `Exception` but MemoryError and RecursionError."""
        try:
            self._host.emit(self._plain(record))
        except (MemoryError, RecursionError):
            raise
        except Exception as broken:  # a record's attributes can be anything
            self._host.emit(
                [
                    int(logging.ERROR),
                    "cloche",
                    f"a log record was lost: {type_name(broken)}",
                    None,
                    None,
                    time.time_ns(),
                ]
            )

    def _plain(self, record: logging.LogRecord) -> list[Any]:
        budget = Budget(self.log_bytes)
        try:
            message = record.getMessage()
        except Exception as broken:  # %-formatting runs the node's code
            message = f"{record.msg!s:.500} [arguments do not fit: {type_name(broken)}: {broken!s:.200}]"
        text = budget.text(message, budget.left)
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
            text,
            fields(extra, budget) if extra else None,
            traceback,
            int(record.created * 1e9),
        ]


def showwarning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Replaces `warnings.showwarning`: logs the warning and its category through the logger ``py.warnings``."""
    logging.getLogger("py.warnings").warning(
        "%s: %s", category.__name__, message, extra={"category": category.__name__, "file": filename, "line": lineno}
    )


class _Below:
    """Takes the place of a compiled pattern in a warning filter: matches the modules of one package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def match(self, name: str) -> bool:
        """Whether the module is the package or lies in it; warning filters only test the truth of `re.Pattern.match`."""
        return name == self._package or name.startswith(f"{self._package}.")


class Logs:
    """Logging of one guest: the handler, and the level below which nothing is formatted or sent.

    Attributes:
        handler: handler of the root logger.
        level: the threshold, a level of `logging`; None: not set yet.
    """

    def __init__(self, host: Host) -> None:
        self.handler = RingHandler(host)
        self.level: int | None = None

    def install(self) -> None:
        """Put the handler on the root logger and capture warnings, for the life of the process."""
        logging.getLogger().addHandler(self.handler)
        logging.raiseExceptions = False
        warnings.showwarning = showwarning

    def configure(self, level: int, log_bytes: int) -> None:
        """Set the threshold (a level of `logging`) and the maximum size of one record."""
        self.handler.log_bytes = log_bytes
        self.level = level
        self.apply(level)

    def apply(self, level: int) -> None:
        """Apply the threshold to the process's logging.

        `logging.disable` is the cheapest filter, which ``isEnabledFor`` checks first, and it also applies to loggers with a level
        of their own.
        """
        root = logging.root
        if (self.handler.level, root.level, root.manager.disable) == (level, level, level - 1):
            return  # usually the image's own level; setting it again would clear every logger's cache
        self.handler.setLevel(level)
        root.setLevel(level)
        logging.disable(level - 1)

    def show_warnings_of(self, module: str) -> None:
        """Show DeprecationWarnings of the node's own package, as Python does for ``__main__``: once for each place."""
        # `warnings.filterwarnings` would compile a regular expression, which takes as long as the rest of a load
        pattern = _Below(module.partition(".")[0])
        warnings.filters.insert(0, ("default", None, DeprecationWarning, pattern, 0))  # type: ignore[attr-defined]  # a list
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as filterwarnings does
