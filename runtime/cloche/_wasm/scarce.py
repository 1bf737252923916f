"""The error of a process to which the system gives no more memory, address space, open files or threads. It names the setting.

A system call says only that there is not enough of something (ENOMEM), so the settings that can be the reason are compared with
what the process has now.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloche.errors import ClocheError

__all__ = [
    "EXHAUSTED_ERRNOS",
    "Shortage",
    "count_mappings",
    "most_mappings",
    "no_thread",
    "out_of_resources",
    "shortage",
]

EXHAUSTED_ERRNOS: Final = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Values of `OSError.errno` that mean that memory, address space or open files have run out."""

RESERVED_BYTES: Final = (4 << 30) + (64 << 20)
"""Address space that one sandbox needs: the reservation of its memory, with the engine's guards around it."""
_PART_BYTES: Final = 16 << 10
_spare: Final = [bytearray(_PART_BYTES)]
"""Memory to read a file into. It is there already: more of it may need a mapping, and there may be none."""
_MAPPINGS_OF_A_SANDBOX: Final = 16
"""So many mappings short of the limit, one more sandbox may fail."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A setting of the machine, or of the process, that leaves no room.

    Attributes:
        setting: its name, as "vm.max_map_count"; "" if it is not known.
        allowed: its value; None if it is not known.
        reached: what the process has of it.
        advice: what is short, and how to get more of it.
    """

    setting: str
    allowed: float | None
    reached: float | None
    advice: str


def _number(path: str) -> int | None:
    """The number in a file of /proc; None if it cannot be read."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def most_mappings() -> int | None:
    """The mappings of memory that the kernel allows a process (vm.max_map_count); None if that is not known."""
    return _number("/proc/sys/vm/max_map_count")


def count_mappings() -> int | None:
    """The mappings of memory that this process has. It takes some 20 ms for each 10,000 of them."""
    count = 0
    part = None
    try:
        part = _spare.pop() if _spare else bytearray(_PART_BYTES)
        with open("/proc/self/maps", "rb", buffering=0) as file:
            while read := file.readinto(part):
                count += part.count(b"\n", 0, read)
    except (OSError, MemoryError):
        return None
    finally:
        if part is not None:
            _spare.append(part)
    return count


def _limit(name: str) -> int | None:
    """The soft limit of that name of `resource`; None if there is none."""
    if sys.platform == "win32":
        return None
    import resource  # rarely needed

    number = getattr(resource, name, None)
    if number is None:
        return None
    try:
        soft = resource.getrlimit(number)[0]
    except OSError:  # in a worker process, which has given up the right to ask
        return None
    return None if soft == resource.RLIM_INFINITY else soft


def _sizes() -> dict[str, int]:
    """Sizes in bytes and counts of /proc/self/status (proc(5)); empty if it cannot be read."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def shortage(error: Exception | None = None, wanted: int = RESERVED_BYTES) -> Shortage:
    """Find the setting that leaves no room.

    Args:
        error: the system's own error; None: it has refused memory.
        wanted: bytes of address space that were asked for.
    """
    number = getattr(error, "errno", None)
    if number == errno.EMFILE:
        return _files()
    if number == errno.ENFILE:
        most = _number("/proc/sys/fs/file-max")
        return Shortage(
            "fs.file-max", most, None, "the machine has no more open files: raise fs.file-max (sysctl -w, as root)"
        )
    for found in _memory(wanted):
        return found
    return Shortage(
        "", None, None, "close nodes, or raise the limits of the process (ulimit -v, ulimit -n) or of its control group"
    )


def _files() -> Shortage:
    most, count = _limit("RLIMIT_NOFILE"), None
    with suppress(OSError):
        count = len(os.listdir("/proc/self/fd"))  # of pathlib it would need one more descriptor
    return Shortage(
        "RLIMIT_NOFILE",
        most,
        most if count is None else count,
        f"{most} open files are allowed (RLIMIT_NOFILE): raise that limit (ulimit -n; LimitNOFILE= of systemd), or close nodes "
        "with mounts, files or worker processes",
    )


def _memory(wanted: int) -> Iterator[Shortage]:
    most, count = most_mappings(), count_mappings()
    if most is not None and count is not None and count + _MAPPINGS_OF_A_SANDBOX > most:
        yield mappings(count, most)
    sizes = _sizes()
    for name, size, option in (("RLIMIT_AS", "VmSize", "ulimit -v"), ("RLIMIT_DATA", "VmData", "ulimit -d")):
        allowed, used = _limit(name), sizes.get(size)
        more = wanted if name == "RLIMIT_AS" else min(wanted, 16 << 20)
        if allowed is not None and used is not None and used + more > allowed:
            yield Shortage(
                name,
                allowed,
                used,
                f"{allowed} bytes of address space are allowed ({name}), {used} are taken: raise that limit ({option}, in KiB; "
                "each sandbox reserves 4 GiB), or close nodes",
            )
    if _number("/proc/sys/vm/overcommit_memory") == 2:
        yield Shortage(
            "vm.overcommit_memory",
            2,
            None,
            "the kernel grants no more memory than it has (vm.overcommit_memory=2): raise vm.overcommit_ratio, set "
            "vm.overcommit_memory=0 (sysctl -w, as root), or close nodes",
        )


def mappings(count: int, most: int) -> Shortage:
    """The shortage of mappings.

    Args:
        count: how many the process has.
        most: how many the kernel allows.
    """
    return Shortage(
        "vm.max_map_count",
        most,
        count,
        f"it has {count} mappings of memory, of {most} that vm.max_map_count allows (a sandbox takes about 3): raise that setting "
        f"(sysctl -w vm.max_map_count={max(262_144, 4 * most)}, as root), close nodes, or use worker processes",
    )


def refused(text: str, found: Shortage) -> ClocheError:
    """The error for a shortage, whose `ClocheError.limit` is the setting.

    Args:
        text: what has failed, in front of the advice.
        found: the shortage.
    """
    error = ClocheError(f"{text}: {found.advice}")
    error.limit, error.value, error.reached = found.setting, found.allowed, found.reached
    return error


def out_of_resources(what: str, error: Exception) -> ClocheError:
    """The error to raise when memory, address space or open files have run out.

    Args:
        what: the purpose that failed, as an infinitive: "to take a snapshot".
        error: the system's own error.
    """
    return refused(f"this process has no memory, address space or open files left {what} ({error})", shortage(error))


def no_thread(what: str, error: Exception) -> ClocheError:
    """The error to raise when the system starts no more threads.

    Args:
        what: the purpose that failed, as an infinitive: "to run the item".
        error: Python's own error.
    """
    found = next(_memory(16 << 20), None)
    if found is None:
        most, count = _limit("RLIMIT_NPROC"), _sizes().get("Threads")
        has = "" if count is None else f"it has {count} threads: "
        is_now = "" if most is None else f"; it is {most}"
        found = Shortage(
            "RLIMIT_NPROC",
            most,
            count,
            f"{has}raise the number that its user may have (RLIMIT_NPROC, ulimit -u{is_now}), kernel.threads-max, or that of its "
            "control group (pids.max; TasksMax= of systemd), or its address space (ulimit -v)",
        )
    return refused(f"the system starts no thread {what} ({error})", found)
