"""How the program ends: by a signal, with a reader of its output that has gone, or with an output that cannot be written."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from cloche.cli._app import app
from cloche.cli._console import EXIT_BROKEN_PIPE, abandon_stdout, say

__all__ = ["main"]

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class _Ended(BaseException):
    """A signal has asked the program to end. No command catches it, and each cleans up as it passes.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> NoReturn:
    """Run the command line, and end the process."""
    _open_what_is_closed()
    _listen()
    try:
        app(prog_name="cloche")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except _Ended as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        abandon_stdout()
        os.kill(os.getpid(), ended.number)  # so that the parent process sees which signal it was
        code = 128 + ended.number
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        abandon_stdout()
        say(f"error: stdout: {error}")
        code = code or 1
    raise SystemExit(code)


def _open_what_is_closed() -> None:
    """Open /dev/null in place of each standard stream that is closed. A file would take its number, and get what is printed.

    Results that go to a closed stdout are an error, as in other programs: it is open for reading.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(
                os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR
            )  # the lowest number that is free, which is this one
            if getattr(sys, name) is None:
                setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False, encoding="utf-8"))  # noqa: SIM115  # as long as the process


def _listen() -> None:
    """Let the signals that end a program raise an exception, so that it removes what it has begun to write."""

    def end(number: int, frame: FrameType | None) -> None:
        for other in _ENDING:
            signal.signal(other, signal.SIG_IGN)  # the first has begun to clean up
        raise _Ended(number)

    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup, which ignores SIGHUP
            signal.signal(number, end)
