"""Completes modules that live in C, before anything imports them: what Linux has of them and WebAssembly has not.

What needs no system works as documented; the rest raises OSError when it is called, and says why.
"""

from __future__ import annotations

import _locale
import _signal
import _sitebuiltins
import _thread
import builtins
import errno
import os
import posix
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from cloche_refusal import IDENTITY, PROCESSES, SYSTEM, TERMINAL, Record, constants, refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_USER = os.stat("/").st_uid  # noqa: PTH116  # pathlib is not imported yet
_ERRNO_OFFSET = 1000
"""Errors that WASI does not know have Linux's number and this: nothing raises them, and none is another one's number."""

_OS = """
    CLD_CONTINUED=6 CLD_DUMPED=3 CLD_EXITED=1 CLD_KILLED=2 CLD_STOPPED=5 CLD_TRAPPED=4 CLONE_FILES=1024 CLONE_FS=512
    CLONE_NEWCGROUP=33554432 CLONE_NEWIPC=134217728 CLONE_NEWNET=1073741824 CLONE_NEWNS=131072 CLONE_NEWPID=536870912
    CLONE_NEWTIME=128 CLONE_NEWUSER=268435456 CLONE_NEWUTS=67108864 CLONE_SIGHAND=2048 CLONE_SYSVSEM=262144 CLONE_THREAD=65536
    CLONE_VM=256 EFD_CLOEXEC=524288 EFD_NONBLOCK=2048 EFD_SEMAPHORE=1 GRND_NONBLOCK=1 GRND_RANDOM=2 MFD_ALLOW_SEALING=2
    MFD_CLOEXEC=1 MFD_HUGETLB=4 MFD_HUGE_16GB=2281701376 MFD_HUGE_16MB=1610612736 MFD_HUGE_1GB=2013265920
    MFD_HUGE_1MB=1342177280 MFD_HUGE_256MB=1879048192 MFD_HUGE_2GB=2080374784 MFD_HUGE_2MB=1409286144 MFD_HUGE_32MB=1677721600
    MFD_HUGE_512KB=1275068416 MFD_HUGE_512MB=1946157056 MFD_HUGE_64KB=1073741824 MFD_HUGE_8MB=1543503872 MFD_HUGE_MASK=63
    MFD_HUGE_SHIFT=26 O_ASYNC=8192 O_DIRECT=16384 O_FSYNC=1052672 O_LARGEFILE=0 O_NDELAY=2048 O_NOATIME=262144 O_PATH=2097152
    O_TMPFILE=4259840 POSIX_SPAWN_CLOSE=1 POSIX_SPAWN_CLOSEFROM=3 POSIX_SPAWN_DUP2=2 POSIX_SPAWN_OPEN=0 PRIO_PGRP=1
    PRIO_PROCESS=0 PRIO_USER=2 P_ALL=0 P_NOWAIT=1 P_NOWAITO=1 P_PGID=2 P_PID=1 P_PIDFD=3 P_WAIT=0 RTLD_DEEPBIND=8
    RWF_APPEND=16 RWF_DSYNC=2 RWF_HIPRI=1 RWF_NOWAIT=8 RWF_SYNC=4 SCHED_BATCH=3 SCHED_FIFO=1 SCHED_IDLE=5 SCHED_OTHER=0
    SCHED_RESET_ON_FORK=1073741824 SCHED_RR=2 SEEK_DATA=3 SEEK_HOLE=4 SPLICE_F_MORE=4 SPLICE_F_MOVE=1 SPLICE_F_NONBLOCK=2
    ST_APPEND=256 ST_MANDLOCK=64 ST_NOATIME=1024 ST_NODEV=4 ST_NODIRATIME=2048 ST_NOEXEC=8 ST_NOSUID=2 ST_RDONLY=1
    ST_RELATIME=4096 ST_SYNCHRONOUS=16 ST_WRITE=128 TFD_CLOEXEC=524288 TFD_NONBLOCK=2048 TFD_TIMER_ABSTIME=1
    TFD_TIMER_CANCEL_ON_SET=2 TMP_MAX=238328 WCONTINUED=8 WEXITED=4 WNOHANG=1 WNOWAIT=16777216 WSTOPPED=2 WUNTRACED=2
    XATTR_CREATE=1 XATTR_REPLACE=2 XATTR_SIZE_MAX=65536
"""
_SIGNAL = """
    ITIMER_PROF=2 ITIMER_REAL=0 ITIMER_VIRTUAL=1 SIGCLD=17 SIGRTMAX=64 SIGRTMIN=34 SIG_BLOCK=0 SIG_SETMASK=2 SIG_UNBLOCK=1
"""
_SELECT = """
    EPOLLERR=8 EPOLLET=2147483648 EPOLLEXCLUSIVE=268435456 EPOLLHUP=16 EPOLLIN=1 EPOLLMSG=1024 EPOLLONESHOT=1073741824
    EPOLLOUT=4 EPOLLPRI=2 EPOLLRDBAND=128 EPOLLRDHUP=8192 EPOLLRDNORM=64 EPOLLWRBAND=512 EPOLLWRNORM=256 EPOLL_CLOEXEC=524288
    PIPE_BUF=4096 POLLMSG=1024 POLLRDBAND=128 POLLRDHUP=8192 POLLWRBAND=512
"""
_ERRNO = """
    EADV=68 EBADE=52 EBADFD=77 EBADR=53 EBADRQC=56 EBADSLT=57 EBFONT=59 ECHRNG=44 ECOMM=70 EDEADLOCK=35 EDOTDOT=73
    EHOSTDOWN=112 EISNAM=120 EKEYEXPIRED=127 EKEYREJECTED=129 EKEYREVOKED=128 EL2HLT=51 EL2NSYNC=45 EL3HLT=46 EL3RST=47
    ELIBACC=79 ELIBBAD=80 ELIBEXEC=83 ELIBMAX=82 ELIBSCN=81 ELNRNG=48 EMEDIUMTYPE=124 ENAVAIL=119 ENOANO=55 ENOCSI=50
    ENODATA=61 ENOKEY=126 ENOMEDIUM=123 ENONET=64 ENOPKG=65 ENOSR=63 ENOSTR=60 ENOTBLK=15 ENOTNAM=118 ENOTUNIQ=76
    EPFNOSUPPORT=96 EREMCHG=78 EREMOTE=66 EREMOTEIO=121 ERESTART=85 ERFKILL=132 ESOCKTNOSUPPORT=94 ESRMNT=69 ESTRPIPE=86
    ETIME=62 ETOOMANYREFS=109 EUCLEAN=117 EUNATCH=49 EUSERS=87 EXFULL=54
"""
_TIME = """
    CLOCK_BOOTTIME=7 CLOCK_MONOTONIC=1 CLOCK_MONOTONIC_RAW=4 CLOCK_PROCESS_CPUTIME_ID=2 CLOCK_REALTIME=0 CLOCK_TAI=11
    CLOCK_THREAD_CPUTIME_ID=3
"""


def install() -> None:
    """Add to the modules what they lack, for the rest of the process."""
    _add(errno, {name: value + _ERRNO_OFFSET for name, value in constants(_ERRNO).items()})
    errno.errorcode.update({value + _ERRNO_OFFSET: name for name, value in constants(_ERRNO).items()})
    vars(time).update(constants(_TIME))  # those that C has are addresses
    _add(time, {function.__name__: function for function in (thread_time, thread_time_ns, tzset)})
    _add(
        time, {name: refusing(name, SYSTEM) for name in ("clock_settime", "clock_settime_ns", "pthread_getcpuclockid")}
    )
    _add(select, constants(_SELECT) | {"epoll": epoll})
    _add(_thread, {"get_native_id": os.getpid})
    _add(_locale, {function.__name__: function for function in _TRANSLATIONS})
    _add(_signal, constants(_SIGNAL) | {"ItimerError": OSError, "struct_siginfo": struct_siginfo})
    _add(_signal, {function.__name__: function for function in _SIGNALS})
    _add(
        _signal,
        {
            name: refusing(name, _NO_ALARMS)
            for name in "pause sigwait sigwaitinfo sigtimedwait pidfd_send_signal".split()
        },
    )
    _add_to_os(constants(_OS) | {"sched_param": sched_param, "waitid_result": waitid_result})
    _add_to_os({function.__name__: function for function in _FUNCTIONS})
    for why, kind, number, names in _REFUSED:
        _add_to_os({name: refusing(f"os.{name}", why, kind, number) for name in names.split()})
    _add(
        builtins,
        {
            "quit": _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)"),
            "exit": _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)"),
            "copyright": _sitebuiltins._Printer("copyright", sys.copyright),
            "credits": _sitebuiltins._Printer("credits", "See www.python.org for more information."),
            "license": _sitebuiltins._Printer("license", "See https://www.python.org/psf/license/"),
            "help": _sitebuiltins._Helper(),
        },
    )


def _add(module: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not hasattr(module, name):
            setattr(module, name, value)


def _add_to_os(values: dict[str, Any]) -> None:
    lacking = [name for name in values if not hasattr(os, name)]
    _add(posix, {name: values[name] for name in lacking})
    _add(os, {name: values[name] for name in lacking})
    os.__all__ += lacking


# ---- time
def thread_time() -> float:
    """As `time.process_time`: there is one thread."""
    return time.process_time()


def thread_time_ns() -> int:
    return time.process_time_ns()


def tzset() -> None:
    """Accepts UTC, which local time always is."""
    if os.environ.get("TZ", "UTC") not in ("", "UTC", "UTC0", "GMT", "Etc/UTC", ":UTC"):
        raise OSError(errno.ENOSYS, "local time is UTC in a sandboxed node: use zoneinfo for other time zones")


# ---- signals, of which none comes from outside
_NO_ALARMS = (
    "nothing sends signals to a sandboxed node, alarms included: give the call a deadline, or use asyncio.timeout"
)
_blocked: set[int] = set()


class struct_siginfo(Record):  # noqa: N801
    """What is told of a signal."""

    __slots__ = ()
    _fields = ("si_signo", "si_code", "si_errno", "si_pid", "si_uid", "si_status", "si_band")


def valid_signals() -> set[int]:
    return {*range(1, 32), *range(34, 65)}


def alarm(seconds: int, /) -> int:
    if seconds:
        raise OSError(errno.ENOSYS, f"signal.alarm: {_NO_ALARMS}")
    return 0


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> tuple[float, float]:
    if seconds or interval:
        raise OSError(errno.ENOSYS, f"signal.setitimer: {_NO_ALARMS}")
    return getitimer(which)


def getitimer(which: int, /) -> tuple[float, float]:
    if which not in (0, 1, 2):
        raise OSError(errno.EINVAL, "Invalid argument")
    return 0.0, 0.0


def siginterrupt(signalnum: int, flag: bool, /) -> None:
    if signalnum not in valid_signals():
        raise ValueError("signal number out of range")


def sigpending() -> set[int]:
    return set()


def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[int]:
    before, wanted = set(_blocked), {int(number) for number in mask}
    if how not in (0, 1, 2):
        raise OSError(errno.EINVAL, "Invalid argument")
    _blocked.difference_update(_blocked if how == 2 else wanted if how == 1 else ())
    if how != 1:
        _blocked.update(wanted)
    return before


def pthread_kill(thread_id: int, signalnum: int, /) -> None:
    if thread_id != _thread.get_ident():
        raise ProcessLookupError(errno.ESRCH, "No such process")
    kill(os.getpid(), signalnum)


_SIGNALS = (valid_signals, alarm, setitimer, getitimer, siginterrupt, sigpending, pthread_sigmask, pthread_kill)


# ---- select
class epoll:  # noqa: N801
    """Cannot be made."""

    def __new__(cls, sizehint: int = -1, flags: int = 0) -> Any:
        """Refuses, as on a system whose kernel has none; `selectors` then takes another selector."""
        raise OSError(errno.ENOSYS, f"select.epoll: {SYSTEM}")

    closed = True
    close = fileno = fromfd = modify = poll = register = unregister = refusing("select.epoll", SYSTEM)


# ---- translations, of which there are none
def gettext(msg: str, /) -> str:
    return msg


def dgettext(domain: str | None, msg: str, /) -> str:
    return msg


def dcgettext(domain: str | None, msg: str, category: int, /) -> str:
    return msg


def textdomain(domain: str | None, /) -> str:
    return domain or "messages"


def bindtextdomain(domain: str, folder: Any, /) -> str | None:
    return None if folder is None else os.fspath(folder)


def bind_textdomain_codeset(domain: str, codeset: str | None, /) -> str | None:
    return codeset


_TRANSLATIONS = (gettext, dgettext, dcgettext, textdomain, bindtextdomain, bind_textdomain_codeset)


# ---- who and what the node is
class sched_param(Record):  # noqa: N801
    """The parameter of a scheduling policy."""

    __slots__ = ()
    _fields = ("sched_priority",)

    def __new__(cls, sched_priority: int) -> Any:
        return super().__new__(cls, (sched_priority,))


class waitid_result(Record):  # noqa: N801
    """What os.waitid would answer."""

    __slots__ = ()
    _fields = ("si_pid", "si_uid", "si_signo", "si_status", "si_code")


def _own(name: str, value: Any) -> Callable[[], Any]:
    def answer() -> Any:
        return list(value) if isinstance(value, list) else value

    answer.__name__ = answer.__qualname__ = name
    return answer


def _to_own(name: str) -> Callable[..., None]:
    def become(*ids: int) -> None:
        """Accept what the node already is."""
        if set(ids) - {_USER, -1}:
            raise PermissionError(errno.EPERM, f"os.{name}: {IDENTITY}")

    become.__name__ = become.__qualname__ = name
    return become


def getgrouplist(user: str, group: int, /) -> list[int]:
    return [group]


def getppid() -> int:
    return 1


def _checked_process(pid: int) -> None:
    if pid not in (0, os.getpid()):
        raise ProcessLookupError(errno.ESRCH, "No such process")


def getpgid(pid: int) -> int:
    _checked_process(pid)
    return os.getpid()


def getsid(pid: int, /) -> int:
    return getpgid(pid)


def getpgrp() -> int:
    return os.getpid()


def kill(pid: int, signal: int, /) -> None:
    """Sends to the node itself."""
    _checked_process(pid)
    if signal:
        _signal.raise_signal(signal)


def killpg(pgid: int, signal: int, /) -> None:
    kill(pgid, signal)


def nice(increment: int, /) -> int:
    if increment:
        raise PermissionError(errno.EPERM, "os.nice: the host decides how much of the processor a node gets")
    return 0


def getpriority(which: int, who: int) -> int:
    _checked_process(who)
    return 0


def sched_getaffinity(pid: int, /) -> set[int]:
    _checked_process(pid)
    return {0}


def sched_getscheduler(pid: int, /) -> int:
    _checked_process(pid)
    return 0


def sched_getparam(pid: int, /) -> sched_param:
    _checked_process(pid)
    return sched_param(0)


def sched_get_priority_max(policy: int) -> int:
    return _priority(policy, 99)


def sched_get_priority_min(policy: int) -> int:
    return _priority(policy, 1)


def _priority(policy: int, real_time: int) -> int:
    if policy not in (0, 1, 2, 3, 5):
        raise OSError(errno.EINVAL, "Invalid argument")
    return real_time if policy in (1, 2) else 0


_mask = {"mask": 0o077}


def umask(mask: int, /) -> int:
    """Remembered, without effect: files of a node have always the same permission bits."""
    before = _mask["mask"]
    _mask["mask"] = mask & 0o777
    return before


def getrandom(size: int, flags: int = 0) -> bytes:
    return os.urandom(size)


def sync() -> None:
    """Does nothing: the host alone decides when its disk is written."""


def ctermid() -> str:
    return "/dev/tty"


# ---- files
def chown(path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    os.stat(path)  # noqa: PTH116  # a path or a descriptor
    _to_own("chown")(uid, gid)


def lchown(path: Any, uid: int, gid: int) -> None:
    chown(path, uid, gid)


def fchown(fd: int, uid: int, gid: int) -> None:
    chown(fd, uid, gid)


def fchmod(fd: int, mode: int) -> None:
    """As os.chmod: without effect."""
    os.fstat(fd)


def readv(fd: int, buffers: Sequence[Any], /) -> int:
    return _scatter(buffers, lambda size, at: os.read(fd, size))


def preadv(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    return _scatter(buffers, lambda size, at: os.pread(fd, size, offset + at))


def _scatter(buffers: Sequence[Any], read: Callable[[int, int], bytes]) -> int:
    done = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        some = read(len(view), done)
        view[: len(some)] = some
        done += len(some)
        if len(some) < len(view):
            break
    return done


def writev(fd: int, buffers: Sequence[Any], /) -> int:
    return os.write(fd, b"".join(buffers))


def pwritev(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    return os.pwrite(fd, b"".join(buffers), offset)


def copy_file_range(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    if count < 0:
        raise ValueError("negative value for 'count' not allowed")
    body = os.read(src, count) if offset_src is None else os.pread(src, count, offset_src)
    return os.write(dst, body) if offset_dst is None else os.pwrite(dst, body, offset_dst)


def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    return copy_file_range(in_fd, out_fd, count, offset)


def posix_fallocate(fd: int, offset: int, length: int, /) -> None:
    if offset < 0 or length <= 0:
        raise OSError(errno.EINVAL, "Invalid argument")
    if os.fstat(fd).st_size < offset + length:
        os.ftruncate(fd, offset + length)


def lockf(fd: int, command: int, length: int, /) -> None:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN
    from fcntl import lockf as lock

    if command not in (0, 1, 2, 3):
        raise OSError(errno.EINVAL, "Invalid argument")
    lock(fd, (LOCK_UN, LOCK_EX, LOCK_EX | LOCK_NB, LOCK_EX | LOCK_NB)[command], length)


def listxattr(path: Any = None, *, follow_symlinks: bool = True) -> list[str]:
    os.stat("." if path is None else path)  # noqa: PTH116
    return []


def getxattr(path: Any, attribute: Any, *, follow_symlinks: bool = True) -> bytes:
    os.stat(path)  # noqa: PTH116  # a path or a descriptor
    raise OSError(errno.ENODATA, "No data available", path)


def removexattr(path: Any, attribute: Any, *, follow_symlinks: bool = True) -> None:
    getxattr(path, attribute)


# ---- numbers in numbers, as in Linux's headers
def major(device: int, /) -> int:
    return (device >> 8) & 0xFFF | (device >> 32) & ~0xFFF


def minor(device: int, /) -> int:
    return device & 0xFF | (device >> 12) & ~0xFF


def makedev(major: int, minor: int, /) -> int:
    return (major & 0xFFF) << 8 | (major & ~0xFFF) << 32 | minor & 0xFF | (minor & ~0xFF) << 12


def WIFEXITED(status: int) -> bool:  # noqa: N802
    return not status & 0x7F


def WEXITSTATUS(status: int) -> int:  # noqa: N802
    return (status >> 8) & 0xFF


def WIFSIGNALED(status: int) -> bool:  # noqa: N802
    return 0 < status & 0x7F < 0x7F


def WTERMSIG(status: int) -> int:  # noqa: N802
    return status & 0x7F


def WIFSTOPPED(status: int) -> bool:  # noqa: N802
    return status & 0xFF == 0x7F


def WSTOPSIG(status: int) -> int:  # noqa: N802
    return (status >> 8) & 0xFF


def WIFCONTINUED(status: int) -> bool:  # noqa: N802
    return status == 0xFFFF


def WCOREDUMP(status: int, /) -> bool:  # noqa: N802
    return bool(status & 0x80)


def waitstatus_to_exitcode(status: int) -> int:
    if WIFEXITED(status):
        return WEXITSTATUS(status)
    if WIFSIGNALED(status):
        return -WTERMSIG(status)
    if WIFSTOPPED(status):
        raise ValueError(f"process stopped by delivery of signal {WSTOPSIG(status)}")
    raise ValueError(f"invalid wait status: {status}")


_FUNCTIONS = (
    *(_own("getuid", _USER), _own("geteuid", _USER), _own("getgid", _USER), _own("getegid", _USER)),
    *(
        _own("getresuid", (_USER,) * 3),
        _own("getresgid", (_USER,) * 3),
        _own("getgroups", [_USER]),
        _own("getlogin", "node"),
    ),
    *map(_to_own, "setuid seteuid setgid setegid setreuid setregid setresuid setresgid".split()),
    *(
        getgrouplist,
        getppid,
        getpgid,
        getsid,
        getpgrp,
        kill,
        killpg,
        nice,
        getpriority,
        umask,
        getrandom,
    ),
    *(sched_getaffinity, sched_getscheduler, sched_getparam, sched_get_priority_max, sched_get_priority_min),
    *(sync, ctermid, chown, lchown, fchown, fchmod, readv, preadv, writev, pwritev, copy_file_range, sendfile),
    *(posix_fallocate, lockf, listxattr, getxattr, removexattr, major, minor, makedev, waitstatus_to_exitcode),
    *(WIFEXITED, WEXITSTATUS, WIFSIGNALED, WTERMSIG, WIFSTOPPED, WSTOPSIG, WIFCONTINUED, WCOREDUMP),
)
_REFUSED: tuple[tuple[str, Any, int, str], ...] = (
    (
        PROCESSES,
        OSError,
        errno.ENOSYS,
        """forkpty posix_spawn posix_spawnp execv execve system wait wait3 wait4 waitid waitpid pipe pipe2 memfd_create
        eventfd eventfd_read eventfd_write pidfd_open mkfifo mknod spawnv spawnve spawnvp spawnvpe spawnl spawnle spawnlp
        spawnlpe splice dup2""",
    ),
    (TERMINAL, OSError, errno.ENOTTY, "get_terminal_size tcgetpgrp tcsetpgrp ttyname login_tty"),
    (TERMINAL, OSError, errno.ENOSYS, "openpty posix_openpt grantpt unlockpt ptsname"),
    (
        IDENTITY,
        PermissionError,
        errno.EPERM,
        "setgroups initgroups setpgid setpgrp setsid setpriority chroot setns unshare",
    ),
    (
        SYSTEM,
        OSError,
        errno.ENOSYS,
        """getloadavg statvfs fstatvfs fchdir timerfd_create timerfd_gettime timerfd_gettime_ns timerfd_settime timerfd_settime_ns
        sched_setaffinity sched_setparam sched_setscheduler sched_rr_get_interval""",
    ),
    (SYSTEM, OSError, errno.ENOTSUP, "setxattr"),
)

install()
