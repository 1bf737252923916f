"""File control. Stands in for the C module of that name: what asks the system is refused, and a node's own files can be locked."""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from cloche_refusal import SYSTEM, TERMINAL, constants

globals().update(
    constants("""
    DN_ACCESS=1 DN_ATTRIB=32 DN_CREATE=4 DN_DELETE=8 DN_MODIFY=2 DN_MULTISHOT=2147483648 DN_RENAME=16 FASYNC=8192
    FICLONE=1074041865 FICLONERANGE=1075876877 F_ADD_SEALS=1033 F_EXLCK=4 F_GETLEASE=1025 F_GETLK=5 F_GETLK64=5 F_GETOWN=9
    F_GETOWN_EX=16 F_GETPIPE_SZ=1032 F_GETSIG=11 F_GET_FILE_RW_HINT=1037 F_GET_RW_HINT=1035 F_GET_SEALS=1034 F_NOTIFY=1026
    F_OFD_GETLK=36 F_OFD_SETLK=37 F_OFD_SETLKW=38 F_OWNER_PGRP=2 F_OWNER_PID=1 F_OWNER_TID=0 F_RDLCK=0 F_SEAL_FUTURE_WRITE=16
    F_SEAL_GROW=4 F_SEAL_SEAL=1 F_SEAL_SHRINK=2 F_SEAL_WRITE=8 F_SETLEASE=1024 F_SETLK=6 F_SETLK64=6 F_SETLKW=7 F_SETLKW64=7
    F_SETOWN=8 F_SETOWN_EX=15 F_SETPIPE_SZ=1031 F_SETSIG=10 F_SET_FILE_RW_HINT=1038 F_SET_RW_HINT=1036 F_SHLCK=8 F_UNLCK=2
    F_WRLCK=1 LOCK_MAND=32 LOCK_READ=64 LOCK_RW=192 LOCK_WRITE=128 RWH_WRITE_LIFE_EXTREME=5 RWH_WRITE_LIFE_LONG=4
    RWH_WRITE_LIFE_MEDIUM=3 RWH_WRITE_LIFE_NONE=1 RWH_WRITE_LIFE_NOT_SET=0 RWH_WRITE_LIFE_SHORT=2
""")
)

FD_CLOEXEC: Final = 1
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
_SCRATCH_DEVICE: Final = 1

_locks: dict[tuple[int, int], dict[int, int]] = {}
"""(device, inode) -> descriptor -> LOCK_SH or LOCK_EX."""


def _number(fd: Any) -> int:
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return int(number)


def fcntl(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    """Duplicates a descriptor, or reads and sets FD_CLOEXEC, which no program that is started could inherit."""
    number = _number(fd)
    os.fstat(number)
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        return os.dup(number)
    if cmd == F_GETFD:
        return FD_CLOEXEC
    if cmd == F_SETFD:
        return 0
    raise OSError(errno.ENOSYS, f"fcntl({cmd}): {SYSTEM}")


def ioctl(fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    """No file of a node has any."""
    os.fstat(_number(fd))
    raise OSError(errno.ENOTTY, f"ioctl: {TERMINAL}")


def flock(fd: Any, operation: int, /) -> None:
    """Locks files of the node's own /tmp and /home/node. A lock on a file of the host would hold nobody off, so it is refused."""
    number = _number(fd)
    status = os.fstat(number)
    if status.st_dev != _SCRATCH_DEVICE:
        raise OSError(errno.ENOSYS, "files of the host cannot be locked from a sandboxed node: lock them in the host")
    holders = _locks.setdefault((status.st_dev, status.st_ino), {})
    for other in [other for other in holders if not _is_open(other, status)]:
        del holders[other]
    wanted = operation & ~LOCK_NB
    if wanted == LOCK_UN:
        holders.pop(number, None)
        return
    if wanted not in (LOCK_SH, LOCK_EX):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if any(LOCK_EX in (wanted, held) for other, held in holders.items() if other != number):
        if operation & LOCK_NB:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        raise OSError(errno.EDEADLK, "this node itself holds the lock, and has no other thread that could give it back")
    holders[number] = wanted


def _is_open(number: int, status: os.stat_result) -> bool:
    try:
        found = os.fstat(number)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)


def lockf(fd: Any, cmd: int, length: int = 0, start: int = 0, whence: int = 0, /) -> None:
    """As on Linux, a program is never held off by its own locks of this kind; nobody else has the file open."""
    status = os.fstat(_number(fd))
    if status.st_dev != _SCRATCH_DEVICE:
        raise OSError(errno.ENOSYS, "files of the host cannot be locked from a sandboxed node: lock them in the host")
    if cmd & ~LOCK_NB not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise ValueError("unrecognized lockf argument")
