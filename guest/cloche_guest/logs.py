"""From `logging` and `warnings` to records of the log ring.

A record is ``[level, logger, message, extra or None, exception text or None, ns]`` (docs/reference/wire.md). Logging must never
break a node: whatever cannot be formatted is described instead.
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
    """The root logger's handler: each record goes to the host's ring, capped at `log_bytes`."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self.log_bytes = 64 * 1024

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record. Never raises an `Exception`."""
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
    """Stands in for `warnings.showwarning`: a record of logger ``py.warnings`` that names the category."""
    logging.getLogger("py.warnings").warning(
        "%s: %s", category.__name__, message, extra={"category": category.__name__, "file": filename, "line": lineno}
    )


class _Below:
    """What a warning filter asks of its pattern for the module: whether a name is that package's."""

    def __init__(self, package: str) -> None:
        self._package = package

    def match(self, name: str) -> bool:
        """As `re.Pattern.match`, of which only the truth is looked at."""
        return name == self._package or name.startswith(f"{self._package}.")


class Logs:
    """The handler, and the threshold below which nothing is formatted or sent.

    Attributes:
        handler: the root logger's.
        level: the threshold; None: as the process has it.
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
        """Set the threshold (as in `logging`) and the cap of one record."""
        self.handler.log_bytes = log_bytes
        self.level = level
        self.apply(level)

    def apply(self, level: int) -> None:
        """Make the process's logging hold the threshold.

        `logging.disable` is the cheapest filter there is: ``isEnabledFor`` looks at it first, and it also holds for
        loggers that set a level of their own.
        """
        root = logging.root
        if (self.handler.level, root.level, root.manager.disable) == (level, level, level - 1):
            return  # as the image has it, as a rule: setting it again would clear every logger's cache
        self.handler.setLevel(level)
        root.setLevel(level)
        logging.disable(level - 1)

    def show_warnings_of(self, module: str) -> None:
        """Show the node's own DeprecationWarnings, as Python does for ``__main__``: once for each place."""
        # as warnings.filterwarnings does, but for the regular expression: compiling it takes as long as the rest of a load
        pattern = _Below(module.partition(".")[0])
        warnings.filters.insert(0, ("default", None, DeprecationWarning, pattern, 0))  # type: ignore[attr-defined]  # a list
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as filterwarnings does
