"""Rights that a worker process gives up: at its start those never needed, and once it is ready all but those to run guests."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any, Final

from cloche._isolation import seccomp as _seccomp

__all__ = ["at_start", "when_ready"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_MAX_FILES: Final = 4096
_OOM_SCORE: Final = 800


def _prctl(option: int, value: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def at_start(parent: int) -> None:
    """Tie this process to the host: end when the host ends, ignore Ctrl-C, be killed first when memory runs out.

    Args:
        parent: process id of the host.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the host had ended before PR_SET_PDEATHSIG was set
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    except OSError:
        pass  # no /proc: the kernel uses its default score


def when_ready() -> tuple[list[str], dict[str, str]]:
    """Give up the rights that only the start needed. Call it before the first guest runs.

    Returns:
        the confinements in force, and those that are missing, each with the reason.
    """
    in_force: list[str] = ["no_new_privs", "rlimits"]
    missing: dict[str, str] = {}
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    most = min(_MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 63))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # forbids writing to files
    reason = _seccomp.unavailable()
    if not reason:
        try:
            _seccomp.install()
        except OSError as error:
            reason = str(error)
    if reason:
        missing["seccomp"] = reason
    else:
        in_force.append("seccomp")
    return in_force, missing
