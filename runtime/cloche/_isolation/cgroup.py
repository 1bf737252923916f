"""A control group for each worker, where the host may create one: the kernel then bounds memory, processor time and threads.

Needed: cgroups of version 2, and a group that was delegated to the host's user with the controllers enabled for its children (in
systemd: ``Delegate=yes``, with the host in a group of its own below). The host moves no process but its workers, and enables no
controller. Control groups are an addition: where `find` finds none, it says why, and the other bounds still hold.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["Cgroup", "find"]

_CONTROLLERS: Final = frozenset({"memory", "pids", "cpu"})
_PERIOD_US: Final = 100_000
_numbers = itertools.count(1)


def find(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[Path | None, str]:
    """The group below which workers can get groups of their own; or None, and the reason.

    Args:
        root: mount point of the cgroup2 file system.
        own: file that names the group of this process.
    """
    try:
        if not (root / "cgroup.controllers").exists():
            return None, "no cgroups of version 2"
        path = next(line.partition("::")[2] for line in own.read_text().splitlines() if line.startswith("0::"))
        here = root / path.strip("/")
        for group in (here, here.parent):
            if not (group == root or root in group.parents):
                break
            enabled = set((group / "cgroup.subtree_control").read_text().split())
            writable = os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)
            if enabled >= _CONTROLLERS and writable:
                return group, ""
    except (OSError, StopIteration) as error:
        return None, f"cgroup: {error!r}"
    return None, "no cgroup with memory, pids and cpu for its children is delegated to this user"


class Cgroup:
    """The control group of one worker.

    Args:
        parent: group from `find`.
        pid: process id of the worker.

    Raises:
        OSError: the kernel refuses.
    """

    def __init__(self, parent: Path, pid: int) -> None:
        self._folder = parent / f"cloche-{os.getpid()}-{next(_numbers)}"
        self._folder.mkdir()
        try:
            self._write("memory.oom.group", 1)
            with suppress(OSError):  # no swap accounting
                self._write("memory.swap.max", 0)
            self._write("cgroup.procs", pid)
        except BaseException:
            self.close()
            raise

    def resize(self, memory_bytes: int, threads: int, processors: int) -> None:
        """Set what the worker, with all of its nodes, may use from now on.

        Args:
            memory_bytes: resident and shared memory.
            threads: number of threads.
            processors: processors' worth of time.

        Raises:
            OSError: the kernel refuses.
        """
        self._write("memory.max", memory_bytes)
        self._write("pids.max", threads)
        self._write("cpu.max", f"{processors * _PERIOD_US} {_PERIOD_US}")

    def close(self) -> None:
        """Remove the group, whose process has ended. Calling it again does nothing."""
        with suppress(OSError):
            self._folder.rmdir()

    def _write(self, name: str, value: int | str) -> None:
        with (self._folder / name).open("w") as file:  # the kernel takes each setting in one write
            file.write(str(value))
