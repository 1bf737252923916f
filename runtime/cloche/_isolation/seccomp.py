"""A seccomp filter for worker processes: it allows the system calls that running a guest takes, and no others.

The filter is a short classic BPF program for `prctl` (Linux, Documentation/userspace-api/seccomp_filter.rst), so no library is
needed. A filtered process can open no file, make no socket, start no program or process, make no memory executable, and signal no
other process. It also cannot map memory that RLIMIT_DATA would not count (`rlimits`): anonymous shared memory, or memory that grows
downwards.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["install", "unavailable"]

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
_KILL: Final = 0x8000_0000
_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ARCH_X86_64: Final = 0xC000_003E
_X32: Final = 0x4000_0000
_PROT_EXEC: Final = 4
_AND: Final = 0x54
_MAP_SHARED: Final = 0x1
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100
_CLONE_THREAD: Final = 0x1_0000
_CLONE3: Final = 435

# arch/x86/entry/syscalls/syscall_64.tbl
_PLAIN: Final = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "nanosleep": 35, "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
    "getsockname": 51, "getsockopt": 55, "exit": 60, "fcntl": 72, "gettimeofday": 96, "sigaltstack": 131, "gettid": 186,
    "time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "ppoll": 271, "set_robust_list": 273, "getrandom": 318, "rseq": 334,
}  # fmt: skip
_MMAP: Final = 9
_MPROTECT: Final = 10
_CLONE: Final = 56
_PRCTL: Final = 157
_TGKILL: Final = 234
_PR_SET_NAME: Final = 15


def unavailable() -> str:
    """Reason why this machine has no filter; "" if it has one."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return f"no seccomp filter for {platform.machine()} {sys.platform}"
    return ""


def _argument(index: int) -> int:
    """Offset of an argument's low half in `struct seccomp_data`."""
    return 16 + 8 * index


def _program(pid: int) -> Iterator[tuple[int, int, int, int]]:
    """The BPF instructions: (code, jump if true, jump if false, operand)."""
    allow = (_RETURN, 0, 0, _ALLOW)
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    yield from ((_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _ARCH_X86_64), (_RETURN, 0, 0, _KILL))
    yield from ((_LOAD, 0, 0, 0), (_JUMP_AT_LEAST, 0, 1, _X32), refuse)
    for number in _PLAIN.values():
        yield from ((_JUMP_EQUAL, 0, 1, number), allow)
    yield from ((_JUMP_EQUAL, 0, 4, _MPROTECT), (_LOAD, 0, 0, _argument(2)))
    yield from ((_JUMP_ANY_BIT, 0, 1, _PROT_EXEC), refuse, allow)
    yield from ((_JUMP_EQUAL, 0, 10, _MMAP), (_LOAD, 0, 0, _argument(2)), (_JUMP_ANY_BIT, 0, 1, _PROT_EXEC), refuse)
    yield from ((_LOAD, 0, 0, _argument(3)), (_JUMP_ANY_BIT, 0, 1, _MAP_GROWSDOWN), refuse)
    yield from ((_AND, 0, 0, _MAP_SHARED | _MAP_ANONYMOUS), (_JUMP_EQUAL, 0, 1, _MAP_SHARED | _MAP_ANONYMOUS))
    yield from (refuse, allow)
    yield from ((_JUMP_EQUAL, 0, 4, _CLONE), (_LOAD, 0, 0, _argument(0)))
    yield from ((_JUMP_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse)
    # a filter cannot read clone3's flags, which lie in memory; after ENOSYS the C library uses clone
    yield from ((_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS))
    for number, value in ((_TGKILL, pid), (_PRCTL, _PR_SET_NAME)):
        yield from ((_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, _argument(0)))
        yield from ((_JUMP_EQUAL, 0, 1, value), allow, refuse)
    yield refuse


def install() -> None:
    """Filter the calling thread and the threads that it starts later. Set PR_SET_NO_NEW_PRIVS first.

    Raises:
        OSError: the kernel refused the filter.
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(os.getpid()))
    filters = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(filters)))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
