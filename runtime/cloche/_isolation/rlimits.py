"""Bounds on a whole worker process, kept by the kernel and checked by the host. They hold even if a guest takes its worker over.

A worker enforces the limits of its guests, as long as it is intact. The bounds on the worker follow from the sums of those limits:

- *Memory*: RLIMIT_DATA, set by the host; the system-call filter keeps workers from raising it. It counts private writable
  memory, and unlike RLIMIT_AS not the 4 GiB of address space that each linear memory reserves. Pages that were written and
  then write-protected are not counted, so the host checks resident memory as well.
- *Processor time*: as many seconds as the worker's calls take together, each of which has one thread. Time beyond that fills a
  leaky bucket; when the bucket is full, the worker is killed.
- *Threads*: a few for each node.

Where the host can create control groups (`cgroup`), the kernel enforces all three as well.
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
"""Bytes for each node: a thread's stack and the buffers for messages."""
_STATES: Final = 3
"""States that a recording may hold: of its two generations, and the present one."""
_BASE_BYTES: Final = 512 * _MIB
"""Bytes for each worker: idle stores, which map the image, and the allocator's arenas."""
_UNASKED_S: Final = 3.0
"""Seconds of processor time that a worker may use beyond the time of its calls: the size of the bucket."""
_LEAK: Final = 0.1
"""Seconds that leak from the bucket per second."""
_SPARE_THREADS: Final = 64
_THREADS_FOR_A_NODE: Final = 4
_LOOKS: Final = 20
"""Checks during which a worker may keep the memory of closed nodes. After them the lower bound is set."""
_STATUS: Final = re.compile(r"^(VmData|RssAnon|VmSwap|Threads):\s+(\d+)( kB)?$", re.MULTILINE)


def bytes_for(limits: Limits, kept_bytes: int = 0) -> int:
    """Bytes that a worker may need for a node: linear memory, a snapshot or messages, and a thread.

    Args:
        limits: the node's.
        kept_bytes: bytes that its recording may take, with the bytes that are made of it to be sent, but for its states; 0: it
            has none.
    """
    once = limits.memory_bytes + max(limits.memory_bytes, 2 * (limits.reply_bytes + limits.request_bytes))
    states = _STATES * limits.memory_bytes if kept_bytes else 0
    return once + kept_bytes + states + _SPARE_BYTES


class Bounds:
    """The bounds of one worker. Used by one thread at a time.

    Args:
        pid: process id of a worker that has no node yet.

    Attributes:
        missing: reason why memory and threads are not bounded; "" if they are.
        no_cgroup: reason why the worker has no control group; "" if it has one.
        data_bytes: bound on memory in bytes; 0 before the first `resize`.
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

    def resize(self, nodes: Iterable[tuple[Limits, int]]) -> None:
        """Adapt the bounds to the worker's nodes.

        A higher memory bound holds at once; a lower one when the memory has been freed, or after _LOOKS checks.

        Args:
            nodes: for all nodes of the worker, the arguments of `bytes_for`.

        Raises:
            OSError: the worker has ended.
        """
        sizes = [bytes_for(*node) for node in nodes]
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
            # a cgroup counts shared memory as well, which is at most as large as the buffers for messages in `size`
            processors = min(self._most_nodes + 1, os.cpu_count() or 1)
            self._cgroup.resize(2 * size, self._threads(self._most_nodes), processors)

    def exceeded(self, busy_s: float, nodes: int) -> str:
        """Check the bounds; the host does so periodically.

        Args:
            busy_s: seconds that all calls of the worker's nodes have taken so far, added up.
            nodes: number of the worker's nodes.

        Returns:
            which bound the worker has passed, as text for the error; "" if none.

        Raises:
            OSError: the worker has ended.
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
            self._waits -= 1  # not at the first check: the memory may be needed again at once
            freed = self._waits < _LOOKS - 1 and max(used, status["VmData"]) <= self._wanted
            if freed or self._waits <= 0:
                self._set(self._wanted)
        self._most_nodes = nodes
        return ""

    def close(self) -> None:
        """Remove the control group of the worker, which has ended."""
        if self._cgroup is not None:
            self._cgroup.close()

    @staticmethod
    def _threads(nodes: int) -> int:
        return _SPARE_THREADS + _THREADS_FOR_A_NODE * nodes

    def _status(self) -> dict[str, int]:
        """Sizes in bytes and counts of ``/proc/PID/status`` (proc(5))."""
        found = _STATUS.findall(Path(f"/proc/{self._pid}/status").read_text())
        return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}
