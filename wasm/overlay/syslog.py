"""The system's log. Stands in for the C module of that name: what is written becomes records of the node's logger "syslog"."""

from __future__ import annotations

import logging
from typing import Any

from cloche_refusal import constants

globals().update(
    constants("""
    LOG_ALERT=1 LOG_AUTH=32 LOG_AUTHPRIV=80 LOG_CONS=2 LOG_CRIT=2 LOG_CRON=72 LOG_DAEMON=24 LOG_DEBUG=7 LOG_EMERG=0 LOG_ERR=3
    LOG_FTP=88 LOG_INFO=6 LOG_KERN=0 LOG_LOCAL0=128 LOG_LOCAL1=136 LOG_LOCAL2=144 LOG_LOCAL3=152 LOG_LOCAL4=160 LOG_LOCAL5=168
    LOG_LOCAL6=176 LOG_LOCAL7=184 LOG_LPR=48 LOG_MAIL=16 LOG_NDELAY=8 LOG_NEWS=56 LOG_NOTICE=5 LOG_NOWAIT=16 LOG_ODELAY=4
    LOG_PERROR=32 LOG_PID=1 LOG_SYSLOG=40 LOG_USER=8 LOG_UUCP=64 LOG_WARNING=4
""")
)

_LEVELS = (50, 50, 50, 40, 30, 20, 20, 10)  # of `logging`, by priority
_INFO = 6
_state = {"ident": "", "mask": 0xFF}


def openlog(ident: str = "", logoption: int = 0, facility: int = 8) -> None:
    _state["ident"] = ident


def closelog() -> None:
    _state.update(ident="", mask=0xFF)


def syslog(priority: int | str, message: str | None = None, /) -> None:
    """syslog([priority,] message)."""
    level, text = (_INFO, priority) if message is None else (priority, message)
    if not isinstance(level, int) or not isinstance(text, str):
        raise TypeError("[priority,] message string expected")
    if int(_state["mask"]) & (1 << (level & 7)):
        logging.getLogger("syslog").log(
            _LEVELS[level & 7], "%s", f"{_state['ident']}: {text}" if _state["ident"] else text
        )


def setlogmask(mask: int, /) -> int:
    before: Any = _state["mask"]
    if mask:
        _state["mask"] = mask
    return int(before)


def LOG_MASK(pri: int, /) -> int:  # noqa: N802
    return 1 << pri


def LOG_UPTO(pri: int, /) -> int:  # noqa: N802
    return (1 << (pri + 1)) - 1
