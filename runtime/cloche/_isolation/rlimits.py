"""What a worker may use as a whole, kept by the kernel and looked at by the host: it holds for one that was taken over, too.

A guest's limits are kept by its worker, as long as that is what it was. Around them stand the sums of its nodes' limits:

- *Memory*: RLIMIT_DATA, which the host sets from outside and the system-call filter lets no worker raise. It counts private
  writable memory, not the 4 GiB of address space that each linear memory reserves (RLIMIT_AS would). Memory that was
  written and is then protected does not count, so the host also looks at what is resident.
- *Processor time*: a worker has a thread for each call, so it can use as many seconds as its calls take. What it uses beyond
  that fills a bucket that leaks; when it is full, the worker is killed.
- *Threads*: a few more than it has nodes.

Where the host may make control groups (`cgroup`), the kernel keeps all three as well.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloche._isolation.cgroup import Cgroup, find

if TYPE_CHECKING:
    from cloche.limits import Limits

__all__ = ["Bounds", "bytes_for"]

_MIB: Final = 1 << 20
_SPARE_BYTES: Final = 32 * _MIB
"""For each node: a thread's stack, and what its messages pass through."""
_BASE_BYTES: Final = 512 * _MIB
"""For each worker: idle stores, which map the image, and the allocator's arenas."""
_UNASKED_S: Final = 3.0
"""Seconds of processor time that a worker may use beyond those that its calls took."""
_LEAK: Final = 0.1
"""Seconds of them that are forgiven per second."""
_SPARE_THREADS: Final = 64
_THREADS_FOR_A_NODE: Final = 4
_LOOKS: Final = 20
"""How often it is looked whether a worker has freed the memory of nodes that are gone, before it must have."""
_STATUS: Final = re.compile(r"^(VmData|RssAnon|VmSwap|Threads):\s+(\d+)( kB)?$", re.MULTILINE)


def bytes_for(limits: Limits) -> int:
    """Memory that a worker may need for a node: the guest's; a snapshot of it, or its messages; its thread."""
    return (
        limits.memory_bytes + max(limits.memory_bytes, 2 * (limits.reply_bytes + limits.request_bytes)) + _SPARE_BYTES
    )


class Bounds:
    """The bounds of one worker. Used by one thread at a time.

    Args:
        pid: the worker's; it has no node yet.

    Attributes:
        missing: why memory and threads are not bounded; "" if they are.
        no_cgroup: why the worker has no control group; "" if it has one.
        data_bytes: the bound on memory; 0 before the first `resize`.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cgroup: Cgroup | None = None
        parent, self.no_cgroup = find()
        if parent is not None:
            try:
                self._cgroup = Cgroup(parent, pid)
            except OSError as error:
                self.no_cgroup = f"cgroup: {error!r}"
        self._clock = ~pid << 3 | 2  # clock_getcpuclockid(3): CPUCLOCK_SCHED of a process
        self._unasked_s = 0.0
        self._cpu_s = time.clock_gettime(self._clock)
        self._busy_s = 0.0
        self._at = time.monotonic()
        self._wanted = self._most_nodes = 0
        self._waits = 0
        self.data_bytes = 0
        self.missing = ""
        try:
            self._base = _BASE_BYTES + self._status()["VmData"]
        except (OSError, KeyError, ValueError) as error:
            self.missing = f"/proc/{pid}/status: {error!r}"

    def resize(self, nodes: Iterable[Limits]) -> None:
        """Its nodes have changed. More memory is allowed at once; less when it is freed, or should have been.

        Raises:
            OSError: it has ended.
        """
        sizes = [bytes_for(limits) for limits in nodes]
        self._most_nodes = max(self._most_nodes, len(sizes))
        if self.missing:
            return
        self._wanted = self._base + sum(sizes)
        self._waits = _LOOKS
        if self._wanted > self.data_bytes:
            self._set(self._wanted)

    def _set(self, size: int) -> None:
        most = resource.prlimit(self._pid, resource.RLIMIT_DATA)[1]
        within = size if most == resource.RLIM_INFINITY else min(size, most)
        resource.prlimit(self._pid, resource.RLIMIT_DATA, (within, most))
        self.data_bytes = size
        if self._cgroup is not None:
            # shared memory counts there, too: what lies beside messages, which is less than what they may have in the worker
            processors = min(self._most_nodes + 1, os.cpu_count() or 1)
            self._cgroup.resize(2 * size, self._threads(self._most_nodes), processors)

    def exceeded(self, busy_s: float, nodes: int) -> str:
        """Which bound it has passed, for the error; "": none. Called from time to time.

        Args:
            busy_s: seconds that its nodes' calls have taken so far, added up.
            nodes: how many it has.

        Raises:
            OSError: it has ended.
        """
        cpu_s, now = time.clock_gettime(self._clock), time.monotonic()
        unasked = cpu_s - self._cpu_s - max(0.0, busy_s - self._busy_s) - _LEAK * (now - self._at)
        self._unasked_s = max(0.0, self._unasked_s + unasked)
        self._cpu_s, self._busy_s, self._at = cpu_s, busy_s, now
        if self._unasked_s > _UNASKED_S:
            return f"it used {self._unasked_s:.1f} s of processor time for which no call had asked"
        if self.missing:
            return ""
        status = self._status()
        used = status["RssAnon"] + status.get("VmSwap", 0)
        if used > self.data_bytes > 0:
            return f"it used {used} bytes of memory, {self.data_bytes} allowed for its nodes"
        threads = self._threads(max(nodes, self._most_nodes))
        if status["Threads"] > threads:
            return f"it had {status['Threads']} threads, {threads} allowed"
        if self._wanted < self.data_bytes:
            self._waits -= 1  # not at the first look: what was freed may just be needed again
            freed = self._waits < _LOOKS - 1 and max(used, status["VmData"]) <= self._wanted
            if freed or self._waits <= 0:
                self._set(self._wanted)
        self._most_nodes = nodes
        return ""

    def close(self) -> None:
        """The worker has ended."""
        if self._cgroup is not None:
            self._cgroup.close()

    @staticmethod
    def _threads(nodes: int) -> int:
        return _SPARE_THREADS + _THREADS_FOR_A_NODE * nodes

    def _status(self) -> dict[str, int]:
        """Sizes in bytes, and counts (proc(5))."""
        found = _STATUS.findall(Path(f"/proc/{self._pid}/status").read_text())
        return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}
