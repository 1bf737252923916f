"""Use and limits of resources, as far as a node can know them. Stands in for the C module of that name."""

from __future__ import annotations

import os
import time

import _cloche
from cloche_refusal import Record, constants

globals().update(
    constants("""
    RLIMIT_AS=9 RLIMIT_CORE=4 RLIMIT_CPU=0 RLIMIT_DATA=2 RLIMIT_FSIZE=1 RLIMIT_MEMLOCK=8 RLIMIT_MSGQUEUE=12 RLIMIT_NICE=13
    RLIMIT_NOFILE=7 RLIMIT_NPROC=6 RLIMIT_OFILE=7 RLIMIT_RSS=5 RLIMIT_RTPRIO=14 RLIMIT_RTTIME=15 RLIMIT_SIGPENDING=11
    RLIMIT_STACK=3 RUSAGE_CHILDREN=-1 RUSAGE_SELF=0 RUSAGE_THREAD=1
""")
)

error = OSError
RLIM_INFINITY, RLIM_NLIMITS = -1, 16
_PAGE = 65536
_DESCRIPTORS = 124


class struct_rusage(Record):  # noqa: N801
    """What a program has used."""

    __slots__ = ()
    _fields = (
        *("ru_utime", "ru_stime", "ru_maxrss", "ru_ixrss", "ru_idrss", "ru_isrss", "ru_minflt", "ru_majflt"),
        *("ru_nswap", "ru_inblock", "ru_oublock", "ru_msgsnd", "ru_msgrcv", "ru_nsignals", "ru_nvcsw", "ru_nivcsw"),
    )


def getrusage(who: int, /) -> struct_rusage:
    """The time of `time.process_time`, and the size of the node's memory, which never shrinks; zeros for its child processes."""
    if who not in (-1, 0, 1):
        raise ValueError("invalid who parameter")
    if who == -1:
        return struct_rusage([0.0, 0.0] + [0] * 14)
    return struct_rusage([max(0.0, time.process_time()), 0.0, _cloche.memory_bytes() >> 10] + [0] * 13)


def _checked(resource: int) -> None:
    if not 0 <= resource < RLIM_NLIMITS:
        raise ValueError("invalid resource specified")


def getrlimit(resource: int, /) -> tuple[int, int]:
    """No limits but that of open files: the limits of a node are its host's, and it does not see them."""
    _checked(resource)
    return (_DESCRIPTORS, _DESCRIPTORS) if resource == 7 else (RLIM_INFINITY, RLIM_INFINITY)


def setrlimit(resource: int, limits: tuple[int, int], /) -> None:
    """Accepts the limits that there are."""
    if tuple(limits) != getrlimit(resource):
        raise PermissionError(1, "the limits of a sandboxed node are set by its host: cloche.Limits")


def prlimit(pid: int, resource: int, limits: tuple[int, int] | None = None, /) -> tuple[int, int]:
    if pid not in (0, os.getpid()):
        raise ProcessLookupError(3, "No such process")
    found = getrlimit(resource)
    if limits is not None:
        setrlimit(resource, limits)
    return found


def getpagesize() -> int:
    return _PAGE
