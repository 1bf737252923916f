"""What goes to stderr: errors, the nodes' log records, progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from cloche.errors import BrokenInstanceError, ClocheError, NodeError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cloche import LogRecord, Node

__all__ = ["EXIT_BROKEN_PIPE", "Bar", "InputError", "LiveLog", "abandon_stdout", "logger", "reporting_errors", "say"]

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
"""Exit code after the reader of a pipe has gone: what a shell reports of a program that SIGPIPE has ended."""
SHOW_AFTER_S = 1.0
"""Seconds after which a progress bar appears."""


class InputError(ClocheError):
    """A file cannot be read or written as the options say. The message says what to do."""


def say(text: str) -> None:
    """Print a line for the user, on stderr, so that stdout has the results alone. If nobody reads stderr, nothing happens."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a closed pipe, a full disk, a closed stream
        pass


def abandon_stdout() -> None:
    """Drop what could not be written to stdout: at exit, Python would try again, fail again, and complain."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # no descriptors left, or a stdout that is no file
        pass


@contextmanager
def reporting_errors() -> Iterator[None]:
    """In the block, turn an expected error into a message on stderr and exit code 1.

    Ctrl-C gives the exit code 130, and an output whose reader has gone EXIT_BROKEN_PIPE, without a message.
    """
    try:
        yield
        sys.stdout.flush()  # here, where an error still has its message
    except NodeError as error:
        say(error.guest_traceback)
        say(
            f"error: node {error.node} failed" + (f" in {error.failure.phase}" if error.failure.phase != "call" else "")
        )
        if error.remedy:
            say(error.remedy)
    except BrokenInstanceError as error:
        say(f"error: {error}")
    except BrokenPipeError:
        abandon_stdout()
        raise typer.Exit(EXIT_BROKEN_PIPE) from None
    except (ClocheError, OSError, SyntaxError) as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(130) from None
    else:
        return
    raise typer.Exit(1)


class _Stderr:
    """Prints to the current sys.stderr, which rich replaces while a progress bar is shown."""

    def msg(self, message: str) -> None:
        say(message)

    debug = info = warning = error = critical = msg


def logger(*, warnings_only: bool = False) -> Any:
    """A structlog logger that writes one line to stderr for each record.

    Args:
        warnings_only: leave out what is less than a warning.
    """
    import logging

    import structlog

    return structlog.wrap_logger(
        _Stderr(),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if warnings_only else logging.DEBUG),
    )


class LiveLog:
    """Prints each log record once: while its call runs if it comes then (``on_log``), otherwise after the call (as the logger).

    Both ways bring the same number of records of a call, so it is enough to count them: what the first has printed already, the
    second leaves out. So a thread that prints late loses nothing, and an error comes after the records of its call.
    """

    def __init__(self) -> None:
        self._logger = logger()
        self._node = ""
        self._lock = threading.Lock()
        self._came: dict[bool, tuple[int, int]] = {True: (0, 0), False: (0, 0)}
        self._printed = 0, 0

    def attach(self, node: Node) -> Node:
        """The node, seen so that its records are printed while it works."""
        self._node = node.name
        return node.with_options(on_log=self._on_log)

    def _on_log(self, record: LogRecord) -> None:
        fields: dict[str, Any] = {"node": self._node, "call": record.call, "logger": record.logger}
        if record.fields:
            fields["guest"] = dict(record.fields)
        if record.exception is not None:
            fields["exception"] = record.exception
        method = getattr(self._logger, record.level)
        self._print(True, record.call, lambda: method(record.message, **fields))

    def _print(self, is_live: bool, call: int, write: Callable[[], object]) -> None:
        """Print one record of a call, unless as many of that call have been printed already as have come this way."""
        with self._lock:
            last, count = self._came[is_live]
            count = count + 1 if call == last else 1
            self._came[is_live] = call, count
            printed = self._printed[1] if self._printed[0] == call else 0
            if count > printed and call >= self._printed[0]:
                self._printed = call, count
                write()

    def _log(self, level: str, message: str, **fields: Any) -> None:
        call = fields.get("call")
        method = getattr(self._logger, level)
        if self._node and isinstance(call, int):
            self._print(False, call, lambda: method(message, **fields))
        else:
            method(message, **fields)

    debug = partialmethod(_log, "debug")
    info = partialmethod(_log, "info")
    warning = partialmethod(_log, "warning")
    error = partialmethod(_log, "error")
    critical = partialmethod(_log, "critical")


class Bar:
    """A progress bar on stderr, shown after SHOW_AFTER_S. If stderr is no terminal, nothing is shown.

    Args:
        label: what the bar says is being done.
        total: the amount at which it is complete; None: not known.
        quiet: show nothing.
    """

    def __init__(self, label: str, total: int | None, quiet: bool = False) -> None:
        self._label = label
        self._total = total
        self._began = time.monotonic()
        self._quiet = quiet or not sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._done = 0

    def advance(self, amount: int) -> None:
        """Add to the amount that has been done."""
        self._done += amount
        if self._quiet:
            return
        if self._progress is None:
            if time.monotonic() - self._began < SHOW_AFTER_S:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task(self._label, total=self._total)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=self._done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
